import numpy as np

from yolo9k.metrics import confusion
from yolo9k.samples import BoxLabels, Detections

A, B, C = [0, 0, 10, 10], [100, 0, 110, 10], [200, 0, 210, 10]


def found(boxes, labels, scores=None):
    scores = np.full(len(labels), 0.9) if scores is None else np.array(scores)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, np.array(labels, int))


def test_hit_mistake_miss_and_false_positive():
    truths = BoxLabels.of([A, B, [300, 0, 310, 10]], [0, 0, 5])
    matrix = confusion([found([A, B, C], [0, 7, 7])], [truths])
    assert matrix.label.tolist() == [0, 5, 7]
    assert matrix.counts.tolist() == [
        [1, 0, 1, 0],  # label 0: one hit, one taken for 7
        [0, 0, 0, 1],  # label 5: missed
        [0, 0, 0, 0],
        [0, 0, 1, 0],  # background taken for 7
    ]
    np.testing.assert_allclose(matrix.shares[0], [0.5, 0, 0.5, 0])
    assert matrix.shares[2].tolist() == [0, 0, 0, 0]


def test_the_largest_overlap_wins_then_the_score():
    close, far = [0, 0, 10, 9], [0, 0, 10, 8]
    matrix = confusion([found([far, close], [1, 0])], [BoxLabels.of([A], [0])])
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    matrix = confusion([found([A, A], [1, 0], [0.5, 0.6])], [BoxLabels.of([A], [0])])
    assert matrix.counts[0].tolist() == [1, 0, 0]


def test_a_detection_and_a_truth_are_used_once():
    matrix = confusion([found([A], [0])], [BoxLabels.of([A, A], [0, 0])])
    assert matrix.counts.tolist() == [[1, 1], [0, 0]]


def test_weak_detections_are_left_out():
    matrix = confusion([found([A], [0], [0.2])], [BoxLabels.of([A], [0])])
    assert matrix.counts.tolist() == [[0, 1], [0, 0]]


def test_ignored_truths_leave_no_trace():
    matrix = confusion([found([A, C], [0, 0])], [BoxLabels.of([A, B], [0, 0], [True, True])])
    assert matrix.counts.tolist() == [[0, 0], [1, 0]]


def test_nothing():
    matrix = confusion([found([], [])], [BoxLabels.of([], [])])
    assert matrix.counts.tolist() == [[0]]
    assert confusion([], []).counts.shape == (1, 1)
