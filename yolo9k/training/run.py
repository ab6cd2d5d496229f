"""`Run`: the state of one training run, and how it starts, is saved and is resumed."""

import math
from collections.abc import Callable, Generator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yolo9k import processes
from yolo9k.build import load_pretrained
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import ClassifierConfig, RunConfig
from yolo9k.datasets.loader.batches import load_batches
from yolo9k.datasets.loader.sampler import StepSampler
from yolo9k.errors import ConfigError, WeightsError
from yolo9k.hardware import (
    DTYPES,
    choose_device,
    choose_memory_format,
    choose_precision,
    choose_workers,
    require_memory,
)  # fmt: skip
from yolo9k.models.layers import count_parameters
from yolo9k.models.memory import image_bytes
from yolo9k.pretrained import DarknetFiles, open_weights
from yolo9k.progress import Track, silent
from yolo9k.resolve import resolve_precision
from yolo9k.samples import Batch
from yolo9k.training.ema import Ema
from yolo9k.training.loss_level import LossLevel
from yolo9k.training.output.callbacks import RunInfo
from yolo9k.training.output.checkpoints import RunCheckpoints, SilentCheckpoints
from yolo9k.training.output.run_folder import RunFolder, SilentRunFolder
from yolo9k.training.output.step_log import StepLog
from yolo9k.training.stages import Stage, stages_of
from yolo9k.training.step import Stepper
from yolo9k.training.tasks.classification import ClassificationTask
from yolo9k.training.tasks.detection import DetectionTask
from yolo9k.training.tasks.task import EvalModel, Task
from yolo9k.training.transfer import transfer, with_norm


def prepare_run(
    config: RunConfig,
    folder: Path,
    *,
    weights: str | Path | None = None,
    files: DarknetFiles | None = None,
    track: Track = silent,
) -> "Run":
    """Return a new run, ready for its first step; nothing is written yet. Arguments and errors are those of `train`."""
    stored = None if weights is None else processes.from_main(lambda: open_weights(weights, files, track))
    run = processes.together(lambda: build_run(config, folder, track))
    if stored is not None and weights is not None:
        run.start_from(stored, weights)
    elif config.model.pretrained:
        processes.from_main(lambda: run.start_pretrained(track))  # downloads what the others on its machine then find
        processes.together(lambda: None if processes.is_main() else run.start_pretrained(track))
    return run


def build_run(config: RunConfig, folder: Path, track: Track = silent) -> "Run":
    """Read the data and build the network of a config. Raises the errors of data sets and configs."""
    if isinstance(config, ClassifierConfig):
        return Run(ClassificationTask(resolve_precision(config), track), folder)
    return Run(DetectionTask(resolve_precision(config), track), folder)


