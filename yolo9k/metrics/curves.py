"""Precision, recall and F1 over confidence, and precision over recall, per label."""

from dataclasses import dataclass

import numpy as np

from yolo9k.metrics.matching import Matches
from yolo9k.metrics.voc import counts_so_far, envelope

POINTS = 1001


@dataclass(frozen=True)
class Curves:
    """Curves of the L labels that have a truth that counts.

    `label` (L,); `grid` (P,) from 0 to 1. Over it as confidence: `precision` (0 where nothing is found),
    `recall` and `f1`; over it as recall: `envelope`, the precision that the area rule integrates. All (L, P).
    """

    label: np.ndarray
    grid: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    envelope: np.ndarray

    @property
    def best(self) -> int:
        """Where on the grid the F1, averaged over the labels, is highest."""
        return int(self.f1.mean(axis=0).argmax()) if len(self.f1) else 0

    @property
    def best_confidence(self) -> float:
        """The confidence of the highest mean F1."""
        return float(self.grid[self.best])


def curves(matches: Matches, threshold: int = 0, points: int = POINTS) -> Curves:
    """The curves at one of the thresholds (its number) of `matches`."""
    grid = np.linspace(0, 1, points)
    rows = [_of_label(matches, chosen, label, threshold, grid) for label, chosen in matches.by_label()]
    stacked = np.array(rows).reshape(len(rows), 4, points)
    return Curves(matches.present, grid, *(stacked[:, i] for i in range(4)))


def _of_label(matches: Matches, rows: np.ndarray, label: int, threshold: int, grid: np.ndarray) -> np.ndarray:
    """(4, P): precision, recall and F1 over confidence, envelope over recall."""
    counted = counts_so_far(matches, rows)
    hits, false_positives = (np.append(0, counts[threshold]) for counts in counted)
    total = matches.total[label]
    kept = np.searchsorted(-matches.score[rows], -grid, side="right")  # detections with score >= confidence
    tp, fp = hits[kept], false_positives[kept]
    best = np.append(envelope(hits, false_positives), 0.0)
    reached = np.searchsorted(hits, grid * total - 1e-9)  # the first row with that recall
    return np.stack([tp / np.maximum(tp + fp, 1), tp / total, 2 * tp / (tp + fp + total), best[reached]])
