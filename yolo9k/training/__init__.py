"""Training a detector: the loop and what belongs to it."""

from yolo9k.training.loop import resume, train

__all__ = ["resume", "train"]