class Run:
    """A task on its device, with optimiser, averaged weights and run folder, ready for step `next_step`.

    `best`: the best validation score so far, -1 before the first; `best_step`: its step. `evaluation_pending`: the
    scores of the last step are missing, since a stop or a crash cut its evaluation short. `resumed_from`: the
    checkpoint. `log`: losses that are not logged yet. `healthy_step`: of the newest checkpoint whose weights
    had a usual loss (`loss_level`) in the step after it; 0: none. `notes`: warnings and facts for the user.
    """

    def __init__(self, task: Task, folder: Path) -> None:
        self.task, self.config = task, task.config
        train = self.config.train
        self.device = choose_device(train.device)
        self.precision = choose_precision(train.precision, self.device)
        is_main = processes.is_main()
        self.folder = (RunFolder if is_main else SilentRunFolder)(folder)
        checkpoints = RunCheckpoints if is_main else SilentCheckpoints
        self.checkpoints = checkpoints(self.folder.checkpoints, train.keep_last, train.keep_every)
        self.steps_per_epoch = task.images_per_epoch / train.batch
        self.stages = stages_of(self.config, self.steps_per_epoch)
        self.total_steps = self.stages[-1].stop
        for stage in self.stages:
            stage.check_schedule(self.steps_per_epoch)
            _check_share(stage)
        torch.use_deterministic_algorithms(train.deterministic, warn_only=True)
        memory_format = choose_memory_format(train.channels_last, self.device)
        self.network: nn.Module = task.network.to(self.device, memory_format=memory_format)  # type: ignore[call-overload]
        training_step = task.build_step(self.device, self.precision)
        forward = training_step.forward_network
        if self._should_compile():
            training_step.forward_network = torch.compile(training_step.forward_network)
        self.stepper = Stepper(training_step, train, memory_format, self.steps_per_epoch)
        self.ema = Ema(self.network, train.ema) if train.ema else None
        self.next_step, self.best, self.best_step = 0, -1.0, 0
        self.evaluation_pending = False
        self.resumed_from: Path | None = None
        self.log, self.loss_level, self.healthy_step = StepLog(train.batch), LossLevel(), 0
        self.notes = list(task.notes)
        self._require_memory(forward)

    def _require_memory(self, forward: Callable[[Tensor], Tensor]) -> None:
        """Raise `MachineError` if the free memory is too small for a step of any stage: activations and gradients."""
        if self.device.type != "cpu":
            return
        self.stepper.freezing.apply(self.total_steps - 1)  # all layers that unfreeze need memory
        parameters = sum(4 * each.numel() for each in self.network.parameters() if each.requires_grad)
        for stage, size in ((stage, max(stage.sizes, key=math.prod)) for stage in self.stages):
            images = -(-self.config.train.batch // stage.train.accumulate // processes.count())
            in_float32 = images * image_bytes(self.network, size, forward=forward, training=True)
            needed = parameters + in_float32 * DTYPES[self.precision].itemsize // 4
            what = f"a step with {images:,} images of {size[0]}x{size[1]}"
            hint = "raise train.accumulate, or lower train.batch or the image size"
            require_memory(needed, self.device, what, hint)

    def _should_compile(self) -> bool:
        """`auto`: on CUDA with one image size. Each size compiles anew, and a CPU gains only a tenth."""
        requested = self.config.train.compile
        if requested == "auto":
            return self.device.type == "cuda" and len({size for stage in self.stages for size in stage.sizes}) == 1
        return requested

    # --- start, save, resume

    def start_from(self, stored: Checkpoint, location: str | Path) -> None:
        """Load the layers of a checkpoint that fit; the others keep their new weights. A note lists them.

        Raises `WeightsError` if none fits.
        """
        norm = self.config.model.norm
        converted = with_norm(stored, norm, location)
        report = transfer(converted, self.network, self.config, self.task.labels)
        if not report.loaded:
            raise WeightsError(f"{location}: none of its layers fits this model")
        conversion = "" if converted is stored else f"; {stored.config.model.norm.kind} norms converted to {norm.kind}"
        self._weights_loaded(f"from {location}: {report}{conversion}")
        if report.classes:
            self.notes.append(report.classes)

    def start_pretrained(self, track: Track) -> None:
        """Load the backbone's published weights (`model.pretrained`). Raises `WeightsError` if they are missing."""
        self._weights_loaded(load_pretrained(self.task.network, self.config.model, track))

    def _weights_loaded(self, note: str) -> None:
        """Note where the weights are from, and start the average from them."""
        self.notes.append(note)
        if self.ema:
            self.ema = Ema(self.network, self.config.train.ema)

    def restore(self, stored: Checkpoint, path: Path) -> None:
        """Restore the state that `save` wrote to `path`. Raises `WeightsError` if it does not fit this run."""
        assert stored.training is not None
        if (stored.labels.ids, stored.labels.parents) != (self.task.labels.ids, self.task.labels.parents):
            raise WeightsError(f"{path}: its labels differ from those of the data set; was the label tree changed?")
        state = stored.training
        if "stepper" not in state:
            raise WeightsError(
                f"{path}: is from an earlier version and cannot be resumed; start a new run from it: --weights {path}"
            )
        try:
            self.network.load_state_dict(state["network"])
            self.stepper.restore(state["stepper"])
            if self.ema:
                self.ema.network.load_state_dict(dict(stored.weights))
                self.ema.updates = state["ema_updates"]
            self.resumed_from = path
            self.next_step, self.best, self.best_step = state["next_step"], state["best"], state["best_step"]
            self.evaluation_pending = state.get("evaluation_pending", False)
            self.healthy_step = state.get("healthy_step", 0)
            if "log" in state:  # earlier versions did not save it
                self.log.restore(state["log"], self.device)
                self.loss_level.restore(state["loss_level"])
                self.notes += self._changes_since(state)
        except (KeyError, RuntimeError, ValueError, TypeError, AttributeError) as error:  # a strange file: any type
            raise WeightsError(f"{path}: its state does not fit the run's model and optimiser") from error

    def _changes_since(self, state: Mapping[str, Any]) -> list[str]:
        """Return a note if the training data, and one if the conditions of exact resuming have changed."""
        notes = []
        if state["data"] != self._data():
            old, new = state["data"]["summary"], self.task.data_summary
            change = f"{old} before, {new} now" if old != new else "another number of images of a source"
            notes.append(f"warning: the training data have changed since the checkpoint: {change}")
        before, now = {"processes": 1, **state["conditions"]}, self._conditions()
        changed = [f"{name} {value} instead of {before.get(name)}" for name, value in now.items()
                   if before.get(name) != value]  # fmt: skip
        if changed:
            notes.append(f"resumed with {', '.join(changed)}: the results can differ in their last digits")
        return notes

    def _data(self) -> dict[str, Any]:
        return {"summary": self.task.data_summary, "images": [len(source) for source in self.task.dataset.sources]}

    def _conditions(self) -> dict[str, Any]:
        """Return what the rounding of sums depends on."""
        threads = {"threads": torch.get_num_threads()} if self.device.type == "cpu" else {}
        return {
            "device": self.device.type, "precision": self.precision, "torch": str(torch.__version__),
            "processes": processes.count(), **threads,
        }  # fmt: skip

    def save(self, name: str) -> None:
        """Write a checkpoint of the weights in the background (`RunCheckpoints`)."""
        self.checkpoints.save(name, self._checkpoint())

    def save_last(self) -> None:
        """Write the checkpoint from which this run can be resumed, in the background (`RunCheckpoints`)."""
        self.checkpoints.save_last(self._checkpoint(self._state()), self.next_step, self.healthy_step)

    def _checkpoint(self, training: Mapping[str, Any] | None = None) -> Checkpoint:
        model, task = self.eval_model(), self.task
        weights = model.network.state_dict()
        return Checkpoint(model.config, task.labels, weights, training, supervision=task.supervision)

    def _state(self) -> dict[str, Any]:
        """Return what resuming needs. The keys are read from older runs, too: keep them."""
        return {
            "next_step": self.next_step,
            "seen": self.next_step * self.config.train.batch,
            "best": self.best,
            "best_step": self.best_step,
            "evaluation_pending": self.evaluation_pending,
            "network": self.network.state_dict(),
            "stepper": self.stepper.state(),
            "ema_updates": self.ema.updates if self.ema else 0,
            "log": self.log.state(),
            "loss_level": self.loss_level.state(),
            "healthy_step": self.healthy_step,
            "data": self._data(),
            "conditions": self._conditions(),
        }

    def eval_model(self) -> EvalModel:
        """Return the network to evaluate or save now: the averaged one if the run keeps an average."""
        network = self.ema.network if self.ema else self.network
        config = self.task.config_in(self.stage(max(0, self.next_step - 1)))
        return EvalModel(network, config, self.device, self.precision)

    # --- steps

    def stage(self, step: int) -> Stage:
        """Return the stage of a step."""
        return next(stage for stage in self.stages if step < stage.stop)

    def sampler(self, start: int, stop: int) -> StepSampler:
        """Return the sampler of steps `start` to `stop` (exclusive), which must be in one stage."""
        stage, train = self.stage(start), self.config.train
        order = self.task.sample_order(train.seed)
        return StepSampler(
            order, train.batch, stage.train.accumulate, stage.sizes, stage.size_period, start, stop,
            part=processes.rank(), parts=processes.count(),
        )  # fmt: skip

    def remaining_steps(self) -> Generator[tuple[int, list[Batch]]]:
        """Yield each remaining step with this process's share of its micro-batches.

        Raises `DataError` for an unreadable image.
        """
        workers = choose_workers(self.config.data.workers)
        for stage in self.stages:
            steps = range(max(self.next_step, stage.start), stage.stop)
            if not steps:
                continue
            sampler = self.sampler(steps.start, steps.stop)
            dataset = self.task.dataset_in(stage)
            micro_batches = load_batches(dataset, sampler, workers, pin_memory=self.device.type == "cuda")
            for step in steps:
                yield step, list(islice(micro_batches, stage.train.accumulate))

    def info(self) -> RunInfo:
        """Return what this run is going to do."""
        sizes = dict.fromkeys(f"{w}x{h}" for stage in self.stages for w, h in stage.sizes)
        return RunInfo(
            config=self.config,
            folder=self.folder.path,
            device=_device_text(self.device),
            precision=self.precision,
            parameters=count_parameters(self.network),
            data_summary=self.task.data_summary,
            details=(*self.task.details, f"sizes: {', '.join(sizes)}"),
            labels=self.task.labels.names,
            first_step=self.next_step,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            workers=choose_workers(self.config.data.workers),
            notes=(*self.notes, *self.stepper.freezing.notes()),
        )


def _check_share(stage: Stage) -> None:
    """Raise `ConfigError` if a process would get no image of a micro-batch."""
    batch, accumulate, count = stage.train.batch, stage.train.accumulate, processes.count()
    if batch // accumulate < count:
        parts = f" with train.accumulate {accumulate}" if accumulate > 1 else ""
        raise ConfigError(
            f"train.batch: {batch}{parts} is too small for {count} processes: each needs an image of every micro-batch"
        )


def _device_text(device: torch.device) -> str:
    return f"{device.type}, {processes.count()} processes" if processes.count() > 1 else str(device)
