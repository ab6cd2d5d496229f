"""The whole way in a few minutes and without a network: images, anchors, training, scores, detections."""

from yolo9k.demo.stages import ALL_BOXES, Story, configure, detect_some, make_dataset, score

__all__ = ["ALL_BOXES", "Story", "configure", "detect_some", "make_dataset", "score"]
