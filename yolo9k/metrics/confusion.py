"""The confusion matrix of a detector: predicted against ground truth labels, and background."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yolo9k.boxes import iou, range_chunks
from yolo9k.samples import BoxLabels, Detections

CONFIDENCE = 0.25
IOU = 0.5


@dataclass(frozen=True)
class ConfusionMatrix:
    """Counts (L + 1, L + 1): rows are ground truth, columns predictions; the last row and column are background.

    `label` (L,): the labels that occur in either, which keeps the matrix of a data set with thousands of labels small.
    """

    label: np.ndarray
    counts: np.ndarray

    @property
    def fractions(self) -> np.ndarray:
        """Return the counts divided by the sum of their row: how the ground truth of each label was predicted."""
        return self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)


def confusion_matrix(
    detections: Sequence[Detections],
    ground_truth: Sequence[BoxLabels],
    *,
    confidence: float = CONFIDENCE,
    iou_threshold: float = IOU,
) -> ConfusionMatrix:
    """Match detections to ground truth of any label, largest IoU first, each at most once.

    An unmatched detection is a false positive (row background), an unmatched ground truth a false negative (column
    background). Ignored ground truth is not counted, nor is an unmatched detection that overlaps one.
    """
    pairs = [
        _match(each[each.score >= confidence], boxes, iou_threshold)
        for each, boxes in zip(detections, ground_truth, strict=True)
    ]
    labels = np.concatenate([np.zeros((0, 2), int), *pairs])
    label = np.unique(labels[labels >= 0])
    cell = np.where(labels < 0, len(label), np.searchsorted(label, labels))
    counts = np.zeros((len(label) + 1, len(label) + 1), np.int64)
    np.add.at(counts, (cell[:, 0], cell[:, 1]), 1)
    return ConfusionMatrix(label, counts)


def _match(detections: Detections, boxes: BoxLabels, threshold: float) -> np.ndarray:
    """Return (M, 2): ground truth label and predicted label; -1 is background."""
    counted, ignored = boxes[~boxes.ignore], boxes[boxes.ignore]
    candidate, target, overlap = _overlapping(detections, counted, threshold)
    order = np.lexsort((-detections.score[candidate], -overlap))
    matched = np.full(len(detections), -1)
    is_detected = np.zeros(len(counted), bool)
    for detection, index in zip(candidate[order], target[order], strict=True):
        if matched[detection] < 0 and not is_detected[index]:
            matched[detection], is_detected[index] = index, True
    on_ignored, _, _ = _overlapping(detections, ignored, threshold)
    kept = (matched >= 0) | ~np.isin(np.arange(len(detections)), on_ignored)
    matched_label = np.append(counted.label, -1)[matched]
    missed = counted.label[~is_detected]
    return np.concatenate(
        [
            np.stack([matched_label[kept], detections.label[kept]], axis=1),
            np.stack([missed, np.full(len(missed), -1)], axis=1),
        ]
    )


def _overlapping(
    detections: Detections, boxes: BoxLabels, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs whose IoU reaches the threshold: index of the detection, index of the box, IoU, each (P,)."""
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for row, target in range_chunks(np.zeros(len(detections), np.int64), np.full(len(detections), len(boxes))):
        overlap = iou(detections.xyxy[row].astype(float), boxes.xyxy[target].astype(float))
        near = overlap >= threshold
        found.append((row[near], target[near], overlap[near]))
    candidate, target, overlap = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return candidate, target, overlap
