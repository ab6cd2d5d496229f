"""Which boxes and detections count for which class, by hand and on random trees."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import trees

from yolo9k.datasets.readers.records import Annotations, Record
from yolo9k.errors import DataError
from yolo9k.evaluation.class_selection import ClassSelection, select_classes
from yolo9k.evaluation.eval_classes import EvalClasses
from yolo9k.samples import BoxLabels, Detections
from yolo9k.wordtree import WordTree

IDS = ("animal", "device", "dog", "cat", "clock", "terrier", "poodle", "meter")
TREE = WordTree(IDS, IDS, (-1, -1, 0, 0, 1, 2, 2, 4))
ANIMAL, DEVICE, DOG, CAT, CLOCK, TERRIER, POODLE, METER = range(8)
BOX = [0, 0, 10, 10]


def record(labels, ignore=None) -> Record:
    return Record(Path("a.png"), (80, 60), BoxLabels.of([BOX] * len(labels), labels, ignore), "a")


def classes_of(nodes, by_ancestry=True) -> EvalClasses:
    read = Annotations((), TREE)
    return select_classes(TREE, read, ClassSelection(only=nodes, by_ancestry=by_ancestry))


def make_detections(labels) -> Detections:
    scores = np.linspace(0.9, 0.1, len(labels)).astype(np.float32)
    return Detections(np.tile(np.float32(BOX), (len(labels), 1)), scores, np.array(labels, np.int64), IDS)


def expanded(classes, labels, ignore=None):
    """Return (class name, ignore) of each box after expansion."""
    boxes = classes.ground_truth([record(labels, ignore)])[0].boxes
    return {(classes.labels.names[label], bool(flag)) for label, flag in zip(boxes.label, boxes.ignore, strict=True)}


def test_a_box_counts_for_its_ancestors():
    classes = classes_of([ANIMAL, DOG, CAT, TERRIER])
    assert expanded(classes, [TERRIER]) == {("animal", False), ("dog", False), ("terrier", False)}
    assert expanded(classes, [POODLE]) == {("animal", False), ("dog", False)}


def test_a_box_is_ignored_for_its_descendants():
    classes = classes_of([ANIMAL, DOG, CAT, TERRIER])
    assert expanded(classes, [DOG]) == {("animal", False), ("dog", False), ("terrier", True)}
    assert expanded(classes, [ANIMAL]) == {("animal", False), ("dog", True), ("cat", True), ("terrier", True)}
    assert expanded(classes, [METER]) == set()


def test_an_ignored_box_is_ignored_for_ancestors_and_descendants():
    classes = classes_of([ANIMAL, DOG, CAT, TERRIER])
    assert expanded(classes, [DOG], [True]) == {("animal", True), ("dog", True), ("terrier", True)}


def test_coarse_boxes_over_too_many_classes_are_refused(monkeypatch):
    classes, records = classes_of([ANIMAL, DOG, CAT, TERRIER]), [record([ANIMAL, DOG])] * 2
    assert sum(len(each.boxes) for each in classes.ground_truth(records)) == 14
    monkeypatch.setattr("yolo9k.evaluation.eval_classes.MAX_EXPANDED", 14)
    classes.check_size(records)
    with pytest.raises(DataError, match=r"for 21 classes in total; at most 14 fit into memory: use --exact"):
        classes.check_size([*records, records[0]])


def test_without_ancestry_a_box_has_one_class():
    classes = classes_of([CLOCK, METER], by_ancestry=False)
    assert expanded(classes, [METER]) == {("meter", False)}
    assert expanded(classes, [CLOCK]) == {("clock", False)}
    assert expanded(classes, [DEVICE]) == set()
    assert classes.max_classes_per_box == 1


def test_detections_of_other_nodes_are_removed():
    classes = classes_of([METER, CLOCK])
    (result,) = classes.to_classes([make_detections([CLOCK, METER, DOG])])
    assert [name for _, _, name in result] == ["clock", "meter"]
    assert result.score.tolist() == make_detections([CLOCK, METER, DOG]).score[:2].tolist()


def test_max_classes_per_box_is_the_longest_chain_of_classes():
    assert classes_of([DOG, CAT, CLOCK]).max_classes_per_box == 1
    assert classes_of([ANIMAL, TERRIER, CLOCK]).max_classes_per_box == 2
    assert classes_of([ANIMAL, DOG, TERRIER]).max_classes_per_box == 3


def test_two_classes_may_have_the_same_node():
    read = Annotations((record([0, 1, 2]),), WordTree.flat(["hound", "puss", "puppy"]))
    classes = select_classes(TREE, read, ClassSelection(node_map=[DOG, CAT, DOG]))
    assert classes.unique_nodes == [DOG, CAT]
    (result,) = classes.to_classes([make_detections([CAT, DOG])])
    assert [name for _, _, name in result] == ["puss", "hound", "puppy"]
    assert classes.ground_truth(read.records)[0].boxes.label.tolist() == [0, 1, 2]
    assert classes.to_nodes(read.records)[0].boxes.label.tolist() == [DOG, CAT, DOG]


def test_no_boxes_and_no_detections():
    classes = classes_of([DOG])
    assert len(classes.ground_truth([record([])])[0].boxes) == 0
    assert len(classes.to_classes([Detections.empty()])[0]) == 0
    assert classes.count_boxes([record([DOG, TERRIER, CAT, DOG], [False, False, False, True])]) == 2


@given(st.data())
def test_a_box_counts_for_ancestors_and_is_ignored_for_descendants(data):
    tree = data.draw(trees())
    chosen = data.draw(st.lists(st.integers(0, len(tree) - 1), min_size=1, unique=True))
    classes = select_classes(tree, Annotations((), tree), ClassSelection(only=chosen, by_ancestry=True))
    for node in range(len(tree)):
        boxes = classes.ground_truth([record([node])])[0].boxes
        certain = {chosen[n] for n in boxes.label[~boxes.ignore]}
        possible = {chosen[n] for n in boxes.label[boxes.ignore]}
        assert len(boxes) == len(certain) + len(possible)
        assert certain == set(tree.path(node)) & set(chosen)
        assert possible == set(tree.subtree(node)[1:]) & set(chosen)
