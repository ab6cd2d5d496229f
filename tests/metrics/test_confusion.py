import numpy as np
import pytest

from yolo9k.metrics import confusion_matrix
from yolo9k.samples import BoxLabels, Detections

A, B, C = [0, 0, 10, 10], [100, 0, 110, 10], [200, 0, 210, 10]


def detections_of(boxes, labels, scores=None):
    scores = np.full(len(labels), 0.9) if scores is None else np.array(scores)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, np.array(labels, int))


def test_true_positive_wrong_label_false_negative_and_false_positive():
    ground_truth = BoxLabels.of([A, B, [300, 0, 310, 10]], [0, 0, 5])
    matrix = confusion_matrix([detections_of([A, B, C], [0, 7, 7])], [ground_truth])
    assert matrix.label.tolist() == [0, 5, 7]
    assert matrix.counts.tolist() == [
        [1, 0, 1, 0],  # label 0: one correct, one predicted as 7
        [0, 0, 0, 1],  # label 5: not detected
        [0, 0, 0, 0],
        [0, 0, 1, 0],  # background predicted as 7
    ]
    np.testing.assert_allclose(matrix.fractions[0], [0.5, 0, 0.5, 0])
    assert matrix.fractions[2].tolist() == [0, 0, 0, 0]


def test_the_highest_iou_is_matched_first_then_the_highest_score():
    close, far = [0, 0, 10, 9], [0, 0, 10, 8]
    matrix = confusion_matrix([detections_of([far, close], [1, 0])], [BoxLabels.of([A], [0])])
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    matrix = confusion_matrix([detections_of([A, A], [1, 0], [0.5, 0.6])], [BoxLabels.of([A], [0])])
    assert matrix.counts[0].tolist() == [1, 0, 0]


def test_detections_and_ground_truth_are_matched_once():
    matrix = confusion_matrix([detections_of([A], [0])], [BoxLabels.of([A, A], [0, 0])])
    assert matrix.counts.tolist() == [[1, 1], [0, 0]]


def test_detections_below_the_confidence_threshold_are_excluded():
    matrix = confusion_matrix([detections_of([A], [0], [0.2])], [BoxLabels.of([A], [0])])
    assert matrix.counts.tolist() == [[0, 1], [0, 0]]


def test_ignored_ground_truth_and_its_detections_are_not_counted():
    matrix = confusion_matrix([detections_of([A, C], [0, 0])], [BoxLabels.of([A, B], [0, 0], [True, True])])
    assert matrix.counts.tolist() == [[0, 0], [1, 0]]


def test_no_boxes():
    matrix = confusion_matrix([detections_of([], [])], [BoxLabels.of([], [])])
    assert matrix.counts.tolist() == [[0]]
    assert confusion_matrix([], []).counts.shape == (1, 1)


@pytest.mark.parametrize("max_pairs", [1, 7, 1 << 20])
def test_pairs_are_compared_in_parts(monkeypatch, crowded_image, max_pairs):
    found, boxes = crowded_image
    expected = confusion_matrix([found], [boxes], iou_threshold=0.3)
    monkeypatch.setattr("yolo9k.boxes.MAX_PAIRS", max_pairs)
    actual = confusion_matrix([found], [boxes], iou_threshold=0.3)
    for key, value in vars(expected).items():
        assert np.array_equal(getattr(actual, key), value)
