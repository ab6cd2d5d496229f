"""Accuracy by depth in the label tree."""

import json
import math

import numpy as np
import pytest
import scenes
from hypothesis import given
from hypothesis import strategies as st
from scenes import trees

from yolo9k.evaluation.depth import depth_report
from yolo9k.metrics.depth import Level
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

IDS = ("animal", "device", "dog", "cat", "clock", "terrier", "poodle")
TREE = WordTree(IDS, IDS, (-1, -1, 0, 0, 1, 2, 2))
ANIMAL, DEVICE, DOG, CAT, CLOCK, TERRIER, POODLE = range(7)


def test_levels_by_hand():
    # Predictions: terrier -> dog, terrier -> poodle, poodle -> clock, cat -> cat, dog -> not detected,
    # dog -> terrier; a second detection of the cat, and one on the background.
    records = [
        scenes.record(0, [0, 1, 2], [TERRIER, TERRIER, POODLE]),
        scenes.record(1, [3, 4, 5], [CAT, DOG, DOG]),
    ]
    detections = [
        scenes.detections([0, 1, 2], [DOG, POODLE, CLOCK], [0.9, 0.8, 0.7]),
        scenes.detections([3, 3, 5, 9], [CAT, DEVICE, TERRIER, CAT], [0.6, 0.5, 0.4, 0.3]),
    ]
    report = depth_report(detections, records, TREE)
    assert report.levels == (
        Level(0, ground_truths=6, correct=4, too_coarse=0, wrong_branch=1, not_detected=1),
        Level(1, ground_truths=6, correct=4, too_coarse=0, wrong_branch=1, not_detected=1),
        Level(2, ground_truths=3, correct=0, too_coarse=1, wrong_branch=2, not_detected=0),
    )
    assert report.levels[2].fractions["too_coarse"] == pytest.approx(1 / 3)
    assert (report.boxes, report.detected) == (6, 5)
    assert report.exact == pytest.approx(1 / 6)
    assert report.ground_truth_depth == pytest.approx((2 + 2 + 2 + 1 + 1 + 1) / 6)
    assert report.predicted_depth == pytest.approx((1 + 2 + 1 + 1 + 2) / 5)
    # related labels: dog for a terrier, cat for a cat, terrier for a dog
    assert report.matches.true_positive[0].tolist() == [True, False, False, True, False, True, False]


def test_the_highest_score_matches_a_box_regardless_of_its_label():
    records = [scenes.record(0, [0], [DOG])]
    detections = [scenes.detections([0, 0], [DOG, CLOCK], [0.3, 0.9])]
    assert depth_report(detections, records, TREE).levels[1].wrong_branch == 1


def test_ignored_boxes_do_not_count():
    records = [scenes.record(0, [0, 1], [DOG, CAT], [True, False])]
    report = depth_report([scenes.detections([0], [DOG], [0.9])], records, TREE)
    assert (report.boxes, report.detected) == (1, 0)
    assert report.levels[0].not_detected == 1
    assert math.isnan(report.predicted_depth)


def test_no_boxes():
    report = depth_report([Detections.empty()], [scenes.record(0, [], [])], TREE)
    assert report.levels == ()
    assert (report.boxes, report.detected) == (0, 0)
    assert math.isnan(report.exact)
    assert math.isnan(report.ground_truth_depth)
    assert depth_report([], [], TREE).levels == ()


def test_the_dictionary_is_json():
    report = depth_report([scenes.detections([0], [DOG], [0.9])], [scenes.record(0, [0, 1], [TERRIER, CAT])], TREE)
    stored = json.loads(json.dumps(report.to_dict()))
    assert stored["levels"][1]["fractions"] == {"correct": 0.5, "too_coarse": 0, "wrong_branch": 0, "not_detected": 0.5}
    assert stored["levels"][2]["too_coarse"] == 1
    assert stored["detected"] == 1
    assert "records" not in stored


def perfect_detections(records, relabel=lambda label: label):
    """Return detections of all boxes that are not ignored; `relabel` changes their labels."""
    kept = [record.boxes[~record.boxes.ignore] for record in records]
    return [
        Detections(boxes.xyxy, np.full(len(boxes), 0.9), np.array([relabel(n) for n in boxes.label], int))
        for boxes in kept
    ]


@given(st.data())
def test_a_perfect_detector_is_correct_at_every_depth(data):
    tree = data.draw(trees())
    records = data.draw(scenes.records(tree, min_boxes=1))
    report = depth_report(perfect_detections(records), records, tree)
    assert all(level.correct == level.ground_truths for level in report.levels)
    assert report.levels[0].ground_truths == report.boxes == report.detected
    assert len(report.levels) == 1 + max(tree.depth[r.boxes.label[~r.boxes.ignore]].max(initial=0) for r in records)
    assert report.exact == 1
    assert report.ground_truth_depth == report.predicted_depth
    assert report.matches.true_positive.all()


@given(st.data())
def test_a_detector_that_stops_one_level_early_is_too_coarse_there(data):
    tree = data.draw(trees())
    records = data.draw(scenes.records(tree, min_boxes=1))
    report = depth_report(
        perfect_detections(records, lambda n: max(tree.parents[n], n * (tree.parents[n] < 0))), records, tree
    )
    depths = np.concatenate([tree.depth[r.boxes.label[~r.boxes.ignore]] for r in records])
    for level in report.levels:
        ends_here = int((depths == level.depth).sum()) if level.depth else 0
        assert level.too_coarse == ends_here
        assert level.correct == level.ground_truths - ends_here
    assert report.exact == np.mean(depths == 0)


@given(st.data())
def test_outcomes_add_up_and_accuracy_falls_with_depth(data):
    tree = data.draw(trees())
    records = data.draw(scenes.records(tree))
    report = depth_report(data.draw(scenes.random_detections(tree, len(records))), records, tree)
    correct = [level.correct for level in report.levels]
    for level in report.levels:
        assert level.correct + level.too_coarse + level.wrong_branch + level.not_detected == level.ground_truths
        assert sum(level.fractions.values()) == pytest.approx(1)
    assert correct == sorted(correct, reverse=True)
    assert report.boxes == (report.levels[0].ground_truths if report.levels else 0)
