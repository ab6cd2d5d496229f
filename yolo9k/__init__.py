"""YOLOv2 and YOLO9000 detectors: train, evaluate, run.

>>> from yolo9k import Detector
>>> detections = Detector.load("runs/voc")("image.jpg")
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Detections", "Detector", "__version__"]

if TYPE_CHECKING:
    from yolo9k.inference.detector import Detector
    from yolo9k.samples import Detections


def __getattr__(name: str) -> Any:
    """Import the two types on first use, so that `yolo9k --help` need not load torch."""
    if name == "Detector":
        from yolo9k.inference.detector import Detector

        return Detector
    if name == "Detections":
        from yolo9k.samples import Detections

        return Detections
    raise AttributeError(f"module 'yolo9k' has no attribute {name!r}")
