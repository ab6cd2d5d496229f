"""Evaluation over a label tree: equal to the flat one for flat labels, and invariant to coarsening the tree."""

from dataclasses import replace

import numpy as np
import pytest
import scenes
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import trees

from yolo9k.datasets.readers.records import Annotations
from yolo9k.evaluation import add_coco_metrics, evaluate, evaluate_tree
from yolo9k.evaluation.class_selection import ClassSelection, select_classes
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision

IDS = ("device", "clock", "tool", "meter", "alarm")
TREE = WordTree(IDS, IDS, (-1, 0, 0, 1, 1))
DEVICE, CLOCK, TOOL, METER, ALARM = range(5)


def read(records, labels, **others) -> Annotations:
    return Annotations(tuple(records), labels, **others)


def with_ancestors(detections, tree) -> list[Detections]:
    """Detections with one label per box as detections with a row for the label and for each ancestor, root first."""
    expanded = []
    for each in detections:
        paths = [tree.path(int(label))[::-1] for label in each.label]
        row = np.array([i for i, path in enumerate(paths) for _ in path], int)
        nodes = np.array([node for path in paths for node in path], int)
        expanded.append(Detections(each.xyxy[row], each.score[row], nodes))
    return expanded


def test_a_descendant_counts_for_its_labelled_ancestor():
    records = [scenes.record(0, [0, 1], [CLOCK, TOOL])]
    descended = [scenes.detections([0, 1], [ALARM, METER], [0.9, 0.8])]
    scores, detections = evaluate_tree(
        with_ancestors(descended, TREE), descended, records, select_classes(TREE, read(records, TREE))
    )
    assert [(row.name, row.ap50) for row in scores.classes] == [("clock", 1.0), ("tool", 0.0)]
    assert [name for _, _, name in detections[0]] == ["clock", "clock"]
    assert scores.confusion is None
    assert scores.to_dict()["confusion"] is None
    assert scores.depth.levels[1].correct == 1


def test_a_box_with_a_coarser_label_is_ignored():
    records = [scenes.record(0, [0, 1], [CLOCK, METER])]
    scored = [scenes.detections([0, 1, 1], [METER, METER, CLOCK], [0.9, 0.8, 0.8])]
    scores, _ = evaluate_tree(scored, None, records, select_classes(TREE, read(records, TREE)))
    assert [(row.name, row.boxes, row.ap50) for row in scores.classes] == [("clock", 2, 0.5), ("meter", 1, 1.0)]
    assert scores.total.boxes == 2
    assert scores.depth is None


def test_exact_classes_do_not_count_for_their_ancestors():
    flat = WordTree.flat(["parking meter", "clock"])
    records = [scenes.record(0, [0, 1], [0, 1])]
    scored = [scenes.detections([0, 0, 1], [METER, CLOCK, CLOCK], [0.9, 0.8, 0.7])]
    classes = select_classes(TREE, read(records, flat), ClassSelection((METER, CLOCK)))
    exact, _ = evaluate_tree(scored, None, records, classes)
    assert [(row.name, row.boxes, row.ap50) for row in exact.classes] == [("parking meter", 1, 1.0), ("clock", 1, 0.5)]
    assert exact.confusion is not None
    related = select_classes(TREE, read(records, flat), ClassSelection((METER, CLOCK), by_ancestry=True))
    by_ancestry, _ = evaluate_tree(scored, None, records, related)
    assert [(row.name, row.boxes, row.ap50) for row in by_ancestry.classes] == [
        ("parking meter", 1, 1.0),
        ("clock", 2, 1.0),
    ]


def test_scores_by_supervision():
    records = [scenes.record(0, [0, 1, 2], [CLOCK, TOOL, METER])]
    scored = [scenes.detections([0, 1], [CLOCK, TOOL], [0.9, 0.8])]
    classes = select_classes(TREE, read(records, TREE))
    scores, _ = evaluate_tree(scored, None, records, classes, supervision=Supervision((CLOCK,), (METER, TOOL)))
    assert [(row.name, row.supervision) for row in scores.classes] == [
        ("clock", "box"),
        ("tool", "image-level"),
        ("meter", "image-level"),
    ]
    box, image_level = scores.groups
    assert (box.supervision, box.classes, box.map50) == ("box", 1, pytest.approx(0.5))
    assert (image_level.supervision, image_level.classes, image_level.map50) == ("image-level", 2, pytest.approx(0.5))
    assert scores.to_dict()["groups"][1]["classes"] == 2
    assert evaluate_tree(scored, None, records, classes)[0].groups == ()


def test_an_annotation_file_is_used_only_for_its_own_classes():
    flat = WordTree.flat(["parking meter", "clock"])
    records = [scenes.record(0, [0, 1], [0, 1])]
    data = read(records, flat, category_ids=(4, 9))
    scored = [scenes.detections([0, 0, 1], [METER, CLOCK, CLOCK], [0.9, 0.9, 0.8])]
    ground_truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 4}, {"id": 9}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 4, "bbox": [60, 60, 9, 9], "area": 81, "iscrowd": 0}],
    }
    classes = select_classes(TREE, data, ClassSelection((METER, CLOCK)))
    exact = add_coco_metrics(*evaluate_tree(scored, None, records, classes), ground_truth)
    assert exact.coco["AP50"] == 0  # evaluated on the file, whose box lies elsewhere
    for others in ({"by_ancestry": True}, {"only": [0]}):
        classes = select_classes(TREE, data, ClassSelection((METER, CLOCK), **others))
        scores = add_coco_metrics(*evaluate_tree(scored, None, records, classes), ground_truth)
        assert scores.coco["AP50"] == pytest.approx(1)


