import math

import pytest
import torch

from yolo9k.errors import ConfigError
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.prediction import descent_threshold, predict_labels
from yolo9k.wordtree.softmax import HierarchicalSoftmax

IDS = ("animal", "device", "dog", "cat", "clock", "terrier", "poodle")
TREE = WordTree(IDS, IDS, (-1, -1, 0, 0, 1, 2, 2))
ANIMAL, DEVICE, DOG, CAT, CLOCK, TERRIER, POODLE = range(7)


def logits(**probabilities):
    """Of conditional probabilities by name; the only child of a node needs none."""
    return torch.tensor([[math.log(probabilities.get(name, 1.0)) for name in IDS]])


def test_the_likeliest_leaves_and_a_descent_by_hand():
    # cat .32; terrier .48 * .6 = .288; poodle .192; clock .2
    given = logits(animal=0.8, device=0.2, dog=0.6, cat=0.4, terrier=0.6, poodle=0.4)
    named = predict_labels(HierarchicalSoftmax(TREE), given, most=3, hier_thresh=0.45)
    assert named.label.tolist() == [[CAT, TERRIER, CLOCK]]
    assert named.score[0].tolist() == pytest.approx([0.32, 0.288, 0.2])
    assert named.path[0, 1].tolist() == pytest.approx([0.8, 0.48, 0.288])
    assert named.path[0, 0, :2].tolist() == pytest.approx([0.8, 0.32])
    assert named.path[0, 0, 2].isnan()
    assert named.reached.tolist() == [DOG]  # .48 is above the threshold, .288 is not
    assert named.reached_path[0, :2].tolist() == pytest.approx([0.8, 0.48])


@pytest.mark.parametrize(("threshold", "reached"), [(0.9, ANIMAL), (0.5, ANIMAL), (0.2, TERRIER)])
def test_the_threshold_says_how_deep_a_descent_goes(threshold, reached):
    given = logits(animal=0.8, device=0.2, dog=0.6, cat=0.4, terrier=0.6, poodle=0.4)
    assert predict_labels(HierarchicalSoftmax(TREE), given, 1, threshold).reached.tolist() == [reached]


def test_flat_labels_end_at_the_likeliest():
    scores = HierarchicalSoftmax(WordTree.flat(["a", "b", "c"]))
    named = predict_labels(scores, torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]]), most=5)
    assert named.label.tolist() == [[1, 2, 0], [0, 2, 1]]  # of three labels there are no five likeliest
    assert named.reached.tolist() == [1, 0]
    assert named.score.sum(1).tolist() == pytest.approx([1, 1])
    assert torch.equal(named.path[..., 0], named.score)


def test_no_images():
    named = predict_labels(HierarchicalSoftmax(TREE), torch.zeros(0, 7), 5)
    assert named.label.shape == (0, 4)
    assert named.reached_path.shape == (0, 3)


def test_thresholds():
    assert descent_threshold(TREE, None) == 0.5
    assert descent_threshold(TREE, 0.3) == 0.3
    with pytest.raises(ConfigError, match=r"hier-thresh is about label trees, and these labels are flat \(a, b\)"):
        descent_threshold(WordTree.flat(["a", "b"]), 0.3)
