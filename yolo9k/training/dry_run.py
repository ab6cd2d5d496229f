"""`--dry-run`: everything built, one step at the largest size, and what a run would take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from yolo9k.config import RunConfig
from yolo9k.config.section import SizeWH
from yolo9k.datasets.loader.batches import make_batch, resize_requests
from yolo9k.hardware import explain_out_of_memory, peak_memory
from yolo9k.models.layers import count_operations, count_parameters
from yolo9k.pretrained import DarknetFiles
from yolo9k.progress import Track, silent
from yolo9k.samples import Batch
from yolo9k.training.loop import prepare
from yolo9k.training.run import Run
from yolo9k.training.stages import Stage


@dataclass(frozen=True)
class DryRun:
    """What one step told.

    `operations`: those of an image of `size_wh`, the size of the weights that a run ends with. `memory_bytes`: the
    peak of the GPU, or of this process; none where nobody counts it.
    """

    parameters: int
    operations: int
    size_wh: tuple[int, int]
    device: str
    precision: str
    step_seconds: float
    images_per_second: float
    memory_bytes: int | None
    memory_note: str
    total_steps: int
    epochs: float
    estimated_seconds: float
    notes: tuple[str, ...]


def dry_run_report(
    config: RunConfig,
    *,
    weights: str | Path | None = None,
    files: DarknetFiles | None = None,
    track: Track = silent,
) -> DryRun:
    """Build a run, make two steps at its largest size (the second is timed), and write nothing.

    Takes what `train` takes and raises what it raises. The estimate takes the mean of the sizes, by their area.
    """
    run = prepare(config, Path("dry-run"), weights=weights, files=files, track=track)
    stage, size = _largest(run.stages)
    requests = resize_requests(run.sampler(0, 1).requests(0), size)
    part = run.config.train.batch // stage.train.accumulate
    batches = [make_batch(run.task.images_in(stage), requests[i : i + part]) for i in range(0, len(requests), part)]
    with explain_out_of_memory(run.device, "raise train.accumulate, or lower train.batch or the size of images"):
        _step_seconds(run, batches)  # the first one reserves memory and chooses kernels
        seconds = _step_seconds(run, batches)
    work = sum((stage.last - stage.first) * _mean_area(stage) for stage in run.stages) / _area(size)
    memory, note = peak_memory(run.device)
    size_wh = run.task.config_in(run.stages[-1]).data.size
    return DryRun(
        parameters=count_parameters(run.network),
        operations=count_operations(run.network, size_wh),
        size_wh=size_wh,
        device=str(run.device),
        precision=run.precision,
        step_seconds=seconds,
        images_per_second=run.config.train.batch / seconds,
        memory_bytes=memory,
        memory_note=note,
        total_steps=run.total_steps,
        epochs=run.total_steps / run.steps_per_epoch,
        estimated_seconds=work * seconds,
        notes=tuple(run.plan().notes),
    )


def _step_seconds(run: Run, parts: Sequence[Batch]) -> float:
    """The time of one step that learns nothing: the last one, when all that thaws has thawed and wants memory."""
    start = time.monotonic()
    run.stepper(run.total_steps - 1, parts, 0.0)
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    return time.monotonic() - start


def _largest(stages: Sequence[Stage]) -> tuple[Stage, SizeWH]:
    """The largest size of a run, with its stage."""
    return max(((stage, size) for stage in stages for size in stage.sizes), key=lambda pair: _area(pair[1]))


def _mean_area(stage: Stage) -> float:
    return sum(map(_area, stage.sizes)) / len(stage.sizes)


def _area(size_wh: tuple[int, int]) -> int:
    return size_wh[0] * size_wh[1]
