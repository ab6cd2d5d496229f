"""Collate samples to batches, in worker processes (`load_batches`) or in this one (`make_batch`)."""

import multiprocessing
import multiprocessing.connection
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.process import BaseProcess

import cv2
import torch
from torch.utils.data import DataLoader

from yolo9k import signals
from yolo9k.datasets.loader.dataset import FailedSample, TrainingDataset
from yolo9k.datasets.loader.sampler import SampleRequest, StepSampler
from yolo9k.errors import MachineError
from yolo9k.hardware import WORKER_KILLED
from yolo9k.progress import Item
from yolo9k.samples import Batch, Sample

PREFETCH_FACTOR = 4  # batches that each worker loads in advance


def load_batches(
    dataset: TrainingDataset, sampler: StepSampler, workers: int, *, pin_memory: bool = False
) -> Iterator[Batch]:
    """Yield the micro-batches of the sampler, loaded in advance by `workers` processes (0: in this process).

    Raises `DataError` for an unreadable image, `ConfigError` for a transform that cannot be applied, `MachineError` if
    a worker is killed.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=partial(_initialise_worker, os.getpid()),
        prefetch_factor=PREFETCH_FACTOR if workers else None,
    )
    others = set(multiprocessing.active_children())
    try:
        with signals.delayed():
            batches = iter(loader)
        started = set(multiprocessing.active_children()) - others
        for batch in _received(batches, started):
            yield _checked(batch)
    finally:
        _end(set(multiprocessing.active_children()) - others)


def make_batch(dataset: TrainingDataset, requests: Sequence[SampleRequest]) -> Batch:
    """Load the batch of these requests in this process; it equals the one that workers load.

    Raises `DataError` for an unreadable image, `ConfigError` for a transform that cannot be applied.
    """
    return _checked(collate([dataset[request] for request in requests]))


def collate(samples: Sequence[Sample | FailedSample]) -> Batch | FailedSample:
    """Collate samples to a batch; return the first failed sample if there is one."""
    failed = next((s for s in samples if isinstance(s, FailedSample)), None)
    return failed or Batch.of([s for s in samples if isinstance(s, Sample)])


def _checked(batch: Batch | FailedSample) -> Batch:
    if isinstance(batch, FailedSample):
        raise batch.error
    return batch


def resize_requests(requests: Sequence[SampleRequest], size_wh: tuple[int, int]) -> list[SampleRequest]:
    """Return the same requests at another input size."""
    return [replace(request, size_wh=size_wh) for request in requests]


def _received(batches: Iterator[Item], workers: Iterable[BaseProcess]) -> Iterator[Item]:
    """Yield the batches. Raises `MachineError` if a worker was killed, which may break any part of its connection."""
    try:
        yield from batches
    except (RuntimeError, OSError, EOFError) as error:
        if multiprocessing.connection.wait([worker.sentinel for worker in workers], timeout=1):
            raise MachineError(WORKER_KILLED) from error
        raise


def _end(workers: Iterable[BaseProcess]) -> None:
    """End workers at once: they write no files, and one that hangs would keep the program from ending."""
    for worker in workers:
        with suppress(RuntimeError):  # torch's signal handler says that a worker was killed
            worker.kill()
            worker.join()


def _initialise_worker(parent: int, _: int) -> None:
    if hasattr(os, "fork") and os.getppid() != parent:  # killed since: torch checks only changes
        os._exit(1)
    signals.ignore()  # all processes of a run get them: the training loop saves first, then ends the workers
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
