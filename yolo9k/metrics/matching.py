"""Match detections to ground truth with PASCAL VOC's rule (VOCdevkit, `VOCevaldet.m`).

Each detection is compared with the ground truth of its label that it overlaps most. It is a true positive if the IoU
reaches the threshold and no detection with a higher score matched that ground truth before. If the ground truth is
ignored (*difficult*, *crowd*), the detection is ignored, too. Otherwise it is a false positive.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from yolo9k.boxes import iou, range_chunks
from yolo9k.samples import BoxLabels, Detections

VOC_PIXEL = np.array([0.0, 0.0, 1.0, 1.0])  # VOC's corners are inclusive: a width is x2 - x1 + 1


@dataclass(frozen=True)
class Matches:
    """The result of every detection at each of T thresholds.

    N rows, one per detection, ordered by image, then as listed: `image`, `label`, `score`; `ground_truth` is the index
    over all images of the ground truth it overlaps most, -1 for none. `true_positive` and `ignored` (T, N) bool; all
    others are false positives. `total` (K,): the count of ground truths of each label, without ignored ones.
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    ground_truth: np.ndarray
    true_positive: np.ndarray
    ignored: np.ndarray
    total: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """Return the labels with counted ground truth; only these have an average precision."""
        return np.flatnonzero(self.total)

    def by_label(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield each present label with its rows, highest score first; equal scores keep their order."""
        order = np.lexsort((-self.score, self.label))
        ends = np.searchsorted(self.label[order], np.arange(len(self.total) + 1))
        for label in self.present:
            yield int(label), order[ends[label] : ends[label + 1]]


def match(
    detections: Sequence[Detections],
    ground_truth: Sequence[BoxLabels],
    num_labels: int,
    thresholds: Sequence[float],
    *,
    voc_pixel: bool = False,
) -> Matches:
    """Match the detections of each image to its ground truth.

    `detections[i]` and `ground_truth[i]` belong to one image. `voc_pixel` measures boxes as VOC does, one pixel wider
    and higher. Raises `ValueError` if the counts of images differ.
    """
    margin = VOC_PIXEL if voc_pixel else np.zeros(4)
    first = np.cumsum([0, *(len(boxes) for boxes in ground_truth)])
    pairs = [_closest(each, boxes, margin) for each, boxes in zip(detections, ground_truth, strict=True)]
    score = _join([each.score for each in detections], float)
    closest = _join([np.where(i < 0, -1, i + start) for (i, _), start in zip(pairs, first, strict=False)], int)
    ignore = _join([boxes.ignore for boxes in ground_truth], bool)
    overlaps = _join([overlap for _, overlap in pairs], float) >= np.asarray(thresholds)[:, None]
    ignored = overlaps & np.append(ignore, False)[closest]
    labels = _join([boxes.label for boxes in ground_truth], int)
    return Matches(
        image=np.repeat(np.arange(len(detections)), [len(each) for each in detections]),
        label=_join([each.label for each in detections], int),
        score=score,
        ground_truth=closest,
        true_positive=_highest_scores(closest, overlaps & ~ignored, score),
        ignored=ignored,
        total=np.bincount(labels[~ignore], minlength=num_labels),
    )


def _join(parts: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(parts).astype(kind) if parts else np.zeros(0, kind)


def _closest(detections: Detections, boxes: BoxLabels, margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the box of its label that each detection overlaps most (-1: none), and their IoU.

    Only pairs with the same label are compared, so boxes with many labels cost no more than their count.
    """
    order = boxes.label.argsort(kind="stable")
    first, end = (np.searchsorted(boxes.label[order], detections.label, side=side) for side in ("left", "right"))
    best, highest = np.full(len(detections), -1), np.zeros(len(detections))
    for row, position in range_chunks(first, end - first):
        target = order[position]
        overlap = iou(detections.xyxy[row].astype(float) + margin, boxes.xyxy[target].astype(float) + margin)
        rising = np.lexsort((-target, overlap))  # the last write stays: the highest IoU, of equal ones the first box
        best[row[rising]], highest[row[rising]] = target[rising], overlap[rising]
    return np.where(highest > 0, best, -1), highest


def _highest_scores(target: np.ndarray, overlaps: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return (T, N) bool: of the detections that overlap the same ground truth, the one with the highest score."""
    order = np.argsort(-score, kind="stable")
    true_positive = np.zeros_like(overlaps)
    for row, at_threshold in zip(true_positive, overlaps, strict=True):
        candidates = order[at_threshold[order]]
        row[candidates[np.unique(target[candidates], return_index=True)[1]]] = True
    return true_positive
