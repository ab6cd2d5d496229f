"""How much of the bare network's speed training keeps: reading, augmenting, loss and logging are the rest."""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from yolo9k.config import Config, updated
from yolo9k.datasets.loader.batches import PREFETCH_FACTOR, load_batches, make_batch
from yolo9k.hardware import autocast, choose_workers
from yolo9k.progress import Track, silent
from yolo9k.samples import Batch
from yolo9k.training.optimizer import set_learning_rate
from yolo9k.training.run import Run
from yolo9k.training.tasks.detection import DetectionStep, DetectionTask

BARE_RATE = 1e-6  # of the measured updates, that shall change next to nothing
WARM_UP = 2  # steps that are not timed: workers start, kernels are chosen


@dataclass(frozen=True)
class Speed:
    """Images a second (medians over the rounds) and shares."""

    device: str
    precision: str
    size: str
    bare: float
    training: float
    ratio: float
    loss_share: float


def measure(config: Config, *, steps: int, rounds: int, track: Track = silent) -> Speed:
    """Train `steps` steps with real loading, then as many of the bare network on one batch; `rounds` times.

    The bare step is forward, a sum in place of the loss, backward and the optimiser. Accumulation is left out.
    """
    config = updated(config, {"train.accumulate": 1, "data.sizes": ()})
    with tempfile.TemporaryDirectory() as folder:
        task = DetectionTask(config, track)
        run = Run(task, Path(folder))
        batch = make_batch(run.task.images, run.sampler(0, 1).requests(0)).to(run.device)
        _bare_step(run, batch)
        features = _features(run, batch)
        bare, real, shares = [], [], []
        for number in track(range(rounds), "Measuring"):
            real.append(_time_training(run, number * steps, steps))
            bare.append(_time(run, lambda: _bare_step(run, batch), steps))
            shares.append(_time(run, lambda: _loss_alone(run, batch, features), steps) / bare[-1])
    size = run.config.train.batch
    ratios = [b / r for b, r in zip(bare, real, strict=True)]
    w, h = run.config.data.size
    return Speed(
        device=str(run.device), precision=run.precision, size=f"{w}x{h}, batch {size}",
        bare=size / statistics.median(bare), training=size / statistics.median(real),
        ratio=statistics.median(ratios), loss_share=statistics.median(shares),
    )  # fmt: skip


def _time(run: Run, action: Callable[[], object], times: int) -> float:
    """Seconds of one call."""
    _wait(run)
    start = time.monotonic()
    for _ in range(times):
        action()
    _wait(run)
    return (time.monotonic() - start) / times


def _time_training(run: Run, first: int, steps: int) -> float:
    """Seconds of one step with reading and everything.

    The workers go on reading to the end of the measurement, as in a long run: what they have read ahead at its
    beginning they must read ahead again by its end.
    """
    workers = choose_workers(run.config.data.workers)
    ahead = PREFETCH_FACTOR * max(workers, 1)
    source = load_batches(run.task.images, run.sampler(first, first + WARM_UP + steps + ahead), workers)
    for _ in range(WARM_UP):
        run.stepper(first, [next(source)], BARE_RATE)
    return _time(run, lambda: run.stepper(first, [next(source)], BARE_RATE), steps)


def _bare_step(run: Run, batch: Batch) -> None:
    images = batch.normalised().contiguous(memory_format=run.stepper.memory_format)
    with autocast(run.device, run.precision):
        raw = run.network(images)
    raw.float().square().mean().backward()
    set_learning_rate(run.stepper.optimizer, BARE_RATE)
    run.stepper.optimizer.step()
    run.stepper.optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def _features(run: Run, batch: Batch) -> torch.Tensor:
    with autocast(run.device, run.precision):
        return _step(run).network.features(batch.normalised()).float()


def _loss_alone(run: Run, batch: Batch, features: torch.Tensor) -> None:
    """The loss on given features, forward and backward."""
    features = features.detach().requires_grad_()
    step = _step(run)
    parts = step.loss(step.network.head, features, batch, seen=10**9)
    torch.stack(list(parts.values())).sum().backward()
    run.stepper.optimizer.zero_grad(set_to_none=True)


def _step(run: Run) -> DetectionStep:
    step = run.stepper.step
    assert isinstance(step, DetectionStep)
    return step


def _wait(run: Run) -> None:
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
