"""What one training run owns, how it begins, and how it is saved and taken up again."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from yolo9k import checkpoint
from yolo9k.build import Network, build_loss, build_network, with_anchors, with_aspect
from yolo9k.checkpoint import LAST, Checkpoint
from yolo9k.config import Config, load_dataset_config
from yolo9k.datasets.joint import Source, TrainingSet, read_training, to_score
from yolo9k.datasets.pictures import TrainingPictures, batches
from yolo9k.datasets.read import read_annotations, split_names
from yolo9k.datasets.records import Annotations
from yolo9k.datasets.sampler import StepSampler
from yolo9k.errors import ConfigError, WeightsError
from yolo9k.hardware import choose_device, choose_memory_format, choose_precision, choose_workers
from yolo9k.models.layers import count_parameters
from yolo9k.progress import Track, silent
from yolo9k.samples import Batch
from yolo9k.training.ema import Ema
from yolo9k.training.run_folder import RunFolder
from yolo9k.training.schedule import learning_rate
from yolo9k.training.step import Stepper, TrainingStep
from yolo9k.training.transfer import transfer
from yolo9k.training.watch import Plan

DEFAULT_EPOCHS = 160  # YOLO9000 section 2


@dataclass(frozen=True)
class Sets:
    """What a run reads: the pictures to learn from, and a split to look at (or none)."""

    train: TrainingSet
    val: Annotations | None


class Run:
    """Everything that one training run owns, ready for the step `next_step`."""

    def __init__(self, config: Config, folder: Path, track: Track = silent) -> None:
        self.sets, config = _read_sets(config, track)
        self.device = choose_device(config.train.device)
        self.precision = choose_precision(config.train.precision, self.device)
        section = config.train.model_copy(update={"precision": self.precision})
        boxed = self.sets.train.boxed
        self.config = with_anchors(with_aspect(config.model_copy(update={"train": section}), boxed), boxed)
        self.files = RunFolder(folder)
        self.labels = self.sets.train.labels
        self.supervision = self.sets.train.supervision()
        self._build_network()
        data = self.config.data
        sources = [source.read.records for source in self.sets.train.sources]
        self.pictures = TrainingPictures(sources, data.augment, self.config.train.seed, data.on_error)
        self.steps_per_epoch = self.sets.train.epoch / self.config.train.batch
        self.total_steps = _total_steps(self.config, self.steps_per_epoch)
        self.next_step, self.best, self.best_step = 0, -1.0, 0
        self.notes = _notes(self.sets)

    def _build_network(self) -> None:
        train = self.config.train
        torch.use_deterministic_algorithms(train.deterministic, warn_only=True)
        torch.manual_seed(train.seed)
        memory_format = choose_memory_format(train.channels_last, self.device)
        network = build_network(self.config.model, self.labels)
        self.network: Network = network.to(self.device, memory_format=memory_format)  # type: ignore[call-overload]
        loss = build_loss(self.config, self.network, self.labels).to(self.device)
        step = TrainingStep(self.network, loss, device=self.device, precision=self.precision, images=train.batch)
        if _compiles(self.config, self.device):
            step.features = torch.compile(self.network.features)
        self.stepper = Stepper(step, train, memory_format)
        self.ema = Ema(self.network, train.ema) if train.ema else None

    # --- where it starts

    def start_from(self, stored: Checkpoint, source: str | Path) -> None:
        """Take the layers of other weights that fit; the rest stays new. A note says which.

        Raises `WeightsError` where none fits.
        """
        taken = transfer(stored, self.network)
        if not taken.taken:
            raise WeightsError(f"{source}: no layer of it fits this model")
        self.notes.append(f"from {source}: {taken}")
        if self.ema:
            self.ema = Ema(self.network, self.config.train.ema)

    def restore(self, stored: Checkpoint, path: Path) -> None:
        """Take up the state that `save` wrote to `path`. Raises `WeightsError` where it does not fit."""
        assert stored.training is not None
        if (stored.labels.ids, stored.labels.parents) != (self.labels.ids, self.labels.parents):
            raise WeightsError(f"{path}: its labels are others than those of the data set now: was the tree changed?")
        state = stored.training
        try:
            self.network.load_state_dict(state["network"])
            self.stepper.restore(state["optimizer"], state["scaler"])
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
                "optimizer": self.stepper.optimizer.state_dict(),
                "scaler": self.stepper.scaler.state_dict(),
                "ema_updates": self.ema.updates if self.ema else 0,
            }
        weights = self.weights_to_use().state_dict()
        stored = Checkpoint(self.config, self.labels, weights, training, supervision=self.supervision)
        checkpoint.save(stored, self.files.checkpoints / name)

    # --- what it goes through

    def sampler(self, first: int, last: int) -> StepSampler:
        """What steps `first` to `last` (exclusive) read."""
        train, data = self.config.train, self.config.data
        stream = self.sets.train.stream(train.seed)
        return StepSampler(stream, train.batch, train.accumulate, data.training_sizes, data.size_period, first, last)

    def batches(self) -> Iterator[tuple[int, list[Batch]]]:
        """The steps that are left, each with the parts of its batch. Raises `DataError` for a bad picture."""
        sampler = self.sampler(self.next_step, self.total_steps)
        workers = choose_workers(self.config.data.workers)
        parts = batches(self.pictures, sampler, workers, pin_memory=self.device.type == "cuda")
        for step in range(self.next_step, self.total_steps):
            yield step, list(islice(parts, self.config.train.accumulate))

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        return learning_rate(step + 1, self.total_steps, self.steps_per_epoch, self.config.train)

    def weights_to_use(self) -> Network:
        """The averaged network where the run keeps one, else the network itself."""
        return self.ema.network if self.ema else self.network

    def plan(self) -> Plan:
        """What this run is going to do."""
        return Plan(
            config=self.config,
            folder=self.files.folder,
            device=str(self.device),
            precision=self.precision,
            parameters=count_parameters(self.network),
            pictures=len(self.sets.train.boxed),
            boxes=sum(len(record.boxes) for record in self.sets.train.boxed),
            labels=self.labels.names,
            anchors=[(float(w), float(h)) for w, h in self.network.anchors.tolist()],
            first_step=self.next_step,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            workers=choose_workers(self.config.data.workers),
            notes=tuple(self.notes),
        )


def _read_sets(config: Config, track: Track) -> tuple[Sets, Config]:
    """The splits, and the config with the data set's own config written out."""
    train = read_training(load_dataset_config(config.data.dataset), config.data.on_error, track)
    scored, split = to_score(train.dataset, config.eval.split, track)
    has_val = split in split_names(scored)
    if not has_val and config.train.patience:
        raise ConfigError(f"train.patience: the data set has no split {split!r} to lose patience over")
    val = read_annotations(scored, split, config.data.on_error, track) if has_val else None
    data = config.data.model_copy(update={"dataset": train.dataset})
    return Sets(train, val), config.model_copy(update={"data": data})


def _notes(sets: Sets) -> list[str]:
    """What a person should know of the data: the sources of a joint set, and what is wrong in the labels."""
    if len(sets.train.sources) > 1:
        return [note for source in sets.train.sources for note in _notes_on(source, sets.train)]
    number = len(sets.train.defects) + (len(sets.val.defects) if sets.val else 0)
    return [f"warning: {number} defects in the labels, see yolo9k data check"] if number else []


def _notes_on(source: Source, train: TrainingSet) -> Iterator[str]:
    yield f"{source}, {source.share} of {sum(each.share for each in train.sources)} drawn"
    defects = source.read.defects
    if defects:
        first = f"{defects[0].place}: {defects[0].message}"
        yield f"warning: {source.name}: {len(defects)} defects in the labels, the first is {first}"


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
