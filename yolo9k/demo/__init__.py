"""The whole way in a few minutes and without a network: pictures, anchors, training, scores, detections."""

from yolo9k.demo.stages import configure, detect_some, make_dataset

__all__ = ["configure", "detect_some", "make_dataset"]
