import json

import pytest

from yolo9k.errors import DataError
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision

# roots a, b; below a: c, d; below b: e; below c: f
TREE = WordTree(tuple("abcdef"), tuple("abcdef"), (-1, -1, 0, 0, 1, 2))


def test_a_label_teaches_its_ancestors_and_a_box_says_more():
    taught = Supervision(boxes=(2,), images=(5, 3)).kinds(TREE)
    assert dict(zip(TREE.ids, taught, strict=True)) == {
        "a": "box",
        "b": "none",
        "c": "box",
        "d": "image-level",
        "e": "none",
        "f": "image-level",
    }


def test_image_labels_teach_ancestors_too():
    assert Supervision(images=(5,)).kinds(TREE)[:3] == ("image-level", "none", "image-level")
    assert set(Supervision().kinds(TREE)) == {"none"}


def test_round_trip_through_plain_lists():
    before = Supervision((1, 2), (5,))
    assert Supervision.from_dict(json.loads(json.dumps(before.to_dict()))) == before


@pytest.mark.parametrize("node", [-1, 6])
def test_a_node_of_no_tree(node):
    with pytest.raises(DataError, match=f"node {node} is none of the tree's 6 nodes"):
        Supervision(images=(node,)).kinds(TREE)
