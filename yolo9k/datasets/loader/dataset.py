"""Training images as the network sees them, and the loader that makes batches of them."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from yolo9k.datasets.loader.sampler import SampleRequest, StepSampler, augmentation_generator
from yolo9k.datasets.readers.records import ImageSequence, OnError
from yolo9k.errors import DataError, Yolo9kError
from yolo9k.images import read_image
from yolo9k.samples import Batch, Sample

MAX_TRIES = 100  # neighbours tried in place of an image that cannot be read


@dataclass(frozen=True)
class Failure:
    """An error on its way from a worker process to the loop, where it is raised with its message whole."""

    error: Yolo9kError


class Transform(Protocol):
    """What training does to an image that was read; it travels to worker processes."""

    def __call__(self, sample: Sample, size_wh: tuple[int, int], rng: np.random.Generator) -> Sample:
        """The sample at the size, its labels moved with it; all randomness comes from the generator."""


class TrainingDataset(Dataset):
    """Reads one image for each request, and makes it what the transform says.

    `sources`: the images of each source. `on_error`: `stop` reports an image that cannot be read, `skip` takes the
    next one of its source in its place.
    """

    def __init__(
        self, sources: Sequence[ImageSequence], transform: Transform, seed: int, on_error: OnError = "stop"
    ) -> None:
        self.sources, self.transform, self.seed, self.on_error = tuple(sources), transform, seed, on_error

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def __getitem__(self, request: SampleRequest) -> Sample | Failure:
        try:
            return self._make(request)
        except Yolo9kError as error:
            return Failure(error)

    def _make(self, request: SampleRequest) -> Sample:
        read = self._read(self.sources[request.source], request.index)
        rng = augmentation_generator(self.seed, request.step, request.position)
        return replace(self.transform(read, request.size_wh, rng), unreadable=read.unreadable)

    def _read(self, images: ImageSequence, index: int) -> Sample:
        tries = min(MAX_TRIES, len(images)) if self.on_error == "skip" else 1
        unreadable: list[str] = []
        for further in range(tries):
            record = images[(index + further) % len(images)]
            try:
                image = read_image(record.source)
                return Sample(image, record.boxes, str(record.source), record.image_label, tuple(unreadable))
            except DataError as error:
                unreadable.append(str(record.source))
                last = error
        raise last


def collate(samples: Sequence[Sample | Failure]) -> Batch | Failure:
    """A batch, or the first failure among its images."""
    failure = next((s for s in samples if isinstance(s, Failure)), None)
    return failure or Batch.of([s for s in samples if isinstance(s, Sample)])


def batches(
    images: TrainingDataset, sampler: StepSampler, workers: int, *, pin_memory: bool = False
) -> Iterator[Batch]:
    """The batches of all requests of the sampler, read ahead by `workers` processes (0: in this one).

    Raises `DataError` for an image that cannot be read, `ConfigError` for a transform that does not fit.
    """
    loader = DataLoader(
        images,
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


def make_batch(images: TrainingDataset, requests: Sequence[SampleRequest]) -> Batch:
    """The batch of these requests, made here and now: the same as the workers made.

    Raises `DataError` for an image that cannot be read, `ConfigError` for a transform that does not fit.
    """
    batch = collate([images[request] for request in requests])
    if isinstance(batch, Failure):
        raise batch.error
    return batch


def at_size(requests: Sequence[SampleRequest], size_wh: tuple[int, int]) -> list[SampleRequest]:
    """The same requests at another size."""
    return [replace(request, size_wh=size_wh) for request in requests]


def _start_worker(_: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C and batch systems tell all processes of a run
        signal.signal(number, signal.SIG_IGN)  # the loop saves, and then ends the workers
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
