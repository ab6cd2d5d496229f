import numpy as np
import pytest

from yolo9k.metrics import area_under_envelope, average_precision, eleven_point, match, mean
from yolo9k.metrics.voc import envelope
from yolo9k.samples import BoxLabels, Detections

TRUE_POSITIVES = np.array([1, 1, 2, 2, 3])  # true, false, true, false, true
FALSE_POSITIVES = np.array([0, 1, 1, 2, 2])


def test_envelope_is_the_highest_precision_of_this_or_later_rows():
    # precision 1, 1/2, 2/3, 2/4, 3/5
    np.testing.assert_allclose(envelope(TRUE_POSITIVES, FALSE_POSITIVES), [1, 2 / 3, 2 / 3, 3 / 5, 3 / 5])


def test_area_by_hand():
    # four boxes: (1 + 2/3 + 3/5) / 4
    assert area_under_envelope(TRUE_POSITIVES, FALSE_POSITIVES, 4) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)


def test_eleven_point_by_hand():
    # recall .25, .5, .75: points 0-.2 have 1, .3-.5 have 2/3, .6 and .7 have 3/5, .8-1 have 0
    assert eleven_point(TRUE_POSITIVES, FALSE_POSITIVES, 4) == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11)


def test_rules_take_several_thresholds_at_once():
    true_positives, false_positives = (
        np.stack([TRUE_POSITIVES, np.zeros(5, int)]),
        np.stack([FALSE_POSITIVES, np.arange(1, 6)]),
    )
    np.testing.assert_allclose(
        area_under_envelope(true_positives, false_positives, 4),
        [area_under_envelope(TRUE_POSITIVES, FALSE_POSITIVES, 4), 0],
    )
    np.testing.assert_allclose(
        eleven_point(true_positives, false_positives, 4), [eleven_point(TRUE_POSITIVES, FALSE_POSITIVES, 4), 0]
    )


@pytest.mark.parametrize("rule", [area_under_envelope, eleven_point])
def test_perfect_detections_and_none(rule):
    assert rule(np.array([1, 2]), np.array([0, 0]), 2) == pytest.approx(1)
    assert rule(np.zeros(0), np.zeros(0), 2) == 0


@pytest.mark.parametrize("rule", [area_under_envelope, eleven_point])
def test_labels_without_counted_ground_truth_are_nan(rule):
    box = np.array([[0, 0, 10, 10]], np.float32)
    detections = [Detections(box, np.ones(1, np.float32), np.zeros(1, int))]
    # label 0 is detected, 1 is not, 2 has only a difficult box, 3 has none
    ground_truth = [BoxLabels.of(np.repeat(box, 3, axis=0), [0, 1, 2], [False, False, True])]
    values = average_precision(match(detections, ground_truth, 4, [0.5]), rule)[0]
    np.testing.assert_allclose(values, [1, 0, np.nan, np.nan])
    assert mean(values) == 0.5


def test_mean_of_nothing_is_nan():
    assert np.isnan(mean(np.array([np.nan])))


def test_ignored_detections_do_not_change_the_average_precision():
    boxes = np.array([[0, 0, 10, 10], [50, 0, 60, 10]], np.float32)
    detections = [Detections(boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, int))]
    ground_truth = [BoxLabels.of(boxes, [0, 0], [True, False])]
    assert average_precision(match(detections, ground_truth, 1, [0.5]))[0, 0] == 1
