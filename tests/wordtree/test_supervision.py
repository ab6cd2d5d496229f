import json

import pytest

from yolo9k.errors import DataError
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision

# roots a and b; children of a: c, d; of b: e; of c: f
TREE = WordTree(tuple("abcdef"), tuple("abcdef"), (-1, -1, 0, 0, 1, 2))


def test_a_label_supervises_its_ancestors_and_boxes_take_precedence():
    kinds = Supervision(boxes=(2,), images=(5, 3)).kinds(TREE)
    assert dict(zip(TREE.ids, kinds, strict=True)) == {
        "a": "box",
        "b": "none",
        "c": "box",
        "d": "image-level",
        "e": "none",
        "f": "image-level",
    }


def test_image_level_labels_supervise_ancestors():
    assert Supervision(images=(5,)).kinds(TREE)[:3] == ("image-level", "none", "image-level")
    assert set(Supervision().kinds(TREE)) == {"none"}


def test_round_trip_through_json():
    before = Supervision((1, 2), (5,))
    assert Supervision.from_dict(json.loads(json.dumps(before.to_dict()))) == before


@pytest.mark.parametrize("node", [-1, 6])
def test_a_node_that_is_not_in_the_tree(node):
    with pytest.raises(DataError, match=f"node {node}: the tree has nodes 0 to 5"):
        Supervision(images=(node,)).kinds(TREE)
