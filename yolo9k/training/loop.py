"""The training loop: chooses, steps, logs, evaluates, saves; each on its own period."""

import math
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from yolo9k import checkpoint
from yolo9k.build import build_loss, build_network, with_anchors
from yolo9k.checkpoint import BEST, LAST, Checkpoint
from yolo9k.config import Config, load_dataset_config, with_overrides
from yolo9k.datasets.pictures import TrainingPictures, batches, make_batch
from yolo9k.datasets.read import read_annotations, split_names
from yolo9k.datasets.records import Annotations
from yolo9k.datasets.sampler import StepSampler
from yolo9k.errors import ConfigError, DivergedError, EnvironmentFault, Stopped, WeightsError
from yolo9k.evaluation import Evaluation, evaluate_detector
from yolo9k.hardware import (
    choose_device,
    choose_memory_format,
    choose_precision,
    choose_workers,
    out_of_memory,
)
from yolo9k.inference.detector import Detector
from yolo9k.models.layers import count_parameters
from yolo9k.models.yolov2 import DetectionNetwork
from yolo9k.progress import Track, silent
from yolo9k.samples import Batch
from yolo9k.training.ema import Ema
from yolo9k.training.plots import plot_run
from yolo9k.training.run_folder import RunFolder
from yolo9k.training.schedule import learning_rate
from yolo9k.training.step import Stepper, TrainingStep
from yolo9k.training.watch import Plan, Watcher

SAVE_EVERY_SECONDS = 600  # of a run whose evaluations are further apart than that
DEFAULT_EPOCHS = 160  # YOLO9000 section 2


def train(
    config: Config,
    folder: Path,
    *,
    weights: str | Path | None = None,
    watcher: Watcher | None = None,
    track: Track = silent,
) -> Path:
    """Train as the config says and write the run into `folder`; gives `folder`.

    `weights`: start from a run or checkpoint; layers whose names and shapes agree are taken. Raises the errors
    of data sets and configs, `DivergedError`, `EnvironmentFault`, and `Stopped` after a signal (all is saved).
    """
    run = Run(config, folder, watcher or Watcher(), track)
    if weights is not None:
        run.start_from(weights)
    return run.train()


def resume(
    folder: Path,
    *,
    overrides: Sequence[str] = (),
    watcher: Watcher | None = None,
    track: Track = silent,
) -> Path:
    """Go on with the run in `folder` from its last checkpoint, exactly as if it had not stopped.

    `overrides`, as in `load_config`, change what may change (a new device, more epochs). Raises `WeightsError` where
    there is nothing to go on from.
    """
    path = folder / "checkpoints" / LAST
    stored = checkpoint.load(path)
    if stored.training is None:
        raise WeightsError(f"{path}: a finished detector, not a run that can go on")
    run = Run(with_overrides(stored.config, overrides), folder, watcher or Watcher(), track)
    run.restore(stored, path)
    return run.train()


@dataclass(frozen=True)
class Sets:
    """The splits that a run reads: one to learn from, one to look at (or none)."""

    train: Annotations
    val: Annotations | None


