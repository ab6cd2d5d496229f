"""Which pictures make up which step, and at which size: functions of (seed, step) alone.

So a resumed run, and any number of processes, see the same pictures in the same order.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

ORDER, SIZE, PICTURE = range(3)  # keeps the random streams of one seed apart


@dataclass(frozen=True)
class Request:
    """One picture of a step: `index` in the data set, `position` in the step's batch, the size to make."""

    index: int
    step: int
    position: int
    size_wh: tuple[int, int]


def size_of_step(step: int, sizes: Sequence[tuple[int, int]], period: int, seed: int) -> tuple[int, int]:
    """The network's size at a step: drawn anew every `period` steps (YOLO9000, multi-scale training)."""
    if len(sizes) == 1:
        return sizes[0]
    return sizes[int(np.random.default_rng([seed, SIZE, step // period]).integers(len(sizes)))]


def picture_generator(seed: int, step: int, position: int) -> np.random.Generator:
    """The randomness of one picture's augmentation."""
    return np.random.default_rng([seed, PICTURE, step, position])


@dataclass(frozen=True)
class StepSampler:
    """Batches of requests for steps `first` to `last` (exclusive), each step in `accumulate` parts.

    Every picture comes once before any comes again; an epoch may end inside a batch.
    """

    num_pictures: int
    batch: int
    accumulate: int
    sizes: tuple[tuple[int, int], ...]
    size_period: int
    seed: int
    first: int
    last: int

    def __len__(self) -> int:
        return (self.last - self.first) * self.accumulate

    def __iter__(self) -> Iterator[list[Request]]:
        part = self.batch // self.accumulate
        for step in range(self.first, self.last):
            requests = self.step(step)
            for start in range(0, self.batch, part):
                yield requests[start : start + part]

    def step(self, step: int) -> list[Request]:
        """All pictures of one step."""
        size = size_of_step(step, self.sizes, self.size_period, self.seed)
        places = range(step * self.batch, (step + 1) * self.batch)
        return [Request(self._picture(place), step, i, size) for i, place in enumerate(places)]

    def _picture(self, place: int) -> int:
        epoch, within = divmod(place, self.num_pictures)
        return int(self._order(epoch)[within])

    def _order(self, epoch: int) -> np.ndarray:
        cached = self.__dict__.get("_orders")
        if cached is None or epoch not in cached:
            order = np.random.default_rng([self.seed, ORDER, epoch]).permutation(self.num_pictures)
            cached = {**{e: o for e, o in (cached or {}).items() if e >= epoch - 1}, epoch: order}
            object.__setattr__(self, "_orders", cached)
        return cached[epoch]
