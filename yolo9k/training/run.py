"""What one training run owns, how it begins, and how it is saved and taken up again."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from yolo9k import checkpoint
from yolo9k.build import load_pretrained
from yolo9k.checkpoint import LAST, Checkpoint
from yolo9k.config import ClassifierConfig, RunConfig
from yolo9k.datasets.loader.batches import load_batches
from yolo9k.datasets.loader.sampler import StepSampler
from yolo9k.errors import WeightsError
from yolo9k.hardware import choose_device, choose_memory_format, choose_precision, choose_workers
from yolo9k.models.layers import count_parameters
from yolo9k.progress import Track, silent
from yolo9k.resolve import resolve_precision
from yolo9k.samples import Batch
from yolo9k.training.ema import Ema
from yolo9k.training.output.callbacks import Plan
from yolo9k.training.output.run_folder import RunFolder
from yolo9k.training.stages import Stage, stages_of
from yolo9k.training.step import Stepper
from yolo9k.training.tasks.classification import ClassificationTask
from yolo9k.training.tasks.detection import DetectionTask
from yolo9k.training.tasks.task import EvalModel, Task
from yolo9k.training.transfer import transfer, with_norm


def open_run(config: RunConfig, folder: Path, track: Track = silent) -> "Run":
    """The run of a config, for whatever it is: data read, network built. Raises the errors of data and configs."""
    if isinstance(config, ClassifierConfig):
        return Run(ClassificationTask(resolve_precision(config), track), folder)
    return Run(DetectionTask(resolve_precision(config), track), folder)


class Run:
    """Everything that one training run owns, ready for the step `next_step`."""

    def __init__(self, task: Task, folder: Path) -> None:
        self.task, self.config = task, task.config
        self.device = choose_device(self.config.train.device)
        self.precision = choose_precision(self.config.train.precision, self.device)
        self.files = RunFolder(folder)
        self.steps_per_epoch = task.epoch / self.config.train.batch
        self.stages = stages_of(self.config, self.steps_per_epoch)
        self.total_steps = self.stages[-1].last
        self._settle_network()
        self.next_step, self.best, self.best_step = 0, -1.0, 0
        self.notes = list(task.notes)

    def _settle_network(self) -> None:
        """Put the network on the device, with its loss, its optimiser and its average."""
        train = self.config.train
        torch.use_deterministic_algorithms(train.deterministic, warn_only=True)
        memory_format = choose_memory_format(train.channels_last, self.device)
        self.network: nn.Module = self.task.network.to(self.device, memory_format=memory_format)  # type: ignore[call-overload]
        step = self.task.step(self.device, self.precision)
        if self._compiles():
            step.compute = torch.compile(step.compute)
        self.stepper = Stepper(step, train, memory_format, self.steps_per_epoch)
        self.ema = Ema(self.network, train.ema) if train.ema else None

    def _compiles(self) -> bool:
        """`auto`: on CUDA at one size; with many sizes each would be compiled anew, and a CPU gains a tenth."""
        requested = self.config.train.compile
        if requested == "auto":
            return self.device.type == "cuda" and len({size for stage in self.stages for size in stage.sizes}) == 1
        return requested

    # --- where it starts

    def start_from(self, stored: Checkpoint, source: str | Path) -> None:
        """Take the layers of other weights that fit; the rest stays new. A note says which.

        Raises `WeightsError` where none fits.
        """
        norm = self.config.model.norm
        fitting = with_norm(stored, norm, source)
        taken = transfer(fitting, self.network)
        if not taken.taken:
            raise WeightsError(f"{source}: no layer of it fits this model")
        made = "" if fitting is stored else f"; {stored.config.model.norm.kind} norms made into {norm.kind}"
        self._started_from(f"from {source}: {taken}{made}")

    def start_pretrained(self, track: Track) -> None:
        """Take the weights that come with the backbone (`model.pretrained`). Raises `WeightsError` without them."""
        self._started_from(load_pretrained(self.task.network, self.config.model, track))

    def _started_from(self, note: str) -> None:
        self.notes.append(note)
        if self.ema:
            self.ema = Ema(self.network, self.config.train.ema)

    def restore(self, stored: Checkpoint, path: Path) -> None:
        """Take up the state that `save` wrote to `path`. Raises `WeightsError` where it does not fit."""
        assert stored.training is not None
        if (stored.labels.ids, stored.labels.parents) != (self.task.labels.ids, self.task.labels.parents):
            raise WeightsError(f"{path}: its labels are others than those of the data set now: was the tree changed?")
        state = stored.training
        if "stepper" not in state:
            raise WeightsError(
                f"{path}: is from an earlier version, whose runs cannot go on here; --weights {path} starts from it"
            )
        try:
            self.network.load_state_dict(state["network"])
            self.stepper.restore(state["stepper"])
            if self.ema:
                self.ema.network.load_state_dict(dict(stored.weights))
                self.ema.updates = state["ema_updates"]
            self.next_step, self.best, self.best_step = state["next_step"], state["best"], state["best_step"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise WeightsError(f"{path}: its state does not fit the run's model and optimiser") from error

    def save(self, name: str) -> None:
        """Write a checkpoint: LAST with all that going on needs, BEST with what detection needs."""
        training = None
        if name == LAST:
            training = {
                "next_step": self.next_step,
                "seen": self.next_step * self.config.train.batch,
                "best": self.best,
                "best_step": self.best_step,
                "network": self.network.state_dict(),
                "stepper": self.stepper.state(),
                "ema_updates": self.ema.updates if self.ema else 0,
            }
        weights = self.weights_to_use().state_dict()
        task = self.task
        stored = Checkpoint(self._config_now(), task.labels, weights, training, supervision=task.supervision)
        checkpoint.save(stored, self.files.checkpoints / name)

    # --- what it goes through

    def stage(self, step: int) -> Stage:
        """The stage that a step belongs to."""
        return next(stage for stage in self.stages if step < stage.last)

    def _config_now(self) -> RunConfig:
        return self.task.config_in(self.stage(max(0, self.next_step - 1)))

    def sampler(self, first: int, last: int) -> StepSampler:
        """What steps `first` to `last` (exclusive) of one stage read."""
        stage, train = self.stage(first), self.config.train
        stream = self.task.stream(train.seed)
        return StepSampler(stream, train.batch, stage.train.accumulate, stage.sizes, stage.size_period, first, last)

    def batches(self) -> Iterator[tuple[int, list[Batch]]]:
        """The steps that are left, each with the parts of its batch. Raises `DataError` for a bad image."""
        workers = choose_workers(self.config.data.workers)
        for stage in self.stages:
            steps = range(max(self.next_step, stage.first), stage.last)
            if not steps:
                continue
            sampler = self.sampler(steps.start, steps.stop)
            parts = load_batches(self.task.images_in(stage), sampler, workers, pin_memory=self.device.type == "cuda")
            for step in steps:
                yield step, list(islice(parts, stage.train.accumulate))

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.stage(step).learning_rate(step, self.steps_per_epoch)

    def eval_model(self) -> EvalModel:
        """What would be scored or saved now."""
        return EvalModel(self.weights_to_use(), self._config_now(), self.device, self.precision)

    def weights_to_use(self) -> nn.Module:
        """The averaged network where the run keeps one, else the network itself."""
        return self.ema.network if self.ema else self.network

    def plan(self) -> Plan:
        """What this run is going to do."""
        summary = self.task.summary()
        sizes = dict.fromkeys(f"{w}x{h}" for stage in self.stages for w, h in stage.sizes)
        return Plan(
            config=self.config,
            folder=self.files.folder,
            device=str(self.device),
            precision=self.precision,
            parameters=count_parameters(self.network),
            data=summary.data,
            lines=(*summary.lines, f"sizes: {', '.join(sizes)}"),
            labels=self.task.labels.names,
            first_step=self.next_step,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            workers=choose_workers(self.config.data.workers),
            notes=(*self.notes, *self.stepper.freezing.notes()),
        )
