"""Measure training speed and the speed of the bare network, without loading, augmentation and region loss."""

import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from yolo9k.bench.timing import seconds_per_call
from yolo9k.config import Config, updated
from yolo9k.datasets.loader.batches import PREFETCH_FACTOR, load_batches, make_batch
from yolo9k.hardware import autocast, choose_workers
from yolo9k.progress import Track, silent
from yolo9k.samples import Batch
from yolo9k.training.optimizer import set_learning_rate
from yolo9k.training.run import Run
from yolo9k.training.tasks.detection import DetectionStep, DetectionTask

LEARNING_RATE = 1e-6  # so small that the measured steps hardly change the weights
WARMUP_STEPS = 2  # not timed: workers start, cuDNN chooses kernels


@dataclass(frozen=True)
class Speed:
    """Speeds in images/s: medians over the rounds.

    `ratio`: training speed / bare network speed. `loss_ratio`: time of the loss / time of a bare step.
    """

    device: str
    precision: str
    size: str
    bare: float
    training: float
    ratio: float
    loss_ratio: float


def measure(config: Config, *, steps: int, rounds: int, track: Track = silent) -> Speed:
    """Time `steps` training steps with real data, then as many of the bare network on one batch, `rounds` times.

    The bare step is forward, the mean square in place of the loss, backward and the optimiser. There is no gradient
    accumulation, and `data.size` is the only input size.
    """
    config = updated(config, {"train.accumulate": 1, "data.sizes": ()})
    with tempfile.TemporaryDirectory() as folder:
        task = DetectionTask(config, track)
        run = Run(task, Path(folder))
        batch = make_batch(run.task.dataset, run.sampler(0, 1).requests(0)).to(run.device)
        _bare_step(run, batch)
        features = _features(run, batch)
        bare, real, loss_ratios = [], [], []
        for index in track(range(rounds), "Measuring"):
            real.append(_time_training(run, index * steps, steps))
            bare.append(seconds_per_call(run.device, lambda: _bare_step(run, batch), steps))
            loss = seconds_per_call(run.device, lambda: _loss_step(run, batch, features), steps)
            loss_ratios.append(loss / bare[-1])
    batch_size = run.config.train.batch
    ratios = [b / r for b, r in zip(bare, real, strict=True)]
    w, h = run.config.data.size
    return Speed(
        device=str(run.device), precision=run.precision, size=f"{w}x{h}, batch {batch_size}",
        bare=batch_size / statistics.median(bare), training=batch_size / statistics.median(real),
        ratio=statistics.median(ratios), loss_ratio=statistics.median(loss_ratios),
    )  # fmt: skip


def _time_training(run: Run, first: int, steps: int) -> float:
    """Return the seconds of one complete training step, loading included.

    The sampler has more steps than are measured, so that the workers load in advance until the end, as in a long run;
    otherwise the batches that they loaded before the start would count as free.
    """
    workers = choose_workers(run.config.data.workers)
    prefetched = PREFETCH_FACTOR * max(workers, 1)
    loaded = load_batches(run.task.dataset, run.sampler(first, first + WARMUP_STEPS + steps + prefetched), workers)
    for _ in range(WARMUP_STEPS):
        run.stepper(first, [next(loaded)], LEARNING_RATE)
    return seconds_per_call(run.device, lambda: run.stepper(first, [next(loaded)], LEARNING_RATE), steps)


def _bare_step(run: Run, batch: Batch) -> None:
    images = batch.normalised().contiguous(memory_format=run.stepper.memory_format)
    with autocast(run.device, run.precision):
        raw = run.network(images)
    raw.float().square().mean().backward()
    set_learning_rate(run.stepper.optimizer, LEARNING_RATE)
    run.stepper.optimizer.step()
    run.stepper.optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def _features(run: Run, batch: Batch) -> torch.Tensor:
    with autocast(run.device, run.precision):
        return _training_step(run).network.features(batch.normalised()).float()


def _loss_step(run: Run, batch: Batch, features: torch.Tensor) -> None:
    """Run the loss forward and backward on precomputed features."""
    features = features.detach().requires_grad_()
    step = _training_step(run)
    losses = step.loss(step.network.head, features, batch, seen=10**9)  # after the anchor warm-up
    torch.stack(list(losses.values())).sum().backward()
    run.stepper.optimizer.zero_grad(set_to_none=True)


def _training_step(run: Run) -> DetectionStep:
    step = run.stepper.training_step
    assert isinstance(step, DetectionStep)
    return step
