import numpy as np
import pytest

from yolo9k.config.datasets import TreeLabels
from yolo9k.datasets.class_mapping import map_classes, to_nodes, unmapped_hint, unmapped_message
from yolo9k.errors import ConfigError, DataError
from yolo9k.samples import BoxLabels
from yolo9k.wordtree import WordTree

#           0 animal, 1 vehicle, 2 dog, 3 crane, 4 crane
TREE = WordTree(
    ("a", "v", "n2", "n3", "n4"), ("animal", "vehicle", "dog", "crane", "crane"), (-1, -1, 0, 0, 1), {"hound": 2}
)


def placed(own, mapped=None, **labels):
    return map_classes(own, TreeLabels(tree="my.tree", **labels), TREE, mapped, "zoo")


def test_ids_names_and_aliases_find_their_node():
    found = placed(["n4", "dog", "hound", "vehicle"])
    assert found.nodes == (4, 2, 2, 1)
    assert found.unmapped == {}


def test_names_come_before_all_else_and_an_empty_one_leaves_out():
    found = placed(["dog", "Kran", "junk"], names={"dog": "a", "Kran": "n4", "junk": ""})
    assert found.nodes == (0, 4, None)
    assert found.unmapped == {}


def test_what_finds_no_node_is_told_and_never_guessed():
    found = placed(["Dog", "crane", "dog", "x"], names={"x": "y"})
    assert found.nodes == (None, None, 2, None)
    assert found.unmapped == {"Dog": "no node", "crane": "several nodes: n3, n4", "x": "mapped to 'y', no node"}
    assert unmapped_message(found.unmapped, "my.tree") == (
        "3 classes have no node in my.tree: Dog, crane (several nodes: n3, n4), x (mapped to 'y', no node)"
    )
    assert "names: {Dog: ID}" in unmapped_hint(found.unmapped)


def test_a_map_is_taken_line_by_line():
    assert placed(["q", "r"], [4, 0]).nodes == (4, 0)
    assert placed(["q", "r"], [4, 0], names={"r": "dog"}).nodes == (4, 2)
    with pytest.raises(DataError, match=r"^my\.map: 1 lines for 2 classes of data set zoo \(q, r\)$"):
        placed(["q", "r"], [4], map="my.map")


def test_names_of_classes_that_are_not_there():
    with pytest.raises(ConfigError, match=r"^data set zoo: labels\.names: dgo: no such class; there are dog, cat$"):
        placed(["dog", "cat"], names={"dgo": "n2"})


def test_boxes_of_classes_that_are_left_out_are_ignored():
    boxes = BoxLabels.of([[0, 0, 2, 2]] * 4, [0, 1, 2, 1], [False, False, True, True])
    moved = to_nodes(boxes, [4, None, 2])
    assert moved.ignore.tolist() == [False, True, True, True]
    assert moved.label[[0, 2]].tolist() == [4, 2]
    assert ((moved.label >= 0) & (moved.label < len(TREE))).all()
    np.testing.assert_array_equal(moved.xyxy, boxes.xyxy)
    assert boxes.ignore.tolist() == [False, False, True, True]
    assert len(to_nodes(BoxLabels.of([], []), [None])) == 0
