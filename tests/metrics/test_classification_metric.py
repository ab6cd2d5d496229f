import numpy as np
import pytest
import torch
import torch.nn.functional as F

from yolo9k.metrics.classification import (
    ClassAccuracy,
    ConfusedPair,
    Tally,
    accuracy_by_class,
    confused_pairs,
    is_right,
    top_accuracy,
)
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

IDS = ("animal", "device", "dog", "cat", "clock", "terrier", "poodle")
TREE = WordTree(IDS, IDS, (-1, -1, 0, 0, 1, 2, 2))
ANIMAL, DEVICE, DOG, CAT, CLOCK, TERRIER, POODLE = range(7)

TRUTH = np.array([TERRIER, POODLE, DOG, CAT, CAT])
LABEL = np.array([[TERRIER, CAT], [TERRIER, POODLE], [POODLE, CAT], [CLOCK, TERRIER], [CLOCK, CAT]])


def test_a_label_below_that_of_the_image_is_right():
    right = is_right(TREE, LABEL, TRUTH)
    assert right.tolist() == [[True, False], [False, True], [True, False], [False, False], [False, True]]
    assert top_accuracy(right, 1) == pytest.approx(2 / 5)
    assert top_accuracy(right, 2) == top_accuracy(right, 5) == pytest.approx(4 / 5)


def test_classes_and_what_they_are_taken_for():
    right = is_right(TREE, LABEL, TRUTH)
    assert accuracy_by_class(TRUTH, right) == (
        ClassAccuracy(DOG, 1, 1.0, 1.0),
        ClassAccuracy(CAT, 2, 0.0, 0.5),
        ClassAccuracy(TERRIER, 1, 1.0, 1.0),
        ClassAccuracy(POODLE, 1, 0.0, 1.0),
    )
    assert confused_pairs(TRUTH, LABEL[:, 0], right[:, 0]) == (
        ConfusedPair(CAT, CLOCK, 2),
        ConfusedPair(POODLE, TERRIER, 1),
    )
    assert confused_pairs(TRUTH, LABEL[:, 0], np.ones(5, bool)) == ()


@pytest.mark.parametrize("tree", [TREE, WordTree.flat(IDS)])
def test_batches_do_not_matter(tree):
    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(11, 7, generator=generator) * 3, torch.randint(7, (11,), generator=generator)
    scores = HierarchicalSoftmax(tree)
    whole, parts = Tally(scores), Tally(scores)
    whole.add(logits, truth)
    for chosen in torch.arange(11).split(4):
        parts.add(logits[chosen], truth[chosen])
    for one, other in zip(vars(whole.outcomes()).values(), vars(parts.outcomes()).values(), strict=True):
        assert np.allclose(one, other, atol=1e-6)
    found = whole.outcomes()
    assert found.truth.tolist() == truth.tolist()
    assert found.label.shape == (11, 5 if tree.is_flat else 4)
    assert np.allclose(found.loss, scores.loss(logits, truth), atol=1e-6)
    if tree.is_flat:
        assert found.label.tolist() == logits.topk(5).indices.tolist()
        assert found.loss.mean() == pytest.approx(F.cross_entropy(logits, truth).item(), rel=1e-5)
        expected = (logits.topk(5).indices == truth[:, None]).float()
        assert np.array_equal(is_right(tree, found.label, found.truth), expected.bool().numpy())


def test_nothing_was_taken_in():
    with pytest.raises(ValueError, match="no batch"):
        Tally(HierarchicalSoftmax(TREE)).outcomes()
