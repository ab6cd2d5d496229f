import numpy as np
import pytest

from yolo9k.metrics.depth import Level, common_heights, heights, is_within, levels_of
from yolo9k.wordtree import WordTree

IDS = ("animal", "device", "dog", "cat", "clock", "terrier", "poodle")
TREE = WordTree(IDS, IDS, (-1, -1, 0, 0, 1, 2, 2))
ANIMAL, DEVICE, DOG, CAT, CLOCK, TERRIER, POODLE = range(7)


def test_levels_of_labels_by_hand():
    # a terrier called dog, a terrier called poodle, a poodle called clock, a cat called cat, a dog called terrier,
    # a clock that nobody names
    truth = np.array([TERRIER, TERRIER, POODLE, CAT, DOG, CLOCK])
    reached = np.array([DOG, POODLE, CLOCK, CAT, TERRIER, -1])
    assert levels_of(TREE, truth, reached) == (
        Level(0, truths=6, right=4, too_coarse=0, wrong_branch=1, not_found=1),
        Level(1, truths=6, right=4, too_coarse=0, wrong_branch=1, not_found=1),
        Level(2, truths=3, right=0, too_coarse=1, wrong_branch=2, not_found=0),
    )


def test_levels_of_flat_labels():
    flat = WordTree.flat(["a", "b"])
    (level,) = levels_of(flat, np.array([0, 0, 1]), np.array([0, 1, 1]))
    assert (level.right, level.wrong_branch, level.truths) == (2, 1, 3)


def test_heights():
    assert heights(TREE).tolist() == [2, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("one", "other", "height"),
    [
        (TERRIER, TERRIER, 0), (TERRIER, POODLE, 1), (TERRIER, CAT, 2), (TERRIER, CLOCK, 3), (DOG, POODLE, 1),
        (ANIMAL, DEVICE, 3), (CAT, ANIMAL, 2),
    ],
)  # fmt: skip
def test_height_of_the_lowest_common_ancestor(one, other, height):
    for pair in ((one, other), (other, one)):
        assert common_heights(TREE, *(np.array([node]) for node in pair)).tolist() == [height]


def test_every_mistake_of_flat_labels_is_as_bad():
    assert common_heights(WordTree.flat(["a", "b"]), np.array([0, 0, 1]), np.array([0, 1, 0])).tolist() == [0, 1, 1]


def test_being_within_follows_the_parents():
    nodes, tops = np.meshgrid(np.arange(7), np.arange(7), indexing="ij")
    found = is_within(TREE, nodes, tops)
    assert found.tolist() == [[top in TREE.path(node) for top in range(7)] for node in range(7)]
    assert not is_within(TREE, np.array([-1]), np.array([ANIMAL])).any()
