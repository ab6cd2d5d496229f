"""Cluster anchors: k-means over box sizes with the distance d = 1 - IoU (YOLO9000 section 2, "Dimension Clusters").

Sizes and anchors are (width, height) in grid cells of the network's stride; IoU is that of boxes with the same centre.
The paper judges anchors by their average IoU, which neither the mean nor the median of a cluster maximises. Each
restart therefore runs k-means with medians, with means, or not at all, and then hill-climbs on the average IoU itself:
all restarts coarsely on few boxes, the best ones finely on many.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from yolo9k.boxes import shape_iou
from yolo9k.errors import DataError
from yolo9k.progress import Track, silent

log = logging.getLogger(__name__)

DECIMALS = 4  # of anchors in configs
RESTARTS = 48
K_MEANS_ROUNDS = 20  # hill climbing does the rest
TWIN_IOU = 0.9  # more similar anchors split their boxes by chance
SAME_IOU = 0.96  # restarts whose anchors are all more similar have ended in one peak
SIZES_COUNTED_FIRST = 1_024


class Stage(NamedTuple):
    """One stage of hill climbing: on the first `boxes` of a random sample, from the best `candidates` so far.

    Steps are relative to an anchor's side: they begin with `first_step`, and end below `last_step`.
    """

    boxes: int
    candidates: int
    first_step: float
    last_step: float


STAGES = (
    Stage(1_024, RESTARTS, 0.1, 0.02),
    Stage(8_192, 16, 0.02, 0.005),
    Stage(65_536, 4, 0.01, 0.001),
)

Centre = Callable[..., np.ndarray]
_CENTRES: tuple[Centre | None, ...] = (np.median, np.mean, None)
_MOVES = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])  # wider, narrower, taller, lower


@dataclass(frozen=True)
class Anchors:
    """Clustered anchors: `wh` (k, 2) cells, smallest area first.

    `average_iou`: mean IoU of the boxes with their best anchor; `above_half`: fraction of boxes with more than .5.
    """

    wh: np.ndarray
    average_iou: float
    above_half: float

    def __len__(self) -> int:
        return len(self.wh)

    def rounded(self) -> list[list[float]]:
        """Return the anchors as written to a config: cells with four decimals."""
        return [[round(float(side), DECIMALS) for side in wh] for wh in self.wh]

    def pixels(self, stride: int) -> np.ndarray:
        """Return the anchors (k, 2) in pixels of the letterboxed image."""
        return self.wh * stride

    def relative(self, size_wh: tuple[int, int], stride: int) -> np.ndarray:
        """Return the anchors (k, 2) as fractions of a letterboxed image of `size_wh` pixels."""
        return self.wh * stride / np.array(size_wh)


def cluster(sizes_wh: np.ndarray, k: int, seed: int = 0, track: Track = silent) -> Anchors:
    """Return the `k` anchors with the highest average IoU with boxes of `sizes_wh` (N, 2), in the unit of the sizes.

    If fewer than `k` sizes differ, that many anchors are returned, and a warning is logged. Seeded restarts run in
    `STAGES` on a random sample, and all boxes choose the best result: the same input and seed give the same anchors.
    Raises `DataError` if a size is not positive or if there is none.
    """
    sizes = _checked(sizes_wh, k)
    different = _count_different(sizes, k)
    if different < k:
        log.warning("anchors: %d instead of %d: %s", different, k, _describe_sizes(len(sizes), different))
        k = different
    rng = np.random.default_rng(seed)
    sample = sizes[rng.choice(len(sizes), min(len(sizes), STAGES[-1].boxes), replace=False)]
    few = sample[: STAGES[0].boxes]
    centres = track(_CENTRES * (RESTARTS // len(_CENTRES)), f"Clustering {k} anchors")
    candidates = [_start(few, k, centre, rng) for centre in centres]
    for stage in STAGES:
        candidates = _run(stage, sample[: stage.boxes], candidates)
    return max((measure(sizes, each) for each in candidates), key=lambda anchors: anchors.average_iou)


def _run(stage: Stage, sizes: np.ndarray, candidates: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the candidates after a stage, best first, each once: most restarts end in the same few peaks."""
    climbed = [climb(sizes, each, stage.first_step, stage.last_step) for each in candidates[: stage.candidates]]
    ranked = sorted(climbed, key=lambda anchors: measure(sizes, anchors).average_iou, reverse=True)
    different: list[np.ndarray] = []
    for anchors in ranked:
        if all(nearest(anchors, other)[1].min() <= SAME_IOU for other in different):
            different.append(anchors)
    return different


def sweep(sizes_wh: np.ndarray, ks: Sequence[int], seed: int = 0, track: Track = silent) -> list[Anchors]:
    """Run `cluster` for every number of anchors in `ks`: the curve of the paper's figure 2.

    Numbers above the count of different sizes are left out.
    """
    different = _count_different(_checked(sizes_wh, 1), max(ks, default=0))
    possible = list(dict.fromkeys(min(k, different) for k in ks))
    return [cluster(sizes_wh, k, seed) for k in track(possible, "Clustering", len(possible))]


