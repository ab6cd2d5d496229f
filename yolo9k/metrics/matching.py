"""Which detection finds which truth: PASCAL VOC's rule (VOCdevkit, `VOCevaldet.m`).

A detection belongs to the truth of its own label that it overlaps most. It is a hit where that overlap
reaches the threshold and no detection with a higher score took the truth before; where the truth is one to
ignore (*difficult*, *crowd*) the detection counts neither way; else it is a false positive.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from yolo9k.boxes import iou
from yolo9k.samples import BoxLabels, Detections

VOC_PIXEL = np.array([0.0, 0.0, 1.0, 1.0])  # VOC's corners are inclusive: a width is x2 - x1 + 1


@dataclass(frozen=True)
class Matches:
    """The fate of every detection at each of T thresholds.

    N rows, one per detection, by image and then as listed: `image`, `label`, `score`; `truth` is the one it
    overlaps most, numbered through all images, -1 for none. `hit` and `ignored` (T, N) bool; what is
    neither is a false positive. `total` (K,): how many truths of each label count.
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    truth: np.ndarray
    hit: np.ndarray
    ignored: np.ndarray
    total: np.ndarray

    @property
    def present(self) -> np.ndarray:
        """The labels that have a truth that counts; only these have an average precision."""
        return np.flatnonzero(self.total)

    def by_label(self) -> Iterator[tuple[int, np.ndarray]]:
        """For each present label its rows, best score first; equal scores keep their order."""
        order = np.lexsort((-self.score, self.label))
        ends = np.searchsorted(self.label[order], np.arange(len(self.total) + 1))
        for label in self.present:
            yield int(label), order[ends[label] : ends[label + 1]]


def match(
    detections: Sequence[Detections],
    truths: Sequence[BoxLabels],
    num_labels: int,
    thresholds: Sequence[float],
    *,
    voc_pixel: bool = False,
) -> Matches:
    """Match the detections of each image with its truths.

    `detections[i]` and `truths[i]` belong to one image. `voc_pixel` measures boxes as VOC does, one pixel
    wider and higher. Raises `ValueError` where the numbers of images differ.
    """
    margin = VOC_PIXEL if voc_pixel else np.zeros(4)
    first = np.cumsum([0, *(len(boxes) for boxes in truths)])
    pairs = [_closest(found, boxes, margin) for found, boxes in zip(detections, truths, strict=True)]
    score = _join([found.score for found in detections], float)
    truth = _join([np.where(at < 0, -1, at + start) for (at, _), start in zip(pairs, first, strict=False)], int)
    ignore = _join([boxes.ignore for boxes in truths], bool)
    reached = _join([overlap for _, overlap in pairs], float) >= np.asarray(thresholds)[:, None]
    ignored = reached & np.append(ignore, False)[truth]
    labels = _join([boxes.label for boxes in truths], int)
    return Matches(
        image=np.repeat(np.arange(len(detections)), [len(found) for found in detections]),
        label=_join([found.label for found in detections], int),
        score=score,
        truth=truth,
        hit=_first_of_each(truth, reached & ~ignored, score),
        ignored=ignored,
        total=np.bincount(labels[~ignore], minlength=num_labels),
    )


def _join(parts: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(parts).astype(kind) if parts else np.zeros(0, kind)


def _closest(found: Detections, boxes: BoxLabels, margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each detection the truth of its label that it overlaps most (-1: none), and their IoU.

    Only pairs of one label are looked at, so that many labels of a box cost no more than they are.
    """
    order = boxes.label.argsort(kind="stable")
    first, end = (np.searchsorted(boxes.label[order], found.label, side=side) for side in ("left", "right"))
    row, place = spread(first, end - first)
    truth = order[place]
    overlap = iou(found.xyxy[row].astype(float) + margin, boxes.xyxy[truth].astype(float) + margin)
    best, highest = np.full(len(found), -1), np.zeros(len(found))
    rising = np.lexsort((-truth, overlap))  # what is written last stays: most overlap, of equal ones the first truth
    best[row[rising]], highest[row[rising]] = truth[rising], overlap[rising]
    return np.where(highest > 0, best, -1), highest


def spread(first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs of consecutive numbers, end to end: (N,) starts and lengths to the run (M,) and the number (M,) of each."""
    run = np.repeat(np.arange(len(count)), count)
    begin = np.cumsum(count) - count
    return run, first[run] + np.arange(len(run)) - begin[run]


def _first_of_each(truth: np.ndarray, reached: np.ndarray, score: np.ndarray) -> np.ndarray:
    """(T, N) bool: of the detections that reach one truth, the one with the highest score."""
    order = np.argsort(-score, kind="stable")
    hit = np.zeros_like(reached)
    for row, at_threshold in zip(hit, reached, strict=True):
        candidates = order[at_threshold[order]]
        row[candidates[np.unique(truth[candidates], return_index=True)[1]]] = True
    return hit
