"""Collate samples to batches, in worker processes (`load_batches`) or in this one (`make_batch`)."""

import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import torch
from torch.utils.data import DataLoader

from yolo9k.datasets.loader.dataset import FailedSample, TrainingDataset
from yolo9k.datasets.loader.sampler import SampleRequest, StepSampler
from yolo9k.samples import Batch, Sample

PREFETCH_FACTOR = 4  # batches that each worker loads in advance


def load_batches(
    dataset: TrainingDataset, sampler: StepSampler, workers: int, *, pin_memory: bool = False
) -> Iterator[Batch]:
    """Yield the micro-batches of the sampler, loaded in advance by `workers` processes (0: in this process).

    Raises `DataError` for an unreadable image, `ConfigError` for a transform that cannot be applied.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_initialise_worker,
        prefetch_factor=PREFETCH_FACTOR if workers else None,
    )
    for batch in loader:
        yield _checked(batch)


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


def _initialise_worker(_: int) -> None:
    for signal_number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C and job schedulers signal all processes of a run
        signal.signal(signal_number, signal.SIG_IGN)  # the training loop saves first, then ends the workers
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
