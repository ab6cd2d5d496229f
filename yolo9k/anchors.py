"""Anchors: k-means over box sizes with the distance d = 1 - IoU (YOLO9000, section 2, "Dimension Clusters").

Sizes and anchors are (width, height) in grid cells of the network's stride; overlaps are those of boxes that
share their centre. The paper judges anchors by their average IoU, and neither the mean nor the median of a
cluster maximises that. So the restarts lead on by medians, by means or not at all, and then all of them climb
on the average IoU itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from yolo9k.boxes import shape_iou
from yolo9k.errors import DataError
from yolo9k.progress import Track, silent

CHUNK = 65_536  # boxes whose (boxes, anchors) overlaps are in memory at one time
SAMPLE = 4_096  # boxes that the restarts look at; the best result is then refined on all boxes
RESTARTS = 48
FIRST_STEP, FINE_STEP, LAST_STEP = 0.1, 0.01, 0.001  # of the climb, relative to an anchor's side
K_MEANS_ROUNDS = 20  # the climb finishes
TWIN_IOU = 0.9  # anchors that overlap by more share their boxes by chance

Centre = Callable[..., np.ndarray]
_CENTRES: tuple[Centre | None, ...] = (np.median, np.mean, None)
_MOVES = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])  # wider, narrower, taller, lower


@dataclass(frozen=True)
class Anchors:
    """Clustered anchors: `wh` (k, 2) cells, smallest area first.

    `average_iou`: mean over the boxes of the IoU with the best anchor; `above_half`: share of boxes where
    that IoU is above .5.
    """

    wh: np.ndarray
    average_iou: float
    above_half: float

    def __len__(self) -> int:
        return len(self.wh)

    def rounded(self) -> list[list[float]]:
        """The anchors as a config has them: cells with four decimals."""
        return [[round(float(side), 4) for side in wh] for wh in self.wh]

    def pixels(self, stride: int) -> np.ndarray:
        """(k, 2) pixels of the letterboxed image."""
        return self.wh * stride

    def relative(self, size_wh: tuple[int, int], stride: int) -> np.ndarray:
        """(k, 2) fractions of a letterboxed image of `size_wh` pixels."""
        return self.wh * stride / np.array(size_wh)


def cluster(sizes_wh: np.ndarray, k: int, seed: int = 0, track: Track = silent) -> Anchors:
    """The `k` anchors of the best average IoU with boxes of `sizes_wh` (N, 2), in the unit of the sizes.

    Many seeded restarts on at most `SAMPLE` boxes, the best of them refined on all: the same input and seed
    give the same anchors. Raises `DataError` for sizes that are not positive and for fewer than `k` different
    ones.
    """
    sizes = _checked(sizes_wh, k)
    rng = np.random.default_rng(seed)
    sample = sizes if len(sizes) <= SAMPLE else sizes[rng.choice(len(sizes), SAMPLE, replace=False)]
    centres = track(_CENTRES * (RESTARTS // len(_CENTRES)), f"Clustering {k} anchors")
    found = [climb(sample, _start(sample, k, centre, rng), FIRST_STEP) for centre in centres]
    best = max(found, key=lambda anchors: measure(sample, anchors).average_iou)
    return measure(sizes, best if sample is sizes else climb(sizes, best, FINE_STEP))


def sweep(sizes_wh: np.ndarray, ks: Sequence[int], seed: int = 0, track: Track = silent) -> list[Anchors]:
    """`cluster` for every number of anchors in `ks`: the curve of the paper's figure 2."""
    return [cluster(sizes_wh, k, seed) for k in track(ks, "Clustering", len(ks))]


def measure(sizes_wh: np.ndarray, anchors_wh: np.ndarray) -> Anchors:
    """Any anchors (k, 2), sorted by area, with their scores on boxes of `sizes_wh` (N, 2)."""
    _, overlap = nearest(sizes_wh, anchors_wh)
    order = np.argsort(anchors_wh.prod(axis=1), kind="stable")
    return Anchors(anchors_wh[order], float(overlap.mean()), float((overlap > 0.5).mean()))