class Run:
    """Everything that one training run owns."""

    def __init__(self, config: Config, folder: Path, watcher: Watcher, track: Track = silent) -> None:
        self.sets, config = _read_sets(config, track)
        self.device = choose_device(config.train.device)
        self.precision = choose_precision(config.train.precision, self.device)
        section = config.train.model_copy(update={"precision": self.precision})
        self.config = with_anchors(config.model_copy(update={"train": section}), self.sets.train.records)
        self.watcher, self.track = watcher, track
        self.files = RunFolder(folder)
        self.labels = self.sets.train.labels
        torch.use_deterministic_algorithms(self.config.train.deterministic, warn_only=True)
        torch.manual_seed(self.config.train.seed)
        memory_format = choose_memory_format(self.config.train.channels_last, self.device)
        network = build_network(self.config.model, self.labels)
        self.network: DetectionNetwork = network.to(self.device, memory_format=memory_format)  # type: ignore[call-overload]
        loss = build_loss(self.config, self.network, self.labels).to(self.device)
        step = TrainingStep(
            self.network, loss, device=self.device, precision=self.precision, images=self.config.train.batch
        )
        if _compiles(self.config, self.device):
            step.features = torch.compile(self.network.features)
        self.stepper = Stepper(step, self.config.train, memory_format)
        self.ema = Ema(self.network, self.config.train.ema) if self.config.train.ema else None
        data = self.config.data
        self.pictures = TrainingPictures(self.sets.train.records, data.augment, self.config.train.seed, data.on_error)
        self.steps_per_epoch = len(self.pictures) / self.config.train.batch
        self.total_steps = _total_steps(self.config, self.steps_per_epoch)
        self.next_step, self.best, self.best_step = 0, -1.0, 0
        self.notes: list[str] = []

    # --- where it starts

    def start_from(self, weights: str | Path) -> None:
        """Take from a checkpoint the weights whose names and shapes agree; the rest stays new."""
        stored = checkpoint.load(checkpoint.find(weights)).weights
        own = self.network.state_dict()
        fitting = {name: value for name, value in stored.items() if name in own and own[name].shape == value.shape}
        if not fitting:
            raise WeightsError(f"{weights}: no layer of it fits this model")
        self.network.load_state_dict(fitting, strict=False)
        new = sorted({name.rsplit(".", 1)[0] for name in own if name not in fitting})
        left = sorted({name.rsplit(".", 1)[0] for name in stored if name not in fitting})
        self.notes.append(
            f"from {weights}: {len(fitting)} of {len(own)} tensors; "
            f"new: {', '.join(new) or 'none'}; left out: {', '.join(left) or 'none'}"
        )
        if self.ema:
            self.ema = Ema(self.network, self.config.train.ema)

    def restore(self, stored: Checkpoint, path: Path) -> None:
        """Take up the state that `save` wrote."""
        assert stored.training is not None
        state = stored.training
        try:
            self.network.load_state_dict(state["network"])
            self.stepper.optimizer.load_state_dict(state["optimizer"])
            self.stepper.scaler.load_state_dict(state["scaler"])
            if self.ema:
                self.ema.network.load_state_dict(dict(stored.weights))
                self.ema.updates = state["ema_updates"]
            self.next_step, self.best, self.best_step = state["next_step"], state["best"], state["best_step"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise WeightsError(f"{path}: its state does not fit the run's model and optimiser") from error

    # --- the loop

    def train(self) -> Path:
        """Run from the next step to the last; saves whatever happens on the way, except a failure's own step."""
        self.files.begin(self.config)
        self.watcher.started(self.plan())
        stop = _StopSignal()
        try:
            with stop:
                self._steps(stop)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise EnvironmentFault(
                f"out of memory on {self.device}; raise train.accumulate, or lower train.batch or data.sizes"
            ) from error
        finally:
            self.files.close()
        self.watcher.finished(self.files.folder, self.best if self.best >= 0 else None)
        return self.files.folder

    def _steps(self, stop: "_StopSignal") -> None:
        log, saved_at = _Log(self.config.train.batch), time.monotonic()
        every = max(1, round(self.config.train.eval_every * self.steps_per_epoch))
        for step, parts in self._batches():
            self.network.train()
            rate = self._rate(step)
            losses = self.stepper(step, parts, rate)
            if self.ema:
                self.ema.update(self.network)
            log.add(losses)
            self.next_step = step + 1
            last = self.next_step == self.total_steps
            self.watcher.stepped(step, parts[0].size_wh)
            if self.device.type == "cpu" or last or self.next_step % self.config.train.log_every == 0:
                self._check_finite()
            if last or self.next_step % self.config.train.log_every == 0:
                self._report(log.entry(self.next_step, rate, parts[0].size_wh, self.steps_per_epoch))
            evaluates = last or (self.config.train.eval_every and self.next_step % every == 0)
            if evaluates:
                self._check_finite()
                self._evaluate()
                log.restart_clock()
            if evaluates or stop.received or time.monotonic() - saved_at > SAVE_EVERY_SECONDS:
                self._check_finite()
                self.save(LAST)
                saved_at = time.monotonic()
            if stop.received:
                raise Stopped(
                    f"stopped after step {self.next_step}; go on with: yolo9k train --resume {self.files.folder}",
                    exit_code=128 + stop.received,
                )
            if self._has_lost_patience():
                break
        plot_run(self.files.folder)

    def _batches(self) -> Iterator[tuple[int, list[Batch]]]:
        sampler = self.sampler(self.next_step, self.total_steps)
        workers = choose_workers(self.config.data.workers)
        parts = batches(self.pictures, sampler, workers, pin_memory=self.device.type == "cuda")
        for step in range(self.next_step, self.total_steps):
            yield step, list(islice(parts, self.config.train.accumulate))

    def sampler(self, first: int, last: int) -> StepSampler:
        """What steps `first` to `last` (exclusive) read."""
        train, data = self.config.train, self.config.data
        return StepSampler(
            len(self.pictures), train.batch, train.accumulate, data.training_sizes, data.size_period,
            train.seed, first, last,
        )  # fmt: skip

    def _rate(self, step: int) -> float:
        return learning_rate(step + 1, self.total_steps, self.steps_per_epoch, self.config.train)

    def _check_finite(self) -> None:
        """Ask the device whether a step failed; the weights are still those from before it."""
        if not bool(self.stepper.guard.failed):
            return
        step = int(self.stepper.guard.first_bad_step)
        self.next_step = step  # nothing after it reached the weights
        batch = make_batch(self.pictures, self.sampler(step, step + 1).step(step))
        dump = self.files.folder / f"diverged-step{step}.pt"
        with suppress(OSError, RuntimeError):  # the report below matters more than the dump
            torch.save({"step": step, "batch": vars(batch)}, dump)
        self.save(LAST)
        names = ", ".join(Path(name).name for name in batch.names[:8])
        raise DivergedError(
            f"step {step}: the loss or its gradient is not finite; pictures {names}"
            f"{', …' if len(batch) > 8 else ''}; the batch is in {dump}, the weights before it in {LAST}; "
            f"check the labels (yolo9k data check), then lower train.lr or set train.clip_grad"
        )

    # --- what happens now and then

    def _report(self, entry: dict[str, float]) -> None:
        self.files.metrics(entry)
        self.watcher.logged(entry)

    def _evaluate(self) -> None:
        if self.sets.val is None:
            self.best_step = self.next_step
            self.save(BEST)
            return
        scores = self.evaluate()
        row = {
            "step": self.next_step,
            "epoch": round(self.next_step / self.steps_per_epoch, 2),
            **_row(scores),
        }
        self.files.result(row)
        self.files.metrics({"step": self.next_step, **{f"val/{name}": value for name, value in _row(scores).items()}})
        value = _row(scores)[_METRICS[self.config.eval.metric]]
        is_best = value > self.best or self.best < 0
        if is_best:
            self.best, self.best_step = max(value, 0.0), self.next_step
            self.save(BEST)
        self.watcher.evaluated(scores, best=is_best)

    def evaluate(self) -> Evaluation:
        """Scores of the present (or averaged) weights on the validation split."""
        assert self.sets.val is not None
        network = self.weights_to_use()
        detector = Detector(network, self.labels, self.config, device=self.device, precision=self.precision)
        settings = self.config.eval
        scores, _ = evaluate_detector(
            detector, self.sets.val, conf=settings.conf, iou=settings.iou,
            max_detections=settings.max_detections, batch=settings.batch,
            coco=settings.metric == "coco", track=self.track,
        )  # fmt: skip
        return scores

    def weights_to_use(self) -> DetectionNetwork:
        """The averaged network where the run keeps one, else the network itself."""
        return self.ema.network if self.ema else self.network

    def _has_lost_patience(self) -> bool:
        patience = self.config.train.patience
        return bool(patience) and self.next_step - self.best_step > patience * self.steps_per_epoch

    def save(self, name: str) -> None:
        """Write a checkpoint: LAST with all that going on needs, BEST with what detection needs."""
        weights = self.weights_to_use().state_dict()
        training = None
        if name == LAST:
            training = {
                "next_step": self.next_step,
                "seen": self.next_step * self.config.train.batch,
                "best": self.best,
                "best_step": self.best_step,
                "network": self.network.state_dict(),
                "optimizer": self.stepper.optimizer.state_dict(),
                "scaler": self.stepper.scaler.state_dict(),
                "ema_updates": self.ema.updates if self.ema else 0,
            }
        checkpoint.save(Checkpoint(self.config, self.labels, weights, training), self.files.checkpoints / name)

    def plan(self) -> Plan:
        """What this run is going to do."""
        return Plan(
            config=self.config,
            folder=self.files.folder,
            device=str(self.device),
            precision=self.precision,
            parameters=count_parameters(self.network),
            pictures=len(self.sets.train.records),
            boxes=sum(len(record.boxes) for record in self.sets.train.records),
            labels=self.labels.names,
            anchors=[(float(w), float(h)) for w, h in self.network.anchors.tolist()],
            first_step=self.next_step,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            workers=choose_workers(self.config.data.workers),
            notes=tuple(self.notes),
        )


_METRICS = {"map50": "mAP50", "voc07": "mAP_voc07", "coco": "mAP50-95"}


def _row(scores: Evaluation) -> dict[str, float]:
    """The numbers of an evaluation that a run records; what is not defined counts as 0."""
    values = {
        "P": scores.total.precision, "R": scores.total.recall, "mAP50": scores.map50,
        "mAP50-95": scores.map50_95, "mAP_voc07": scores.voc07,
    }  # fmt: skip
    return {name: 0.0 if math.isnan(value) else round(float(value), 5) for name, value in values.items()}


def _read_sets(config: Config, track: Track) -> tuple[Sets, Config]:
    """The splits, and the config with the data set's own config written out."""
    dataset = load_dataset_config(config.data.dataset)
    train = read_annotations(dataset, "train", config.data.on_error, track)
    split = config.eval.split
    has_val = split in split_names(dataset)
    if not has_val and config.train.patience:
        raise ConfigError(f"train.patience: the data set has no split {split!r} to lose patience over")
    val = read_annotations(dataset, split, config.data.on_error, track) if has_val else None
    dataset = dataset.model_copy(update={"labels": train.labels.names})
    data = config.data.model_copy(update={"dataset": dataset})
    return Sets(train, val), config.model_copy(update={"data": data})


def _total_steps(config: Config, steps_per_epoch: float) -> int:
    if config.train.steps is not None:
        return config.train.steps
    return max(1, round((config.train.epochs or DEFAULT_EPOCHS) * steps_per_epoch))


def _compiles(config: Config, device: torch.device) -> bool:
    """`auto`: on CUDA at one size; with many sizes each would be compiled anew, and a CPU gains a tenth."""
    wish = config.train.compile
    if wish == "auto":
        return device.type == "cuda" and len(config.data.training_sizes) == 1
    return wish


class _Log:
    """Losses since the last report, kept on the device until then."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.losses: deque[dict[str, Tensor]] = deque()
        self.clock, self.timed = time.monotonic(), 0

    def add(self, losses: dict[str, Tensor]) -> None:
        self.losses.append(losses)
        self.timed += 1

    def restart_clock(self) -> None:
        """Leave out of the speed what is no training."""
        self.clock, self.timed = time.monotonic(), 0

    def entry(self, step: int, rate: float, size_wh: tuple[int, int], steps_per_epoch: float) -> dict[str, float]:
        """Means over the steps since the last entry."""
        names = {name: None for losses in self.losses for name in losses}
        means = {
            name: float(torch.stack([ls[name] for ls in self.losses if name in ls]).mean().cpu()) for name in names
        }
        norm = means.pop("gradient_norm")
        seconds = max(time.monotonic() - self.clock, 1e-9)
        speed = self.timed * self.batch / seconds
        self.losses.clear()
        self.restart_clock()
        return {
            "step": step, "epoch": round(step / steps_per_epoch, 3), "loss": sum(means.values()),
            **{f"loss/{name}": value for name, value in means.items()},
            "gradient_norm": norm, "lr": rate, "width": size_wh[0], "height": size_wh[1],
            "images_per_second": round(speed, 2),
        }  # fmt: skip


class _StopSignal:
    """Remembers SIGINT and SIGTERM, so that the loop can finish its step and save; a second one acts at once."""

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not in the main thread: whoever runs it there has its own way to stop
                break
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for each, handler in self._before.items():
            signal.signal(each, handler)
