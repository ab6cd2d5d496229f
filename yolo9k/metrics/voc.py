"""Average precision as PASCAL VOC defines it: over 11 points (VOC 2007) and as an area (since VOC 2010).

The main metric `map50` is the area rule at IoU >= .5 without VOC's additional pixel, averaged over the labels with at
least one counted ground truth.
"""

from collections.abc import Callable

import numpy as np

from yolo9k.metrics.matching import Matches

# Multiples of .1 in binary, as in the Python evaluators behind published numbers: .3, .6 and .7 are slightly
# too large, so a recall of exactly 3/10 does not reach its point.
ELEVEN_POINTS = np.arange(11) * 0.1

ApRule = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def envelope(true_positives: np.ndarray, false_positives: np.ndarray) -> np.ndarray:
    """Return the highest precision at this or any later row, which makes precision fall monotonically over recall.

    Both arguments (..., N) are cumulative counts, highest score first.
    """
    precision = true_positives / np.maximum(true_positives + false_positives, 1)
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def area_under_envelope(true_positives: np.ndarray, false_positives: np.ndarray, total: int) -> np.ndarray:
    """Return the area under the envelope (...), from cumulative counts (..., N) and `total` ground truths."""
    steps = np.diff(true_positives, axis=-1, prepend=0)
    return (steps * envelope(true_positives, false_positives)).sum(axis=-1) / total


def eleven_point(true_positives: np.ndarray, false_positives: np.ndarray, total: int) -> np.ndarray:
    """Return the mean of the highest precision at recall >= 0, .1, ... 1 (...), from cumulative counts (..., N)."""
    best, recall = envelope(true_positives, false_positives), true_positives / total
    return sum(np.where(recall >= point, best, 0).max(axis=-1, initial=0) for point in ELEVEN_POINTS) / 11


def average_precision(matches: Matches, rule: ApRule = area_under_envelope) -> np.ndarray:
    """Return the average precision at each threshold (T, K); NaN for labels without counted ground truth."""
    result = np.full((len(matches.true_positive), len(matches.total)), np.nan)
    for label, rows in matches.by_label():
        true_positives, false_positives = cumulative_counts(matches, rows)
        result[:, label] = rule(true_positives, false_positives, int(matches.total[label]))
    return result


def cumulative_counts(matches: Matches, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cumulative counts of true and false positives over the rows (N,), both (T, N)."""
    true_positive, ignored = matches.true_positive[:, rows], matches.ignored[:, rows]
    return true_positive.cumsum(axis=1), (~true_positive & ~ignored).cumsum(axis=1)


def mean(values: np.ndarray) -> float:
    """Return the mean over labels that have a value; NaN if none has one."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
