"""A model over a data set: scores, tables and plots."""

from yolo9k.evaluation.evaluate import ClassScores, Evaluation, evaluate, evaluate_detector

__all__ = ["ClassScores", "Evaluation", "evaluate", "evaluate_detector"]
