"""YOLOv2 and YOLO9000 detectors: train, evaluate, run."""

__version__ = "0.1.0"
