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


def logits_of(**probabilities):
    """Return logits from conditional probabilities by name; 1 if not given, as for an only child."""
    return torch.tensor([[math.log(probabilities.get(name, 1.0)) for name in IDS]])


def test_the_most_probable_leaves_and_a_descent_by_hand():
    # cat .32; terrier .48 * .6 = .288; poodle .192; clock .2
    logits = logits_of(animal=0.8, device=0.2, dog=0.6, cat=0.4, terrier=0.6, poodle=0.4)
    predictions = predict_labels(HierarchicalSoftmax(TREE), logits, k=3, hier_thresh=0.45)
    assert predictions.label.tolist() == [[CAT, TERRIER, CLOCK]]
    assert predictions.score[0].tolist() == pytest.approx([0.32, 0.288, 0.2])
    assert predictions.path[0, 1].tolist() == pytest.approx([0.8, 0.48, 0.288])
    assert predictions.path[0, 0, :2].tolist() == pytest.approx([0.8, 0.32])
    assert predictions.path[0, 0, 2].isnan()
    assert predictions.descent_label.tolist() == [DOG]  # .48 is above the threshold, .288 is not
    assert predictions.descent_path[0, :2].tolist() == pytest.approx([0.8, 0.48])


@pytest.mark.parametrize(("threshold", "node"), [(0.9, ANIMAL), (0.5, ANIMAL), (0.2, TERRIER)])
def test_the_descent_stops_at_the_threshold(threshold, node):
    logits = logits_of(animal=0.8, device=0.2, dog=0.6, cat=0.4, terrier=0.6, poodle=0.4)
    assert predict_labels(HierarchicalSoftmax(TREE), logits, 1, threshold).descent_label.tolist() == [node]


def test_flat_labels_have_the_most_probable_label_as_descent():
    scores = HierarchicalSoftmax(WordTree.flat(["a", "b", "c"]))
    predictions = predict_labels(scores, torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]]), k=5)
    assert predictions.label.tolist() == [[1, 2, 0], [0, 2, 1]]  # k is limited to the count of labels
    assert predictions.descent_label.tolist() == [1, 0]
    assert predictions.score.sum(1).tolist() == pytest.approx([1, 1])
    assert torch.equal(predictions.path[..., 0], predictions.score)


def test_no_images():
    predictions = predict_labels(HierarchicalSoftmax(TREE), torch.zeros(0, 7), 5)
    assert predictions.label.shape == (0, 4)
    assert predictions.descent_path.shape == (0, 3)


def test_the_threshold_has_a_default_and_requires_a_tree():
    assert descent_threshold(TREE, None) == 0.5
    assert descent_threshold(TREE, 0.3) == 0.3
    with pytest.raises(ConfigError, match=r"hier-thresh: requires a label tree, but these labels are flat \(a, b\)"):
        descent_threshold(WordTree.flat(["a", "b"]), 0.3)
