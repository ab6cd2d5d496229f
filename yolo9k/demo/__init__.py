"""The demo: draw a toy dataset, cluster anchors, train YOLO9000, evaluate and detect, in minutes and offline."""

from yolo9k.demo.stages import (
    ALL_BOXES_SCORES,
    SupervisionScores,
    configure,
    evaluate,
    make_dataset,
    write_detections,
)

__all__ = [
    "ALL_BOXES_SCORES",
    "SupervisionScores",
    "configure",
    "evaluate",
    "make_dataset",
    "write_detections",
]
