"""Choose the images and the input size of each training step, as a function of (seed, step) alone.

So a resumed run sees the same images in the same order, with any number of workers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from yolo9k.processes import share

ORDER, SIZE, IMAGE = range(3)  # keys that keep the random streams of one seed apart


@dataclass(frozen=True)
class SampleRequest:
    """A request for one image of a step.

    `index`: of the image in its source. `position`: of the image in the step's batch. `size_wh`: input size of the
    network. `source`: index of the source.
    """

    index: int
    step: int
    position: int
    size_wh: tuple[int, int]
    source: int = 0


def draw_size(step: int, sizes: Sequence[tuple[int, int]], period: int, seed: int) -> tuple[int, int]:
    """Return the input size of a step: drawn anew every `period` steps (YOLO9000, multi-scale training)."""
    if len(sizes) == 1:
        return sizes[0]
    return sizes[int(np.random.default_rng([seed, SIZE, step // period]).integers(len(sizes)))]


def augmentation_generator(seed: int, step: int, position: int) -> np.random.Generator:
    """Return the random generator for the augmentation of one image of a step."""
    return np.random.default_rng([seed, IMAGE, step, position])


class SampleOrder:
    """The endless order of training images: `order[position]` is (source, index of the image in the source).

    `counts`: images per source. `weights`: sampling weights; each period of `sum(weights)` images has `weights[i]` of
    source i. Each source is shuffled anew in each of its epochs, so every image of it comes once per epoch.
    """

    def __init__(self, counts: Sequence[int], seed: int, weights: Sequence[int] = (1,)) -> None:
        self.counts, self.weights, self.seed = tuple(counts), tuple(weights), seed
        self._period = interleave(self.weights)
        self._rank = [self._period[:i].count(source) for i, source in enumerate(self._period)]
        self._permutations: dict[int, tuple[int, np.ndarray]] = {}  # only the latest epoch per source: they are large

    def __getitem__(self, position: int) -> tuple[int, int]:
        periods, offset = divmod(position, len(self._period))
        source = self._period[offset]
        epoch, index = divmod(periods * self.weights[source] + self._rank[offset], self.counts[source])
        return source, int(self._permutation(source, epoch)[index])

    def _permutation(self, source: int, epoch: int) -> np.ndarray:
        cached = self._permutations.get(source)
        if cached is None or cached[0] != epoch:
            key = [self.seed, ORDER, epoch, source] if source else [self.seed, ORDER, epoch]
            cached = epoch, np.random.default_rng(key).permutation(self.counts[source])
            self._permutations[source] = cached
        return cached[1]


def interleave(weights: Sequence[int]) -> list[int]:
    """Return one period of source indices: each source as often as its weight, spread as evenly as possible."""
    positions = [((2 * i + 1) / (2 * weight), source) for source, weight in enumerate(weights) for i in range(weight)]
    return [source for _, source in sorted(positions)]


@dataclass(frozen=True)
class StepSampler:
    """Yields micro-batches of requests for steps `start` to `stop` (exclusive), `accumulate` per step.

    `batch`: batch size (images per optimiser step). `size_period`: steps between draws from `sizes`. An epoch may end
    inside a batch. `part` of `parts`: with several processes, the part of each micro-batch that this one gets.
    """

    order: SampleOrder
    batch: int
    accumulate: int
    sizes: tuple[tuple[int, int], ...]
    size_period: int
    start: int
    stop: int
    part: int = 0
    parts: int = 1

    def __len__(self) -> int:
        return (self.stop - self.start) * self.accumulate

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        for step in range(self.start, self.stop):
            yield from self.micro_batches(step, self.part)

    def micro_batches(self, step: int, part: int) -> Iterator[list[SampleRequest]]:
        """Yield the requests of process `part` in each micro-batch of one step."""
        requests, size = self.requests(step), self.batch // self.accumulate
        for first in range(0, self.batch, size):
            yield list(share(requests[first : first + size], part, self.parts))

    def requests(self, step: int) -> list[SampleRequest]:
        """Return the requests of all images of one step, of all processes."""
        size_wh = draw_size(step, self.sizes, self.size_period, self.order.seed)
        chosen = (self.order[position] for position in range(step * self.batch, (step + 1) * self.batch))
        return [SampleRequest(index, step, i, size_wh, source) for i, (source, index) in enumerate(chosen)]
