"""A model over a data set: scores, tables and plots."""

from yolo9k.evaluation.depth import DepthReport
from yolo9k.evaluation.detector import evaluate_detector
from yolo9k.evaluation.evaluate import ClassScores, Evaluation, evaluate
from yolo9k.evaluation.tree import evaluate_tree

__all__ = ["ClassScores", "DepthReport", "Evaluation", "evaluate", "evaluate_detector", "evaluate_tree"]
