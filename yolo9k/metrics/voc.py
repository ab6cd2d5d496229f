"""Average precision as PASCAL VOC defines it: over 11 points (VOC 2007) and as an area (from VOC 2010 on).

The headline `map50` is the area rule at IoU >= .5 without VOC's additional pixel, averaged over the labels
with at least one truth that counts.
"""

from collections.abc import Callable

import numpy as np

from yolo9k.metrics.matching import Matches

# Multiples of .1 in binary, as in the Python evaluators behind published numbers: .3, .6 and .7 come out a
# hair above, so that a recall of exactly 3/10 does not reach its point.
ELEVEN_POINTS = np.arange(11) * 0.1

ApRule = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def envelope(hits: np.ndarray, false_positives: np.ndarray) -> np.ndarray:
    """The highest precision at this or any later row: what makes a precision-recall curve fall steadily.

    Both arguments (..., N) are counts so far, best score first.
    """
    precision = hits / np.maximum(hits + false_positives, 1)
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def area(hits: np.ndarray, false_positives: np.ndarray, total: int) -> np.ndarray:
    """(...) area under the envelope, from counts so far (..., N) of `total` truths."""
    steps = np.diff(hits, axis=-1, prepend=0)
    return (steps * envelope(hits, false_positives)).sum(axis=-1) / total


def eleven_point(hits: np.ndarray, false_positives: np.ndarray, total: int) -> np.ndarray:
    """(...) mean of the highest precision at recall >= 0, .1, ... 1, from counts so far (..., N)."""
    best, recall = envelope(hits, false_positives), hits / total
    return sum(np.where(recall >= point, best, 0).max(axis=-1, initial=0) for point in ELEVEN_POINTS) / 11


def average_precision(matches: Matches, rule: ApRule = area) -> np.ndarray:
    """(T, K) average precision at each threshold; NaN for labels without a truth that counts."""
    result = np.full((len(matches.hit), len(matches.total)), np.nan)
    for label, rows in matches.by_label():
        hits, false_positives = counts_so_far(matches, rows)
        result[:, label] = rule(hits, false_positives, int(matches.total[label]))
    return result


def counts_so_far(matches: Matches, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hits and false positives up to each of the rows (N,), both (T, N)."""
    hit, ignored = matches.hit[:, rows], matches.ignored[:, rows]
    return hit.cumsum(axis=1), (~hit & ~ignored).cumsum(axis=1)


def mean(values: np.ndarray) -> float:
    """The mean over labels that have a value; NaN where none has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
