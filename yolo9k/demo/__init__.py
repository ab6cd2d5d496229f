"""The whole way in a few minutes and without a network: pictures, anchors, training, scores, detections."""

from yolo9k.demo.stages import UPPER_BOUND, Story, configure, detect_some, make_dataset, score

__all__ = ["UPPER_BOUND", "Story", "configure", "detect_some", "make_dataset", "score"]
