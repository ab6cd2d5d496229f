"""The evaluated classes of data sets with flat labels and label trees."""

import re
from pathlib import Path

import numpy as np
import pytest

from yolo9k.datasets.readers.records import Annotations, DatasetClass, Record
from yolo9k.errors import ConfigError
from yolo9k.evaluation.class_selection import ClassSelection, find_nodes, select_classes
from yolo9k.samples import BoxLabels
from yolo9k.wordtree import WordTree

IDS = ("n1", "n2", "n3", "n4", "n5", "n6")
NAMES = ("animal", "device", "dog", "crane", "crane", "terrier")
MODEL = WordTree(IDS, NAMES, (-1, -1, 0, 0, 1, 2), {"hound": 2})  # a crane is a bird and a machine


def annotations(labels: WordTree, boxes=(), ignore=None, **others) -> Annotations:
    boxes = BoxLabels.of([[0, 0, 9, 9]] * len(boxes), boxes, ignore)
    return Annotations((Record(Path("a.png"), (20, 20), boxes, "a"),), labels, **others)


def test_flat_labels_are_found_by_id_name_and_alias():
    classes = select_classes(MODEL, annotations(WordTree.flat(["hound", "n4", "terrier"])))
    assert classes.nodes.tolist() == [2, 3, 5]
    assert classes.labels.names == ("hound", "n4", "terrier")
    assert not classes.by_ancestry


def test_a_label_is_found_by_its_id_before_its_name():
    data = WordTree(("n1", "x"), ("device", "dog"), (-1, -1))
    assert find_nodes(MODEL, data, [0, 1]).tolist() == [0, 2]


def test_labels_without_a_node_are_one_error():
    expected = "the model has no label for 3 of the data set's: cow, crane (several: n4, n5), eel; it has animal, "
    with pytest.raises(ConfigError, match=re.escape(expected)):
        select_classes(MODEL, annotations(WordTree.flat(["cow", "dog", "crane", "eel"])))


def test_a_flat_model_may_have_more_labels_than_the_data_set():
    model = WordTree.flat(["cat", "dog", "eel"])
    classes = select_classes(model, annotations(WordTree.flat(["eel", "cat"])))
    assert classes.nodes.tolist() == [2, 0]
    assert classes.unique_nodes == [0, 2]


def test_a_map_gives_the_nodes():
    data = annotations(WordTree.flat(["cow", "lift"]), category_ids=(3, 90))
    classes = select_classes(MODEL, data, ClassSelection(node_map=(0, 4)))
    assert classes.nodes.tolist() == [0, 4]
    assert classes.category_ids == (3, 90)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((1,), r"map: has 1 nodes, but the data set has 2 labels"),
        ((1, 6), r"map: the model has no node 6; its nodes are 0 to 5"),
        ((-1, 1), r"map: the model has no node -1"),
    ],
)
def test_a_map_that_does_not_fit(nodes, message):
    with pytest.raises(ConfigError, match=message):
        select_classes(MODEL, annotations(WordTree.flat(["cow", "lift"])), ClassSelection(node_map=nodes))


def test_a_tree_evaluates_the_labels_of_its_boxes():
    classes = select_classes(MODEL, annotations(MODEL, [5, 2, 5, 1], [False, False, False, True]))
    assert classes.by_ancestry
    assert classes.dataset_labels.tolist() == [2, 5]
    assert classes.labels.ids == ("n3", "n6")
    assert classes.labels.names == ("dog", "terrier")


def test_a_tree_without_boxes_evaluates_the_roots():
    assert select_classes(MODEL, annotations(MODEL)).labels.names == ("animal", "device")


def test_only_labels_in_use_need_a_node():
    other = WordTree(("x", "n3", "y"), ("thing", "hund", "eel"), (-1, 0, 0))
    classes = select_classes(MODEL, annotations(other, [1, 2], [False, True]))
    assert classes.nodes.tolist() == [2]
    assert classes.to_nodes(annotations(other, [1, 2]).records)[0].boxes.label.tolist() == [2]
    with pytest.raises(ConfigError, match="no label for 1 of the data set's: eel;"):
        select_classes(MODEL, annotations(other, [1, 2]))


def test_without_ancestry_the_data_sets_own_classes_are_evaluated():
    own = (
        DatasetClass("lifter", 4, 7),
        DatasetClass("unmapped", None, 8),
        DatasetClass("pup", 2, 9),
        DatasetClass("puppy", 2, 10),
    )
    data = annotations(MODEL, [5], classes=own)
    classes = select_classes(MODEL, data, ClassSelection(by_ancestry=False))
    assert classes.labels.names == ("lifter", "pup")
    assert classes.nodes.tolist() == [4, 2]
    assert classes.category_ids == (7, 9)


def test_only_selected_labels():
    classes = select_classes(MODEL, annotations(MODEL, [5]), ClassSelection(only=[2, 0, 2]))
    assert classes.labels.names == ("dog", "animal")
    assert classes.by_ancestry
    assert np.array_equal(classes.node_of_label, np.arange(6))


def test_a_flat_model_on_a_tree_has_no_ancestry():
    model = WordTree.flat(["terrier", "dog"])
    classes = select_classes(model, annotations(MODEL, [5, 2]))
    assert not classes.by_ancestry
    assert classes.nodes.tolist() == [1, 0]
