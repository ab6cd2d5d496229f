"""Training pictures as the network sees them, and the loader that makes batches of them."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from yolo9k.config.schema import AugmentConfig
from yolo9k.datasets.augment import Change, transforms
from yolo9k.datasets.recipes import apply_recipe
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


class TrainingPictures(Dataset):
    """Reads, augments and letterboxes one picture for each request.

    `sources`: the pictures of each source. `on_error`: `stop` reports a picture that cannot be read, `skip` takes the
    next one of its source in its place.
    """

    def __init__(
        self, sources: Sequence[Pictures], augment: AugmentConfig, seed: int, on_error: OnError = "stop"
    ) -> None:
        self.sources, self.augment, self.seed, self.on_error = tuple(sources), augment, seed, on_error
        self._change: Change | None = None
        transforms(augment.transforms)  # a wrong name is reported here, before any worker starts

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_change": None}  # a worker builds its own: transforms do not travel

    def __getitem__(self, request: Request) -> Sample | Failure:
        try:
            return self._make(request)
        except Yolo9kError as error:
            return Failure(error)

    def _make(self, request: Request) -> Sample:
        read = sample = self._read(self.sources[request.source], request.index)
        rng = picture_generator(self.seed, request.step, request.position)
        if self.augment.transforms:
            self._change = self._change or transforms(self.augment.transforms)
            assert self._change is not None
            sample = self._change(sample, rng)
        made = apply_recipe(sample, request.size_wh, self.augment, rng)
        return replace(made, unreadable=read.unreadable)

    def _read(self, pictures: Pictures, index: int) -> Sample:
        tries = min(MOST_TRIES, len(pictures)) if self.on_error == "skip" else 1
        unreadable: list[str] = []
        for further in range(tries):
            record = pictures[(index + further) % len(pictures)]
            try:
                image = read_image(record.path)
                return Sample(image, record.boxes, str(record.path), record.image_label, tuple(unreadable))
            except DataError as error:
                unreadable.append(str(record.path))
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


def _start_worker(number: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the loop's to handle, which then ends the workers
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
