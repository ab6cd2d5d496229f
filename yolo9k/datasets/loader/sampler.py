"""Which images make up which step, and at which size: functions of (seed, step) alone.

So a resumed run, and any number of processes, see the same images in the same order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

ORDER, SIZE, IMAGE = range(3)  # keeps the random streams of one seed apart


@dataclass(frozen=True)
class SampleRequest:
    """One image of a step: `index` in its source, `position` in the step's batch, the size to make."""

    index: int
    step: int
    position: int
    size_wh: tuple[int, int]
    source: int = 0


def size_of_step(step: int, sizes: Sequence[tuple[int, int]], period: int, seed: int) -> tuple[int, int]:
    """The network's size at a step: drawn anew every `period` steps (YOLO9000, multi-scale training)."""
    if len(sizes) == 1:
        return sizes[0]
    return sizes[int(np.random.default_rng([seed, SIZE, step // period]).integers(len(sizes)))]


def augmentation_generator(seed: int, step: int, position: int) -> np.random.Generator:
    """The randomness of one image's augmentation."""
    return np.random.default_rng([seed, IMAGE, step, position])


class SampleOrder:
    """The endless order of the images of some sources: at each place, which source and which image of it.

    Of as many images as all sources have weights, each source has its own. Every image of a source comes once
    before any of it comes again.
    """

    def __init__(self, counts: Sequence[int], seed: int, weights: Sequence[int] = (1,)) -> None:
        self.counts, self.weights, self.seed = tuple(counts), tuple(weights), seed
        self._period = interleaved(self.weights)
        self._rank = [self._period[:place].count(source) for place, source in enumerate(self._period)]
        self._orders: dict[int, tuple[int, np.ndarray]] = {}  # the latest epoch of each source: they are large

    def __getitem__(self, place: int) -> tuple[int, int]:
        periods, within = divmod(place, len(self._period))
        source = self._period[within]
        epoch, number = divmod(periods * self.weights[source] + self._rank[within], self.counts[source])
        return source, int(self._order(source, epoch)[number])

    def _order(self, source: int, epoch: int) -> np.ndarray:
        known = self._orders.get(source)
        if known is None or known[0] != epoch:
            key = [self.seed, ORDER, epoch, source] if source else [self.seed, ORDER, epoch]
            known = epoch, np.random.default_rng(key).permutation(self.counts[source])
            self._orders[source] = known
        return known[1]


def interleaved(weights: Sequence[int]) -> list[int]:
    """One period of the sources, each as often as its weight and as evenly as can be."""
    positions = [((2 * i + 1) / (2 * weight), source) for source, weight in enumerate(weights) for i in range(weight)]
    return [source for _, source in sorted(positions)]


@dataclass(frozen=True)
class StepSampler:
    """Batches of requests for steps `first` to `last` (exclusive), each step in `accumulate` parts.

    An epoch may end inside a batch.
    """

    stream: SampleOrder
    batch: int
    accumulate: int
    sizes: tuple[tuple[int, int], ...]
    size_period: int
    first: int
    last: int

    def __len__(self) -> int:
        return (self.last - self.first) * self.accumulate

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        part = self.batch // self.accumulate
        for step in range(self.first, self.last):
            requests = self.step(step)
            for start in range(0, self.batch, part):
                yield requests[start : start + part]

    def step(self, step: int) -> list[SampleRequest]:
        """All images of one step."""
        size = size_of_step(step, self.sizes, self.size_period, self.stream.seed)
        chosen = (self.stream[place] for place in range(step * self.batch, (step + 1) * self.batch))
        return [SampleRequest(index, step, i, size, source) for i, (source, index) in enumerate(chosen)]