@settings(max_examples=50)
@given(st.data())
def test_a_tree_of_depth_one_gives_the_flat_scores(data):
    flat = WordTree.flat(["a", "b", "c", "d"])
    records = data.draw(scenes.records(flat))
    detections = data.draw(scenes.random_detections(flat, len(records)))
    expected = evaluate(detections, records, flat)
    for by_ancestry in (True, False):
        classes = select_classes(flat, read(records, flat), ClassSelection(by_ancestry=by_ancestry))
        for descended in (detections, None):
            scores, _ = evaluate_tree(detections, descended, records, classes)
            stored, reference = scores.to_dict(), expected.to_dict()
            if by_ancestry:
                del stored["confusion"], reference["confusion"]
            np.testing.assert_equal(stored, reference)


def perfect(records, tree) -> tuple[list[Detections], list[Detections]]:
    """Return detections of the boxes that are not ignored: with all nodes on their path, and with one label each."""
    scored, descended = [], []
    for boxes in (record.boxes[~record.boxes.ignore] for record in records):
        row = [i for i, label in enumerate(boxes.label) for _ in tree.path(label)]
        nodes = np.array([node for label in boxes.label for node in tree.path(label)], int)
        scored.append(Detections(boxes.xyxy[row], np.full(len(row), 0.9), nodes))
        descended.append(Detections(boxes.xyxy, np.full(len(boxes), 0.9), boxes.label))
    return scored, descended


@settings(max_examples=50)
@given(st.data())
def test_a_perfect_detector_scores_1_in_every_class(data):
    tree = data.draw(trees())
    records = data.draw(scenes.records(tree, min_boxes=1))
    classes = select_classes(tree, read(records, tree), ClassSelection(by_ancestry=True))
    named = {int(label) for record in records for label in record.boxes.label[~record.boxes.ignore]}
    scored, descended = perfect(records, tree)
    scores, _ = evaluate_tree(scored, descended, records, classes)
    assert [row.ap50_95 for row in scores.classes] == pytest.approx([1] * len(named))
    assert scores.total.boxes == sum(int((~record.boxes.ignore).sum()) for record in records)


def cut(tree: WordTree, depth: int) -> tuple[WordTree, np.ndarray]:
    """Return the tree cut at a depth, and the node there of each node here."""
    kept = np.flatnonzero(tree.depth <= depth)
    number = {int(old): new for new, old in enumerate(kept)}
    ids = tuple(tree.ids[old] for old in kept)
    shorter = WordTree(ids, ids, tuple(number.get(tree.parents[old], -1) for old in kept))
    coarse = [next(number[above] for above in tree.path(node) if above in number) for node in range(len(tree))]
    return shorter, np.array(coarse)


def in_order(boxes) -> list:
    return sorted(zip(boxes.xyxy.tolist(), boxes.label.tolist(), boxes.ignore.tolist(), strict=True))


@settings(max_examples=50)
@given(st.data())
def test_expanding_commutes_with_coarsening_the_tree(data):
    tree = data.draw(trees())
    records = data.draw(scenes.records(tree))
    detections = data.draw(scenes.random_detections(tree, len(records)))
    shorter, coarse = cut(tree, data.draw(st.integers(0, int(tree.depth.max()))))
    chosen = data.draw(st.lists(st.integers(0, len(shorter) - 1), min_size=1, unique=True))
    places = [tree.ids.index(shorter.ids[node]) for node in chosen]

    coarse_records = [replace(r, boxes=replace(r.boxes, label=coarse[r.boxes.label])) for r in records]
    coarse_detections = [replace(each, label=coarse[each.label]) for each in detections]
    fine = select_classes(tree, read(records, tree), ClassSelection(only=places, by_ancestry=True))
    short = select_classes(shorter, read(coarse_records, shorter), ClassSelection(only=chosen, by_ancestry=True))

    for one, other in zip(fine.ground_truth(records), short.ground_truth(coarse_records), strict=True):
        assert in_order(one.boxes) == in_order(other.boxes)
    scored, coarse_scored = with_ancestors(detections, tree), with_ancestors(coarse_detections, shorter)
    for one, other in zip(fine.to_classes(scored), short.to_classes(coarse_scored), strict=True):
        np.testing.assert_array_equal(one.xyxy, other.xyxy)
        np.testing.assert_array_equal(one.label, other.label)
    scores, _ = evaluate_tree(scored, detections, records, fine)
    expected, _ = evaluate_tree(coarse_scored, coarse_detections, coarse_records, short)
    for name in ("map50", "map50_95", "voc_area", "classes"):
        np.testing.assert_equal(getattr(scores, name), getattr(expected, name))
    if not (tree.is_flat or shorter.is_flat):
        assert scores.depth.levels[: len(expected.depth.levels)] == expected.depth.levels
