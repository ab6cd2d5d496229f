import numpy as np
import pytest
import torch
import torch.nn.functional as F

from yolo9k.metrics.classification import (
    ClassAccuracy,
    ConfusedPair,
    OutcomeCollector,
    Outcomes,
    accuracy_by_class,
    confused_pairs,
    is_correct,
    top_k_accuracy,
)
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

IDS = ("animal", "device", "dog", "cat", "clock", "terrier", "poodle")
TREE = WordTree(IDS, IDS, (-1, -1, 0, 0, 1, 2, 2))
ANIMAL, DEVICE, DOG, CAT, CLOCK, TERRIER, POODLE = range(7)

GROUND_TRUTH = np.array([TERRIER, POODLE, DOG, CAT, CAT])
PREDICTED = np.array([[TERRIER, CAT], [TERRIER, POODLE], [POODLE, CAT], [CLOCK, TERRIER], [CLOCK, CAT]])


def test_descendants_of_the_label_of_the_image_are_correct():
    correct = is_correct(TREE, PREDICTED, GROUND_TRUTH)
    assert correct.tolist() == [[True, False], [False, True], [True, False], [False, False], [False, True]]
    assert top_k_accuracy(correct, 1) == pytest.approx(2 / 5)
    assert top_k_accuracy(correct, 2) == top_k_accuracy(correct, 5) == pytest.approx(4 / 5)


def test_accuracy_by_class_and_confused_pairs():
    correct = is_correct(TREE, PREDICTED, GROUND_TRUTH)
    assert accuracy_by_class(GROUND_TRUTH, correct) == (
        ClassAccuracy(DOG, 1, 1.0, 1.0),
        ClassAccuracy(CAT, 2, 0.0, 0.5),
        ClassAccuracy(TERRIER, 1, 1.0, 1.0),
        ClassAccuracy(POODLE, 1, 0.0, 1.0),
    )
    assert confused_pairs(GROUND_TRUTH, PREDICTED[:, 0], correct[:, 0]) == (
        ConfusedPair(CAT, CLOCK, 2),
        ConfusedPair(POODLE, TERRIER, 1),
    )
    assert confused_pairs(GROUND_TRUTH, PREDICTED[:, 0], np.ones(5, bool)) == ()


@pytest.mark.parametrize("tree", [TREE, WordTree.flat(IDS)])
def test_outcomes_do_not_depend_on_the_batches(tree):
    generator = torch.Generator().manual_seed(0)
    logits, ground_truth = torch.randn(11, 7, generator=generator) * 3, torch.randint(7, (11,), generator=generator)
    scores = HierarchicalSoftmax(tree)
    whole, parts = OutcomeCollector(scores), OutcomeCollector(scores)
    whole.add(logits, ground_truth)
    for chosen in torch.arange(11).split(4):
        parts.add(logits[chosen], ground_truth[chosen])
    for one, other in zip(vars(whole.outcomes()).values(), vars(parts.outcomes()).values(), strict=True):
        assert np.allclose(one, other, atol=1e-6)
    outcomes = whole.outcomes()
    assert outcomes.ground_truth.tolist() == ground_truth.tolist()
    assert outcomes.label.shape == (11, 5 if tree.is_flat else 4)
    assert np.allclose(outcomes.loss, scores.loss(logits, ground_truth), atol=1e-6)
    if tree.is_flat:
        assert outcomes.label.tolist() == logits.topk(5).indices.tolist()
        assert outcomes.loss.mean() == pytest.approx(F.cross_entropy(logits, ground_truth).item(), rel=1e-5)
        expected = (logits.topk(5).indices == ground_truth[:, None]).float()
        assert np.array_equal(is_correct(tree, outcomes.label, outcomes.ground_truth), expected.bool().numpy())


def test_a_collector_without_batches():
    empty = OutcomeCollector(HierarchicalSoftmax(TREE)).outcomes()
    assert [len(each) for each in vars(empty).values()] == [0] * 5
    filled = OutcomeCollector(HierarchicalSoftmax(TREE))
    filled.add(torch.zeros(2, len(TREE)), torch.tensor([CAT, DOG]))
    both = Outcomes.concatenated([empty, filled.outcomes(), filled.outcomes()])
    assert both.ground_truth.tolist() == [CAT, DOG, CAT, DOG]
    assert both.selected(np.array([3, 0])).ground_truth.tolist() == [DOG, CAT]