def measure(sizes_wh: np.ndarray, anchors_wh: np.ndarray) -> Anchors:
    """Return anchors (k, 2) sorted by area, with their scores on boxes of `sizes_wh` (N, 2)."""
    _, overlap = nearest(sizes_wh, anchors_wh)
    order = np.argsort(anchors_wh.prod(axis=1), kind="stable")
    return Anchors(anchors_wh[order], float(overlap.mean()), float((overlap > 0.5).mean()))


def nearest(sizes_wh: np.ndarray, anchors_wh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each box the index of its best anchor (N,) and the IoU with it (N,)."""
    best = np.zeros(len(sizes_wh), np.int64)
    overlap = shape_iou(sizes_wh, anchors_wh[0])
    for index in range(1, len(anchors_wh)):  # several times as fast as a matrix of all pairs
        other = shape_iou(sizes_wh, anchors_wh[index])
        best[other > overlap] = index
        np.maximum(overlap, other, out=overlap)
    return best, overlap


def climb(sizes_wh: np.ndarray, anchors_wh: np.ndarray, first_step: float, last_step: float) -> np.ndarray:
    """Raise the average IoU by hill climbing from `anchors_wh`; it never decreases.

    In each round every box is assigned to its best anchor, and each anchor becomes wider, narrower, taller or lower by
    its step if that raises the summed IoU of its boxes. Success makes its step longer, failure halves it, until all
    steps are below `last_step`.
    """
    anchors, steps = anchors_wh.copy(), np.full(len(anchors_wh), first_step)
    while steps.max() > last_step:
        owner, overlap = nearest(sizes_wh, anchors)
        score = np.bincount(owner, overlap, minlength=len(anchors))
        before = score
        for move in _MOVES:
            moved = anchors * np.exp(steps[:, None] * move)
            moved_score = np.bincount(owner, shape_iou(sizes_wh, moved[owner]), minlength=len(anchors))
            better = moved_score > score * (1 + 1e-9)  # ignore gains from rounding
            anchors = np.where(better[:, None], moved, anchors)
            score = np.where(better, moved_score, score)
        steps = np.where(score > before, steps * 1.5, steps / 2)
    return anchors


def suspicions(anchors_wh: np.ndarray, grid_wh: tuple[float, float]) -> list[str]:
    """Return a one-line warning for each suspicious anchor, given anchors in cells of a grid of `grid_wh` cells."""
    warnings = []
    if (anchors_wh <= 1).all():
        warnings.append("no anchor is larger than one cell: are these fractions of the image, not grid cells?")
    too_large = (anchors_wh > 1.5 * np.array(grid_wh)).any(axis=1)
    for w, h in anchors_wh[too_large]:
        cells = f"{grid_wh[0]:g} x {grid_wh[1]:g} cells"
        warnings.append(f"anchor {w:g} x {h:g} is far larger than the image ({cells}): is it in pixels?")
    for i, j in combinations(range(len(anchors_wh)), 2):
        overlap = shape_iou(anchors_wh[i], anchors_wh[j])
        if overlap > TWIN_IOU:
            warnings.append(f"anchors {i + 1} and {j + 1} are nearly equal (IoU {overlap:.2f}): fewer may suffice")
    return warnings


def _checked(sizes_wh: np.ndarray, k: int) -> np.ndarray:
    sizes = np.asarray(sizes_wh, np.float64).reshape(-1, 2)
    if k < 1:
        raise DataError(f"{k} anchors: must be at least 1")
    bad = ~(np.isfinite(sizes) & (sizes > 0)).all(axis=1)
    if bad.any():
        w, h = sizes[bad.argmax()]
        raise DataError(f"box size {w:g} x {h:g}: sizes must be positive")
    if not len(sizes):
        raise DataError("no box; clustering anchors needs boxes")
    return sizes


def _describe_sizes(boxes: int, different: int) -> str:
    if boxes == 1:
        return "there is one box"
    return f"all {boxes:,} boxes have one size" if different == 1 else f"{boxes:,} boxes have {different} sizes"


def _count_different(sizes: np.ndarray, limit: int) -> int:
    """Return how many sizes differ by more than rounding; `limit` if more do, which few sizes mostly show."""
    for part in (sizes[:SIZES_COUNTED_FIRST], sizes):
        rounded = part.round(DECIMALS)
        different = len(np.unique(rounded[:, 0] + 1j * rounded[:, 1]))  # much faster than unique rows
        if different >= limit:
            return limit
    return different


def _start(sizes: np.ndarray, k: int, centre: Centre | None, rng: np.random.Generator) -> np.ndarray:
    """Return the start of a hill climb: k-means++ seeds, refined by k-means if a `centre` is given."""
    seeds = _seeds(sizes, k, rng)
    return seeds if centre is None else _k_means(sizes, seeds, centre)


def _seeds(sizes: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Draw box sizes by k-means++: the probability grows with the distance to the sizes drawn before."""
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
        for index in np.unique(owner):  # an anchor without boxes stays
            moved[index] = centre(sizes[owner == index], axis=0)
        if np.array_equal(moved, anchors):
            break
        anchors = moved
    return anchors
