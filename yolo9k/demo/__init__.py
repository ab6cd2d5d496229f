"""The demo: draw a toy dataset, cluster anchors, train YOLO9000, evaluate and detect, in minutes and offline."""

from yolo9k.demo.stages import (
    ALL_BOXES_SCORES,
    SupervisionScores,
    configure,
    evaluate,
    write_detections,
)
from yolo9k.demo.toy_joint import write_toy_joint

__all__ = [
    "ALL_BOXES_SCORES",
    "SupervisionScores",
    "configure",
    "evaluate",
    "write_detections",
    "write_toy_joint",
]
