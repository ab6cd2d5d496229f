"""Run trained detectors and classifiers on images."""

from yolo9k.inference.classifier import ImageClassifier
from yolo9k.inference.detector import Detector

__all__ = ["Detector", "ImageClassifier"]
