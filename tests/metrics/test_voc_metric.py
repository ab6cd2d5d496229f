import numpy as np
import pytest

from yolo9k.metrics import area, average_precision, eleven_point, match, mean
from yolo9k.metrics.voc import envelope
from yolo9k.samples import BoxLabels, Detections

HITS = np.array([1, 1, 2, 2, 3])  # hit, false, hit, false, hit
FALSE = np.array([0, 1, 1, 2, 2])


def test_envelope_is_the_best_precision_from_here_on():
    # precision 1, 1/2, 2/3, 2/4, 3/5
    np.testing.assert_allclose(envelope(HITS, FALSE), [1, 2 / 3, 2 / 3, 3 / 5, 3 / 5])


def test_area_by_hand():
    # four truths: (1 + 2/3 + 3/5) / 4
    assert area(HITS, FALSE, 4) == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)


def test_eleven_point_by_hand():
    # recall .25, .5, .75: points 0-.2 have 1, .3-.5 have 2/3, .6 and .7 have 3/5, .8-1 have 0
    assert eleven_point(HITS, FALSE, 4) == pytest.approx((3 * 1 + 3 * 2 / 3 + 2 * 3 / 5) / 11)


def test_rules_take_several_thresholds_at_once():
    hits, false = np.stack([HITS, np.zeros(5, int)]), np.stack([FALSE, np.arange(1, 6)])
    np.testing.assert_allclose(area(hits, false, 4), [area(HITS, FALSE, 4), 0])
    np.testing.assert_allclose(eleven_point(hits, false, 4), [eleven_point(HITS, FALSE, 4), 0])


@pytest.mark.parametrize("rule", [area, eleven_point])
def test_perfect_and_nothing(rule):
    assert rule(np.array([1, 2]), np.array([0, 0]), 2) == pytest.approx(1)
    assert rule(np.zeros(0), np.zeros(0), 2) == 0


@pytest.mark.parametrize("rule", [area, eleven_point])
def test_labels_without_countable_truth_have_no_value(rule):
    box = np.array([[0, 0, 10, 10]], np.float32)
    found = [Detections(box, np.ones(1, np.float32), np.zeros(1, int))]
    # label 0 is found; 1 is not; 2 is only difficult; 3 does not occur
    truths = [BoxLabels.of(np.repeat(box, 3, axis=0), [0, 1, 2], [False, False, True])]
    values = average_precision(match(found, truths, 4, [0.5]), rule)[0]
    np.testing.assert_allclose(values, [1, 0, np.nan, np.nan])
    assert mean(values) == 0.5


def test_mean_of_nothing_is_nan():
    assert np.isnan(mean(np.array([np.nan])))


def test_detections_on_difficult_truths_leave_the_curve_alone():
    boxes = np.array([[0, 0, 10, 10], [50, 0, 60, 10]], np.float32)
    found = [Detections(boxes, np.array([0.9, 0.8], np.float32), np.zeros(2, int))]
    truths = [BoxLabels.of(boxes, [0, 0], [True, False])]
    assert average_precision(match(found, truths, 1, [0.5]))[0, 0] == 1
