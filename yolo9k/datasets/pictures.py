"""Training pictures as the network sees them, and the loader that makes batches of them."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from yolo9k.datasets.records import OnError, Pictures
from yolo9k.datasets.sampler import Request, StepSampler, picture_generator
from yolo9k.errors import DataError, Yolo9kError
from yolo9k.images import read_image
from yolo9k.samples import Batch, Sample

MOST_TRIES = 100  # neighbours tried in place of a picture that cannot be read


@dataclass(frozen=True)
class Failure:
    """An error on its way from a worker process to the loop, where it is raised with its message whole."""

    error: Yolo9kError


class Recipe(Protocol):
    """What training does to a picture that was read; it travels to worker processes."""

    def __call__(self, sample: Sample, size_wh: tuple[int, int], rng: np.random.Generator) -> Sample:
        """The sample at the size, its labels moved with it; all randomness comes from the generator."""


class TrainingPictures(Dataset):
    """Reads one picture for each request, and makes it what the recipe says.

    `sources`: the pictures of each source. `on_error`: `stop` reports a picture that cannot be read, `skip` takes the
    next one of its source in its place.
    """

    def __init__(self, sources: Sequence[Pictures], recipe: Recipe, seed: int, on_error: OnError = "stop") -> None:
        self.sources, self.recipe, self.seed, self.on_error = tuple(sources), recipe, seed, on_error

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def __getitem__(self, request: Request) -> Sample | Failure:
        try:
            return self._make(request)
        except Yolo9kError as error:
            return Failure(error)

    def _make(self, request: Request) -> Sample:
        read = self._read(self.sources[request.source], request.index)
        rng = picture_generator(self.seed, request.step, request.position)
        return replace(self.recipe(read, request.size_wh, rng), unreadable=read.unreadable)

    def _read(self, pictures: Pictures, index: int) -> Sample:
        tries = min(MOST_TRIES, len(pictures)) if self.on_error == "skip" else 1
        unreadable: list[str] = []
        for further in range(tries):
            record = pictures[(index + further) % len(pictures)]
            try:
                image = read_image(record.source)
                return Sample(image, record.boxes, str(record.source), record.image_label, tuple(unreadable))
            except DataError as error:
                unreadable.append(str(record.source))
                last = error
        raise last


def collate(samples: Sequence[Sample | Failure]) -> Batch | Failure:
    """A batch, or the first failure among its pictures."""
    failure = next((s for s in samples if isinstance(s, Failure)), None)
    return failure or Batch.of([s for s in samples if isinstance(s, Sample)])


def batches(
    pictures: TrainingPictures, sampler: StepSampler, workers: int, *, pin_memory: bool = False
) -> Iterator[Batch]:
    """The batches of all requests of the sampler, read ahead by `workers` processes (0: in this one).

    Raises `DataError` for a picture that cannot be read, `ConfigError` for a transform that does not fit.
    """
    loader = DataLoader(
        pictures,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if workers else None,
    )
    for batch in loader:
        if isinstance(batch, Failure):
            raise batch.error
        yield batch


def make_batch(pictures: TrainingPictures, requests: Sequence[Request]) -> Batch:
    """The batch of these requests, made here and now: the same as the workers made.

    Raises `DataError` for a picture that cannot be read, `ConfigError` for a transform that does not fit.
    """
    batch = collate([pictures[request] for request in requests])
    if isinstance(batch, Failure):
        raise batch.error
    return batch


def at_size(requests: Sequence[Request], size_wh: tuple[int, int]) -> list[Request]:
    """The same requests at another size."""
    return [replace(request, size_wh=size_wh) for request in requests]


def _start_worker(_: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C and batch systems tell all processes of a run
        signal.signal(number, signal.SIG_IGN)  # the loop saves, and then ends the workers
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
