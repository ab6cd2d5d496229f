import json
from dataclasses import replace

import numpy as np
import pytest

from yolo9k.detection.thresholds import Thresholds
from yolo9k.evaluation import add_coco_metrics, evaluate, evaluate_detector
from yolo9k.inference.detector import Decoding
from yolo9k.samples import BoxLabels, Detections
from yolo9k.wordtree import WordTree


def test_scores_by_hand(detector, annotations):
    scores, detections = evaluate_detector(detector, annotations)
    # cat: TP, FP, TP for two boxes: (1 + 2/3) / 2; of 11 points 6 have 1, 5 have 2/3
    # dog: not detected; eel: no boxes and no score
    cat = (1 + 2 / 3) / 2
    assert [row.name for row in scores.classes] == ["cat", "dog"]
    assert scores.classes[0].ap50 == pytest.approx(cat)
    assert scores.map50 == pytest.approx(cat / 2)
    assert scores.voc_area == pytest.approx(cat / 2)
    assert scores.voc07 == pytest.approx((6 + 5 * 2 / 3) / 11 / 2)
    assert scores.map50_95 == pytest.approx(cat / 2)  # the boxes fit exactly
    assert scores.coco is None
    assert len(detections) == 2


def test_the_table_excludes_ignored_boxes(detector, annotations):
    scores, _ = evaluate_detector(detector, annotations)
    cat, dog = scores.classes
    assert (cat.images, cat.boxes) == (2, 2)
    assert (dog.images, dog.boxes) == (1, 1)
    assert (scores.total.images, scores.total.boxes) == (2, 3)
    # the mean F1 is highest with all detections: 2 of 3 cats are correct, both cats are detected
    assert (cat.precision, cat.recall) == pytest.approx((2 / 3, 1))
    assert scores.total.recall == pytest.approx(0.5)


def test_settings_reach_the_detector(detector, annotations):
    evaluate_detector(detector, annotations, Thresholds(conf=0.1, iou=0.3, max_detections=7), batch=2)
    evaluate_detector(detector, annotations)
    for call in detector.calls:
        del call["on_unreadable"]
    assert detector.calls == [
        {"decodings": [Decoding(Thresholds(0.1, 0.3, 7))], "batch": 2},
        {"decodings": [Decoding(Thresholds(0.005, 0.45, 100))], "batch": 16},
    ]


def test_coco_metrics_are_added(detector, annotations):
    scores = add_coco_metrics(*evaluate_detector(detector, annotations))
    # precision 1 at the 51 points up to 0.5, 2/3 at 50 more; the dog is not detected
    assert scores.coco["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101 / 2)
    assert len(scores.coco) == 12


def test_the_dictionary_is_json(detector, annotations):
    scores = add_coco_metrics(*evaluate_detector(detector, annotations))
    stored = json.loads(json.dumps(scores.to_dict()))
    assert stored["map50"] == scores.map50
    assert stored["classes"][1]["name"] == "dog"
    assert {"ground_truth": "dog", "predicted": "background", "count": 1} in stored["confusion"]
    assert stored["confusion"][0] == {"ground_truth": "cat", "predicted": "cat", "count": 2}


def test_no_detections(annotations):
    detections = [Detections.empty()] * 2
    scores = add_coco_metrics(evaluate(detections, annotations.records, annotations.labels), detections)
    assert (scores.map50, scores.voc07, scores.coco["AP"], scores.total.precision) == (0, 0, 0, 0)


def test_no_boxes(detector, annotations):
    records = [replace(record, boxes=BoxLabels.of([], [])) for record in annotations.records]
    scores = evaluate(list(detector.detections.values()), records, annotations.labels)
    assert np.isnan(scores.map50)
    assert scores.classes == ()
    assert scores.total.boxes == 0


def test_one_list_of_detections_per_image(annotations):
    with pytest.raises(ValueError, match="zip"):
        evaluate([], annotations.records, annotations.labels)


def test_labels_in_another_order_are_matched_by_name(detector, annotations):
    expected, _ = evaluate_detector(detector, annotations)
    order = [1, 2, 0]  # the model's label of cat, dog, eel
    shuffled = {name: replace(each, label=np.array(order)[each.label]) for name, each in detector.detections.items()}
    other = replace(detector, detections=shuffled, labels=WordTree.flat(["eel", "cat", "dog"]))
    scores, detections = evaluate_detector(other, annotations)
    assert scores.map50 == expected.map50
    assert detections[0].name(int(detections[0].label[0])) == "cat"


def test_a_tree_is_evaluated_in_one_pass_with_two_decoders(tree_detector, tree_annotations):
    scores, detections = evaluate_detector(
        tree_detector, tree_annotations, Thresholds(max_detections=10), descent=tree_detector.default_decoder
    )
    assert [(row.name, row.boxes, row.ap50, row.supervision) for row in scores.classes] == [
        ("dog", 2, pytest.approx(1), "box"),
        ("cat", 1, 0, "image-level"),
        ("terrier", 1, pytest.approx(1), "image-level"),
    ]
    assert (scores.total.images, scores.total.boxes) == (2, 3)
    assert [name for _, _, name in detections[0]] == ["dog", "dog", "terrier"]
    levels = [
        (level.correct, level.too_coarse, level.wrong_branch, level.not_detected) for level in scores.depth.levels
    ]
    assert levels == [(2, 0, 1, 0), (2, 0, 1, 0), (0, 1, 0, 0)]
    # a box can be a dog and a terrier: twice as many rows as boxes
    (call,) = tree_detector.calls
    assert [(each.thresholds.max_detections, each.class_decoder) for each in call["decodings"]] == [
        (20, (2, 3, 4)),
        (10, "default"),
    ]


def test_without_a_descent_there_is_no_depth_report(tree_detector, tree_annotations):
    scores, _ = evaluate_detector(tree_detector, tree_annotations)
    assert scores.depth is None
    assert [len(call["decodings"]) for call in tree_detector.calls] == [1]


def test_the_descent_reaches_the_detector(tree_detector, tree_annotations):
    evaluate_detector(tree_detector, tree_annotations, descent="leaves")
    (call,) = tree_detector.calls
    assert [each.class_decoder for each in call["decodings"]] == [(2, 3, 4), "leaves"]


def test_only_the_labels_of_the_data_set_are_decoded(detector, annotations):
    subset = replace(annotations, labels=WordTree.flat(["dog", "eel"]))
    subset = replace(
        subset, records=tuple(replace(r, boxes=BoxLabels.of(r.boxes.xyxy[1:], [0])) for r in subset.records)
    )
    scores, detections = evaluate_detector(detector, subset)
    assert detector.calls[0]["decodings"][0].class_decoder == (1, 2)
    assert [row.name for row in scores.classes] == ["dog"]
    assert [name for each in detections for _, _, name in each] == ["dog"]
    assert scores.confusion is not None


def test_the_dictionary_of_a_tree_is_json(tree_detector, tree_annotations):
    descent = tree_detector.default_decoder
    scores = add_coco_metrics(*evaluate_detector(tree_detector, tree_annotations, descent=descent))
    stored = json.loads(json.dumps(scores.to_dict()))
    assert stored["confusion"] is None
    assert stored["depth"]["levels"][2]["too_coarse"] == 1
    assert [group["supervision"] for group in stored["groups"]] == ["box", "image-level"]
    assert stored["coco"]["AP50"] == pytest.approx(2 / 3)
