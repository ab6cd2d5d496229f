import numpy as np
import pytest

from yolo9k.metrics import area_under_envelope, average_precision, curves, match
from yolo9k.metrics.curves import Curves
from yolo9k.samples import BoxLabels, Detections

BOXES = np.array([[0, 0, 10, 10], [100, 0, 110, 10], [200, 0, 210, 10]], np.float32)


@pytest.fixture
def lines():
    # two boxes of label 1; detections: true positive at .9, false positive at .6, true positive at .3
    detections = Detections(BOXES[[0, 2, 1]], np.array([0.9, 0.6, 0.3], np.float32), np.ones(3, int))
    return curves(match([detections], [BoxLabels.of(BOXES[:2], [1, 1])], 3, [0.5]), points=11)


def test_only_labels_with_ground_truth_have_curves(lines):
    assert lines.label.tolist() == [1]
    assert lines.precision.shape == lines.recall.shape == lines.f1.shape == lines.envelope.shape == (1, 11)


def test_precision_recall_and_f1_by_hand(lines):
    # true and false positives at confidence .3: two and one; at .6: one and one; at .8: one and none
    np.testing.assert_allclose(lines.recall[0, [0, 3, 5, 8, 10]], [1, 1, 0.5, 0.5, 0])
    np.testing.assert_allclose(lines.precision[0, [0, 3, 5, 8, 10]], [2 / 3, 2 / 3, 0.5, 1, 0])
    np.testing.assert_allclose(lines.f1[0, [0, 3, 5, 8, 10]], [0.8, 0.8, 0.5, 2 / 3, 0])
    assert lines.best_confidence == 0


def test_the_best_confidence_is_that_of_the_mean_over_labels():
    none = np.zeros((2, 3))
    both = Curves(np.arange(2), np.array([0, 0.5, 1]), none, none, np.array([[0.4, 0.9, 0.1], [0.1, 0.5, 0.3]]), none)
    assert (both.best, both.best_confidence) == (1, 0.5)


def test_envelope_over_recall(lines):
    # precision 1 up to recall .5, then 2/3
    np.testing.assert_allclose(lines.envelope[0], [1] * 6 + [2 / 3] * 5)


def test_curves_of_another_iou_threshold():
    """The detection has an IoU of .6: the first threshold is the default."""
    found = Detections(np.array([[0, 0, 10, 6]], np.float32), np.ones(1, np.float32), np.zeros(1, int))
    matches = match([found], [BoxLabels.of(BOXES[:1], [0])], 1, [0.5, 0.75])
    assert [curves(matches).recall.max(), curves(matches, 1).recall.max()] == [1, 0]


def test_mean_of_the_envelope_is_the_area():
    rng = np.random.default_rng(0)
    xy = rng.random((400, 2)) * 1000
    boxes = np.concatenate([xy, xy + 30], axis=1).astype(np.float32)
    detections = Detections(
        boxes + rng.normal(0, 6, boxes.shape).astype(np.float32), rng.random(400), np.zeros(400, int)
    )
    matches = match([detections], [BoxLabels.of(boxes, [0] * 400)], 1, [0.5])
    assert curves(matches).envelope.mean() == pytest.approx(
        average_precision(matches, area_under_envelope)[0, 0], abs=2e-3
    )


def test_no_detections():
    lines = curves(match([Detections.empty()], [BoxLabels.of(BOXES, [0, 0, 0])], 1, [0.5]))
    assert not lines.f1.any()
    assert not lines.envelope.any()


def test_no_ground_truth():
    lines = curves(match([Detections.empty()], [BoxLabels.of([], [])], 2, [0.5]))
    assert lines.f1.shape == (0, 1001)
    assert lines.best_confidence == 0
