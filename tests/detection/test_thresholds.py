import pytest

from yolo9k import Thresholds
from yolo9k.config.schema import EvalConfig


def test_defaults_are_for_showing_detections():
    assert Thresholds() == Thresholds(conf=0.25, iou=0.45, max_detections=300, agnostic=False)


def test_thresholds_of_an_eval_config():
    assert Thresholds.of(EvalConfig(conf=0.1, iou=0.3, max_detections=7)) == Thresholds(0.1, 0.3, 7)
    assert Thresholds.of(EvalConfig()) == Thresholds(0.005, 0.45, 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conf": 1.5}, "conf: 1.5 is not between 0 and 1"),
        ({"conf": float("nan")}, "conf: nan is not between 0 and 1"),
        ({"iou": -0.1}, "iou: -0.1 is not between 0 and 1"),
        ({"max_detections": 0}, "max_detections: 0 is less than 1"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        Thresholds(**options)
