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


def map_names(own, mapped=None, **labels):
    return map_classes(own, TreeLabels(tree="my.tree", **labels), TREE, mapped, "zoo")


def test_ids_names_and_aliases_find_their_node():
    mapping = map_names(["n4", "dog", "hound", "vehicle"])
    assert mapping.nodes == (4, 2, 2, 1)
    assert mapping.unmapped == {}


def test_names_override_and_an_empty_one_excludes():
    mapping = map_names(["dog", "Kran", "junk"], names={"dog": "a", "Kran": "n4", "junk": ""})
    assert mapping.nodes == (0, 4, None)
    assert mapping.unmapped == {}


def test_unmapped_classes_are_reported():
    mapping = map_names(["Dog", "crane", "dog", "x"], names={"x": "y"})
    assert mapping.nodes == (None, None, 2, None)
    assert mapping.unmapped == {"Dog": "no node", "crane": "several nodes: n3, n4", "x": "mapped to 'y', no node"}
    assert unmapped_message(mapping.unmapped, "my.tree") == (
        "3 classes have no node in my.tree: Dog, crane (several nodes: n3, n4), x (mapped to 'y', no node)"
    )
    assert "names: {Dog: ID}" in unmapped_hint(mapping.unmapped)


def test_a_map_has_one_node_per_class():
    assert map_names(["q", "r"], [4, 0]).nodes == (4, 0)
    assert map_names(["q", "r"], [4, 0], names={"r": "dog"}).nodes == (4, 2)
    with pytest.raises(DataError, match=r"^my\.map: 1 lines for 2 classes of data set zoo \(q, r\)$"):
        map_names(["q", "r"], [4], map="my.map")


def test_names_of_unknown_classes():
    with pytest.raises(ConfigError, match=r"^data set zoo: labels\.names: dgo: no such class; there are dog, cat$"):
        map_names(["dog", "cat"], names={"dgo": "n2"})


def test_boxes_of_excluded_classes_are_ignored():
    boxes = BoxLabels.of([[0, 0, 2, 2]] * 4, [0, 1, 2, 1], [False, False, True, True])
    moved = to_nodes(boxes, [4, None, 2])
    assert moved.ignore.tolist() == [False, True, True, True]
    assert moved.label[[0, 2]].tolist() == [4, 2]
    assert ((moved.label >= 0) & (moved.label < len(TREE))).all()
    np.testing.assert_array_equal(moved.xyxy, boxes.xyxy)
    assert boxes.ignore.tolist() == [False, False, True, True]
    assert len(to_nodes(BoxLabels.of([], []), [None])) == 0
