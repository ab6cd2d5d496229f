"""The confusion matrix of a detector: which label is taken for which, and for background."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from yolo9k.boxes import iou
from yolo9k.samples import BoxLabels, Detections

CONFIDENCE = 0.25
IOU = 0.5


@dataclass(frozen=True)
class Confusion:
    """Counts (L + 1, L + 1): rows are truths, columns predictions, the last of each is background.

    `label` (L,): the labels that occur in either, so that a set of thousands stays small.
    """

    label: np.ndarray
    counts: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """The counts over the sum of their row: what became of the truths of a label."""
        return self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)


def confusion(
    detections: Sequence[Detections],
    truths: Sequence[BoxLabels],
    *,
    confidence: float = CONFIDENCE,
    iou_threshold: float = IOU,
) -> Confusion:
    """Pair detections and truths of any label, the largest IoU first, each used once.

    A detection without a partner is a false positive (row background), a truth without one is missed (column
    background). Truths to ignore are no rows, and a detection that lies on one is left out.
    """
    pairs = [
        _pair(found[found.score >= confidence], boxes, iou_threshold)
        for found, boxes in zip(detections, truths, strict=True)
    ]
    rows = np.concatenate([np.zeros((0, 2), int), *pairs])
    label = np.unique(rows[rows >= 0])
    place = np.where(rows < 0, len(label), np.searchsorted(label, rows))
    counts = np.zeros((len(label) + 1, len(label) + 1), np.int64)
    np.add.at(counts, (place[:, 0], place[:, 1]), 1)
    return Confusion(label, counts)


def _pair(found: Detections, boxes: BoxLabels, threshold: float) -> np.ndarray:
    """(M, 2): label of the truth, label of the detection; -1 is background."""
    counted, ignored = boxes[~boxes.ignore], boxes[boxes.ignore]
    overlap = _overlaps(found, counted)
    one, other = np.nonzero(overlap >= threshold)
    order = np.lexsort((-found.score[one], -overlap[one, other]))
    partner = np.full(len(found), -1)
    taken = np.zeros(len(counted), bool)
    for detection, truth in zip(one[order], other[order], strict=True):
        if partner[detection] < 0 and not taken[truth]:
            partner[detection], taken[truth] = truth, True
    on_ignored = (_overlaps(found, ignored) >= threshold).any(axis=1)
    kept = (partner >= 0) | ~on_ignored
    truth_label = np.append(counted.label, -1)[partner]
    missed = counted.label[~taken]
    return np.concatenate(
        [
            np.stack([truth_label[kept], found.label[kept]], axis=1),
            np.stack([missed, np.full(len(missed), -1)], axis=1),
        ]
    )


def _overlaps(found: Detections, boxes: BoxLabels) -> np.ndarray:
    return iou(found.xyxy[:, None].astype(float), boxes.xyxy[None].astype(float))
