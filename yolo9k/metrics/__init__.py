"""Metrics, computed from arrays alone: average precision of PASCAL VOC and COCO, curves, confusion matrix.

Of whole images: `classification.py`; over the depth of a label tree: `depth.py`.
"""

from yolo9k.metrics.coco import coco_ground_truth, coco_results, coco_statistics
from yolo9k.metrics.confusion import ConfusionMatrix, confusion_matrix
from yolo9k.metrics.curves import Curves, curves
from yolo9k.metrics.matching import Matches, match
from yolo9k.metrics.voc import area_under_envelope, average_precision, eleven_point, mean

__all__ = [
    "ConfusionMatrix",
    "Curves",
    "Matches",
    "area_under_envelope",
    "average_precision",
    "coco_ground_truth",
    "coco_results",
    "coco_statistics",
    "confusion_matrix",
    "curves",
    "eleven_point",
    "match",
    "mean",
]