def nearest(sizes_wh: np.ndarray, anchors_wh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each box the number of its best anchor (N,) and the IoU with it (N,)."""
    best = np.empty(len(sizes_wh), np.int64)
    overlap = np.empty(len(sizes_wh))
    for part in _chunks(len(sizes_wh)):
        pairs = shape_iou(sizes_wh[part, None], anchors_wh[None])
        best[part] = pairs.argmax(axis=1)
        overlap[part] = pairs.max(axis=1)
    return best, overlap


def climb(sizes_wh: np.ndarray, anchors_wh: np.ndarray, step: float) -> np.ndarray:
    """Anchors of a higher average IoU, by hill climbing from `anchors_wh`; it never falls.

    Round by round each box goes to its best anchor, and each anchor is made wider, narrower, taller or lower
    by its step where that raises the summed IoU of its boxes. Success makes its step longer, failure halves
    it, until all are below `LAST_STEP`.
    """
    anchors, steps = anchors_wh.copy(), np.full(len(anchors_wh), step)
    while steps.max() > LAST_STEP:
        owner, overlap = nearest(sizes_wh, anchors)
        score = np.bincount(owner, overlap, minlength=len(anchors))
        before = score
        for move in _MOVES:
            moved = anchors * np.exp(steps[:, None] * move)
            moved_score = np.bincount(owner, shape_iou(sizes_wh, moved[owner]), minlength=len(anchors))
            better = moved_score > score * (1 + 1e-9)  # rounding is no progress
            anchors = np.where(better[:, None], moved, anchors)
            score = np.where(better, moved_score, score)
        steps = np.where(score > before, steps * 1.5, steps / 2)
    return anchors


def suspicions(anchors_wh: np.ndarray, grid_wh: tuple[float, float]) -> list[str]:
    """What looks wrong about anchors that should be in cells of a grid of `grid_wh` cells, one line each."""
    found = []
    if (anchors_wh <= 1).all():
        found.append("no anchor is larger than one cell: are these fractions of the image, not grid cells?")
    too_large = (anchors_wh > 1.5 * np.array(grid_wh)).any(axis=1)
    for w, h in anchors_wh[too_large]:
        cells = f"{grid_wh[0]:g} x {grid_wh[1]:g} cells"
        found.append(f"anchor {w:g} x {h:g} is far larger than the image ({cells}): is it in pixels?")
    for i, j in combinations(range(len(anchors_wh)), 2):
        overlap = shape_iou(anchors_wh[i], anchors_wh[j])
        if overlap > TWIN_IOU:
            found.append(f"anchors {i + 1} and {j + 1} are nearly equal (IoU {overlap:.2f}): fewer may do as well")
    return found


def _checked(sizes_wh: np.ndarray, k: int) -> np.ndarray:
    sizes = np.asarray(sizes_wh, np.float64).reshape(-1, 2)
    if k < 1:
        raise DataError(f"{k} anchors: at least one is needed")
    bad = ~(np.isfinite(sizes) & (sizes > 0)).all(axis=1)
    if bad.any():
        w, h = sizes[bad.argmax()]
        raise DataError(f"box size {w:g} x {h:g}: sizes to cluster must be positive")
    different = len(np.unique(sizes[:, 0] + 1j * sizes[:, 1]))  # many times faster than by rows
    if different < k:
        raise DataError(f"{len(sizes)} boxes of {different} different sizes do not make {k} anchors: ask for fewer")
    return sizes


def _start(sizes: np.ndarray, k: int, centre: Centre | None, rng: np.random.Generator) -> np.ndarray:
    """Where a restart begins its climb: seeds as drawn, or led on by k-means with a `centre`."""
    seeds = _seeds(sizes, k, rng)
    return seeds if centre is None else _k_means(sizes, seeds, centre)


def _seeds(sizes: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """k-means++: box sizes drawn with a chance that grows with the distance to those drawn before."""
    seeds = sizes[rng.integers(len(sizes), size=1)]
    while len(seeds) < k:
        distance = 1 - nearest(sizes, seeds)[1] + 1e-12  # a sample may hold fewer than k different sizes
        drawn = rng.choice(len(sizes), p=distance / distance.sum())
        seeds = np.concatenate([seeds, sizes[drawn, None]])
    return seeds


def _k_means(sizes: np.ndarray, anchors: np.ndarray, centre: Centre) -> np.ndarray:
    for _ in range(K_MEANS_ROUNDS):
        owner, _ = nearest(sizes, anchors)
        moved = anchors.copy()
        for number in np.unique(owner):  # an anchor without boxes stays where it is
            moved[number] = centre(sizes[owner == number], axis=0)
        if np.array_equal(moved, anchors):
            break
        anchors = moved
    return anchors


def _chunks(length: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, length, CHUNK))
