"""Metrics of detections against ground truth: average precision of PASCAL VOC and COCO, curves, confusion matrix."""

from yolo9k.metrics.coco import coco_ground_truth, coco_results, coco_statistics
from yolo9k.metrics.confusion import Confusion, confusion
from yolo9k.metrics.curves import Curves, curves
from yolo9k.metrics.matching import Matches, match
from yolo9k.metrics.voc import area, average_precision, eleven_point, mean

__all__ = [
    "Confusion",
    "Curves",
    "Matches",
    "area",
    "average_precision",
    "coco_ground_truth",
    "coco_results",
    "coco_statistics",
    "confusion",
    "curves",
    "eleven_point",
    "match",
    "mean",
]
