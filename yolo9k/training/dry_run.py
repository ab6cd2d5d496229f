"""`dry_run_report`: build a run, time one step at its largest image size, estimate time and memory (`--dry-run`)."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from yolo9k import processes
from yolo9k.config import RunConfig
from yolo9k.datasets.loader.batches import make_batch, resize_requests
from yolo9k.hardware import explain_out_of_memory, peak_memory
from yolo9k.models.layers import count_operations, count_parameters
from yolo9k.pretrained import DarknetFiles
from yolo9k.progress import Track, silent
from yolo9k.samples import Batch
from yolo9k.training.run import Run, prepare_run


@dataclass(frozen=True)
class DryRun:
    """The measurements of a dry run.

    `operations`: per image of `size_wh`, the size of the last stage. `memory_bytes`: peak memory of the GPU, else of
    this process, `None` if the platform does not report it; `memory_note` says whose.
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
    """Build a run, do two steps at its largest image size (the second is timed), and write nothing.

    Arguments and errors are those of `train`. The estimate scales the step's time by the mean area of the image sizes.
    """
    run = prepare_run(config, Path("dry-run"), weights=weights, files=files, track=track)
    stage, size = max(((stage, size) for stage in run.stages for size in stage.sizes), key=lambda pair: _area(pair[1]))
    sampler, dataset = run.sampler(stage.start, stage.start + 1), run.task.dataset_in(stage)
    shares = sampler.micro_batches(stage.start, processes.rank())
    micro_batches = processes.together(
        lambda: [make_batch(dataset, resize_requests(requests, size)) for requests in shares]
    )
    with explain_out_of_memory(run.device, "raise train.accumulate, or lower train.batch or the image size"):
        _step_seconds(run, micro_batches)  # the first step allocates memory and selects kernels
        seconds = _step_seconds(run, micro_batches)
    mean_areas = [(stage.stop - stage.start, sum(map(_area, stage.sizes)) / len(stage.sizes)) for stage in run.stages]
    equivalent_steps = sum(steps * area for steps, area in mean_areas) / _area(size)
    memory, note = peak_memory(run.device)
    size_wh = run.task.config_in(run.stages[-1]).data.size
    return DryRun(
        parameters=count_parameters(run.network),
        operations=count_operations(run.network, size_wh),
        size_wh=size_wh,
        device=run.info().device,
        precision=run.precision,
        step_seconds=seconds,
        images_per_second=run.config.train.batch / seconds,
        memory_bytes=memory,
        memory_note=note,
        total_steps=run.total_steps,
        epochs=run.total_steps / run.steps_per_epoch,
        estimated_seconds=equivalent_steps * seconds,
        notes=tuple(run.info().notes),
    )


def _step_seconds(run: Run, micro_batches: Sequence[Batch]) -> float:
    """Time one step with a learning rate of 0; it is the last step, for which all layers that unfreeze need memory."""
    start = time.monotonic()
    run.stepper(run.total_steps - 1, micro_batches, 0.0)
    if run.device.type == "cuda":
        torch.cuda.synchronize(run.device)
    return time.monotonic() - start


def _area(size_wh: tuple[int, int]) -> int:
    return size_wh[0] * size_wh[1]
