"""YOLOv2 and YOLO9000 detectors: train, evaluate, run.

>>> from yolo9k import Detector
>>> detections = Detector.load("runs/voc")("image.jpg")

and classifiers of whole images:

>>> from yolo9k import ImageClassifier
>>> classification = ImageClassifier.load("runs/imagenet")("image.jpg")
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Classification", "Detections", "Detector", "ImageClassifier", "Thresholds", "__version__"]

if TYPE_CHECKING:
    from yolo9k.detection.thresholds import Thresholds
    from yolo9k.inference.classifier import Classification, ImageClassifier
    from yolo9k.inference.detector import Detector
    from yolo9k.samples import Detections

_HOMES = {
    "Classification": "yolo9k.inference.classifier",
    "Detections": "yolo9k.samples",
    "Detector": "yolo9k.inference.detector",
    "ImageClassifier": "yolo9k.inference.classifier",
    "Thresholds": "yolo9k.detection.thresholds",
}


def __getattr__(name: str) -> Any:
    """Import the types on first use, so that `yolo9k --help` need not load torch."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'yolo9k' has no attribute {name!r}")
