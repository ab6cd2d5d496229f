"""Evaluate detectors and classifiers on data sets. The metrics themselves are in `yolo9k.metrics`.

- `detector.py`, `classifier.py`, `image_accuracy.py`: run a model on a data set and evaluate its predictions
- `class_selection.py`, `eval_classes.py`: which classes, and which boxes count for which class
- `evaluate.py`, `tree.py`, `depth.py`, `coco.py`: scores of detections; in label trees; by depth; COCO's
- `report.py`, `plots.py`, `classifier_report.py`, `classifier_plots.py`: tables, text and plots of the scores
"""

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
