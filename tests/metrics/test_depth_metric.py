import numpy as np
import pytest

from yolo9k.metrics.depth import Level, common_ancestor_heights, compare_levels, heights, is_in_subtree
from yolo9k.wordtree import WordTree

IDS = ("animal", "device", "dog", "cat", "clock", "terrier", "poodle")
TREE = WordTree(IDS, IDS, (-1, -1, 0, 0, 1, 2, 2))
ANIMAL, DEVICE, DOG, CAT, CLOCK, TERRIER, POODLE = range(7)


def test_levels_of_labels_by_hand():
    # a terrier predicted as dog, a terrier as poodle, a poodle as clock, a cat as cat, a dog as terrier, a clock not
    # detected
    ground_truth = np.array([TERRIER, TERRIER, POODLE, CAT, DOG, CLOCK])
    predicted = np.array([DOG, POODLE, CLOCK, CAT, TERRIER, -1])
    assert compare_levels(TREE, ground_truth, predicted) == (
        Level(0, ground_truths=6, correct=4, too_coarse=0, wrong_branch=1, not_detected=1),
        Level(1, ground_truths=6, correct=4, too_coarse=0, wrong_branch=1, not_detected=1),
        Level(2, ground_truths=3, correct=0, too_coarse=1, wrong_branch=2, not_detected=0),
    )


def test_levels_of_flat_labels():
    flat = WordTree.flat(["a", "b"])
    (level,) = compare_levels(flat, np.array([0, 0, 1]), np.array([0, 1, 1]))
    assert (level.correct, level.wrong_branch, level.ground_truths) == (2, 1, 3)


def test_heights():
    assert heights(TREE).tolist() == [2, 1, 1, 0, 0, 0, 0]
    assert heights(WordTree(("a", "b", "c"), ("a", "b", "c"), (-1, 0, 1))).tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("one", "other", "height"),
    [
        (TERRIER, TERRIER, 0), (TERRIER, POODLE, 1), (TERRIER, CAT, 2), (TERRIER, CLOCK, 3), (DOG, POODLE, 1),
        (ANIMAL, DEVICE, 3), (CAT, ANIMAL, 2),
    ],
)  # fmt: skip
def test_height_of_the_lowest_common_ancestor(one, other, height):
    for pair in ((one, other), (other, one)):
        assert common_ancestor_heights(TREE, *(np.array([node]) for node in pair)).tolist() == [height]


def test_all_mistakes_of_flat_labels_have_height_one():
    assert common_ancestor_heights(WordTree.flat(["a", "b"]), np.array([0, 0, 1]), np.array([0, 1, 0])).tolist() == [
        0,
        1,
        1,
    ]


def test_is_within_follows_the_parents():
    nodes, tops = np.meshgrid(np.arange(7), np.arange(7), indexing="ij")
    within = is_in_subtree(TREE, nodes, tops)
    assert within.tolist() == [[top in TREE.path(node) for top in range(7)] for node in range(7)]
    assert not is_in_subtree(TREE, np.array([-1]), np.array([ANIMAL])).any()
