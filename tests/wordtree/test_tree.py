import json

import pytest

from yolo9k.errors import DataError
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.tree import describe

IDS = ("animal", "thing", "cat", "dog", "poodle", "car")


@pytest.fixture
def tree() -> WordTree:
    """animal -> cat, dog -> poodle; thing -> car."""
    names = ("animal", "thing", "cat", "dog", "poodle", "cat")  # the last is a vehicle with the same name
    return WordTree(IDS, names, (-1, -1, 0, 0, 3, 1), {"puss": 2})


def test_a_flat_set_is_one_group():
    flat = WordTree.flat(["a", "b", "c"])
    assert flat.is_flat
    assert flat.depth.tolist() == flat.group.tolist() == [0, 0, 0]
    assert flat.group_start.tolist() == [0, 3]
    assert flat.path(1) == [1]
    assert len(WordTree.flat(["a"])) == 1


def test_groups_depths_and_paths(tree):
    assert not tree.is_flat
    assert tree.group.tolist() == [0, 0, 1, 1, 2, 3]
    assert tree.group_start.tolist() == [0, 2, 4, 5, 6]
    assert tree.depth.tolist() == [0, 0, 1, 1, 2, 1]
    assert tree.path(4) == [4, 3, 0]


def test_find_by_id_name_and_alias(tree):
    assert tree.find("poodle") == 4
    assert tree.find("puss") == 2
    assert tree.find("cat") == 2  # an id comes before names
    with pytest.raises(DataError, match="'bird' is not a label of this set"):
        tree.find("bird")


def test_find_an_ambiguous_name():
    tree = WordTree(("a", "b", "c"), ("bank", "bank", "x"), (-1, -1, -1))
    with pytest.raises(DataError, match="'bank' is the name of several labels: a, b"):
        tree.find("bank")


def test_find_all_nodes_of_a_name():
    tree = WordTree(("a", "b", "c"), ("bank", "bank", "a"), (-1, -1, -1), {"shore": 1})
    assert [list(tree.find_all(text)) for text in ("bank", "a", "shore", "x")] == [[0, 1], [0], [1], []]


def test_round_trip_through_json(tree):
    stored = json.loads(json.dumps(tree.to_dict()))
    assert WordTree.from_dict(stored) == tree


@pytest.mark.parametrize(
    ("ids", "parents", "message"),
    [
        ((), (), "at least one label"),
        (("a", "a"), (-1, -1), "label 1: 'a' was already label 0"),
        (("a", "b"), (-1,), "2 ids, 2 names and 1 parents; the counts must be equal"),
        (("a", "b"), (0, -1), "the first node must be a root"),
        (("a", "b", "c"), (-1, 2, 0), "parent 2 must come before its child"),
        (("a", "b"), (-1, 1), "parent 1 must come before its child"),
        (("a", "b"), (-1, -2), "parent -2 must come before its child"),
        (("a", "b", "c", "d"), (-1, -1, 0, -1), "siblings must be consecutive"),
        (("a", "b", "c", "d", "e"), (-1, -1, 0, 1, 0), r"label 4 \(e\): siblings must be consecutive"),
    ],
)
def test_invalid_trees_are_refused(ids, parents, message):
    with pytest.raises(DataError, match=message):
        WordTree(ids, ids, parents)


def test_describe_is_short():
    assert describe(["a", "b"]) == "a, b"
    assert describe([str(i) for i in range(9)]) == "0, 1, 2, 3, 4, 5, … 9 in total"


@pytest.mark.parametrize("seed", range(4))
def test_spans_contain_the_subtree(random_tree, seed):
    tree = random_tree(seed)
    for node in range(len(tree)):
        first, end = tree.spans[node]
        within = [n for n in range(len(tree)) if first <= tree.spans[n, 0] < end]
        assert within == tree.subtree(node)


@pytest.mark.parametrize("seed", range(4))
def test_pruned_keeps_complete_groups_on_the_paths(random_tree, seed):
    tree = random_tree(seed)
    nodes = [len(tree) - 1, len(tree) // 2]
    small, kept = tree.pruned(nodes)
    groups = {tree.group[ancestor] for node in nodes for ancestor in tree.path(node)}
    assert kept.tolist() == [n for n in range(len(tree)) if tree.group[n] in groups]
    for new, old in enumerate(kept):
        assert small.ids[new] == tree.ids[old]
        assert [small.ids[n] for n in small.path(new)] == [tree.ids[n] for n in tree.path(old)]
