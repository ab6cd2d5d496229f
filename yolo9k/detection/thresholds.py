"""`Thresholds`: the confidence, overlap and count that decide which boxes a detector returns."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from yolo9k.config.schema import EvalConfig


@dataclass(frozen=True)
class Thresholds:
    """Which boxes are returned; the defaults are for showing detections to people.

    `conf`: minimum score, in [0, 1]; `iou`: NMS IoU threshold, in [0, 1]: a box is removed if its IoU with a better
    one is higher; `max_detections`: maximum number of detections per image; `agnostic`: class-agnostic NMS, boxes of
    different labels suppress each other, too. Raises `ValueError` for a value out of range.
    """

    conf: float = 0.25
    iou: float = 0.45
    max_detections: int = 300
    agnostic: bool = False

    def __post_init__(self) -> None:
        for name in ("conf", "iou"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: {value} is not between 0 and 1")
        if self.max_detections < 1:
            raise ValueError(f"max_detections: {self.max_detections} is less than 1")

    @classmethod
    def of(cls, config: "EvalConfig") -> "Thresholds":
        """Return the thresholds of evaluation."""
        return cls(config.conf, config.iou, config.max_detections)


class ThresholdOptions(TypedDict, total=False):
    """The fields of `Thresholds` as keyword arguments."""

    conf: float
    iou: float
    max_detections: int
    agnostic: bool
