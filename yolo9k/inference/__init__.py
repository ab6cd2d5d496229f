"""Running a trained detector on pictures."""

from yolo9k.inference.detector import Detector

__all__ = ["Detector"]
