"""Precision, recall and F1 over confidence, and precision over recall, per label."""

from dataclasses import dataclass

import numpy as np

from yolo9k.metrics.matching import Matches
from yolo9k.metrics.voc import cumulative_counts, envelope

POINTS = 1001


@dataclass(frozen=True)
class Curves:
    """Curves of the L labels with counted ground truth.

    `label` (L,); `grid` (P,) from 0 to 1. Over confidence: `precision` (0 without detections), `recall` and `f1`.
    Over recall: `envelope`, the precision that the area rule integrates. All (L, P).
    """

    label: np.ndarray
    grid: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    envelope: np.ndarray

    @property
    def best(self) -> int:
        """Return the index into the grid of the highest F1, averaged over the labels."""
        return int(self.f1.mean(axis=0).argmax()) if len(self.f1) else 0

    @property
    def best_confidence(self) -> float:
        """Return the confidence with the highest mean F1."""
        return float(self.grid[self.best])


def curves(matches: Matches, threshold: int = 0, points: int = POINTS) -> Curves:
    """Return the curves of `matches` at the IoU threshold with index `threshold`."""
    grid = np.linspace(0, 1, points)
    rows = [_curves_of_label(matches, chosen, label, threshold, grid) for label, chosen in matches.by_label()]
    stacked = np.array(rows).reshape(len(rows), 4, points)
    return Curves(matches.present, grid, *(stacked[:, i] for i in range(4)))


def _curves_of_label(matches: Matches, rows: np.ndarray, label: int, threshold: int, grid: np.ndarray) -> np.ndarray:
    """Return (4, P): precision, recall and F1 over confidence, envelope over recall."""
    counts = cumulative_counts(matches, rows)
    true_positives, false_positives = (np.append(0, count[threshold]) for count in counts)
    total = matches.total[label]
    kept = np.searchsorted(-matches.score[rows], -grid, side="right")  # detections with score >= confidence
    tp, fp = true_positives[kept], false_positives[kept]
    best = np.append(envelope(true_positives, false_positives), 0.0)
    first = np.searchsorted(true_positives, grid * total - 1e-9)  # the first row that reaches each recall
    return np.stack([tp / np.maximum(tp + fp, 1), tp / total, 2 * tp / (tp + fp + total), best[first]])
