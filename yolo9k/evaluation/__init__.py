"""Evaluate detectors and classifiers on data sets: metrics, tables and plots."""

from yolo9k.evaluation.class_selection import ClassSelection
from yolo9k.evaluation.coco import add_coco_metrics
from yolo9k.evaluation.depth import DepthReport
from yolo9k.evaluation.detector import evaluate_detector
from yolo9k.evaluation.evaluate import ClassScores, Evaluation, evaluate
from yolo9k.evaluation.tree import evaluate_tree

__all__ = [
    "ClassScores",
    "ClassSelection",
    "DepthReport",
    "Evaluation",
    "add_coco_metrics",
    "evaluate",
    "evaluate_detector",
    "evaluate_tree",
]
