"""Training a detector, as a task of the training loop."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from yolo9k.build import Network, build_loss, build_network
from yolo9k.config import Config, load_dataset_config
from yolo9k.datasets.joint import Source, TrainingSet, read_training, to_score
from yolo9k.datasets.load import read_annotations, split_names
from yolo9k.datasets.loader.dataset import TrainingDataset
from yolo9k.datasets.loader.sampler import SampleOrder
from yolo9k.datasets.readers.records import Annotations
from yolo9k.datasets.transforms.detection import DetectionTransform
from yolo9k.detection.loss import RegionLoss
from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import ConfigError
from yolo9k.evaluation import Evaluation, evaluate_detector
from yolo9k.hardware import Precision
from yolo9k.inference.detector import Detector
from yolo9k.progress import Track, silent
from yolo9k.resolve import resolve_detection
from yolo9k.samples import Batch
from yolo9k.training.step import TrainingStep
from yolo9k.training.tasks.task import EvalModel, OnBad, Scores, Summary, Task

METRICS = {"map50": "mAP50", "voc07": "mAP_voc07", "coco": "mAP50-95"}


class DetectionStep(TrainingStep):
    """The step of a detector, with the region loss."""

    network: Network

    def __init__(self, network: Network, loss: RegionLoss, **setting: Any) -> None:
        super().__init__(network, **setting)
        self.loss = loss
        self.compute = network.features

    def losses(self, batch: Batch, images: Tensor, seen: int) -> dict[str, Tensor]:
        """As `RegionLoss`."""
        return self.loss(self.network.head, self.computed(images), batch, seen)


@dataclass(frozen=True)
class Sets:
    """What a run reads: the images to learn from, and a split to look at (or none)."""

    train: TrainingSet
    val: Annotations | None


class DetectionTask(Task):
    """A detector that learns boxes, and labels of boxes and of whole images."""

    config: Config
    network: Network

    def __init__(self, config: Config, track: Track = silent) -> None:
        self.sets = _read_sets(config, track)
        self.config = resolve_detection(config, self.sets.train)
        self.labels = self.sets.train.labels
        self.supervision = self.sets.train.supervision()
        torch.manual_seed(self.config.train.seed)
        self.network = build_network(self.config.model, self.labels)
        data = self.config.data
        sources = [source.read.records for source in self.sets.train.sources]
        self.images = TrainingDataset(sources, DetectionTransform(data.augment), self.config.train.seed, data.on_error)
        self.epoch = self.sets.train.epoch
        self.has_val = self.sets.val is not None
        self.notes = _notes(self.sets)

    def stream(self, seed: int) -> SampleOrder:
        """The order in which images are drawn."""
        return self.sets.train.stream(seed)

    def step(self, device: torch.device, precision: Precision) -> DetectionStep:
        """Network and region loss as one module."""
        loss = build_loss(self.config, self.network, self.labels).to(device)
        return DetectionStep(self.network, loss, device=device, precision=precision, images=self.config.train.batch)

    def score(self, eval_model: EvalModel, on_bad: OnBad | None, track: Track) -> Scores:
        """Score these weights on the validation split."""
        assert self.sets.val is not None
        settings = self.config.eval
        detector = Detector(
            eval_model.network, self.labels, self.config,
            device=eval_model.device, precision=eval_model.precision, supervision=self.supervision,
        )  # fmt: skip
        found, _ = evaluate_detector(
            detector, self.sets.val, Thresholds.of(settings), batch=settings.batch,
            coco=settings.metric == "coco", depth=False, track=track, on_bad=on_bad,
        )  # fmt: skip
        row, chosen = _row(found), METRICS[settings.metric]
        means = " ".join(f"{name} {row[name]:.4f}" for name in dict.fromkeys((chosen, "mAP50", "mAP50-95")))
        return Scores(row, row[chosen], f"{means} P {row['P']:.3f} R {row['R']:.3f}")

    def summary(self) -> Summary:
        """Images, boxes and anchors."""
        boxed = self.sets.train.box_records
        boxes = sum(len(record.boxes) for record in boxed)
        anchors = "; ".join(f"{w:g},{h:g}" for w, h in self.network.anchors.tolist())
        return Summary(f"{len(boxed)} images with {boxes} boxes", (f"anchors in cells: {anchors}",))


def _read_sets(config: Config, track: Track) -> Sets:
    """Read the training split, and the validation split if there is one."""
    train = read_training(load_dataset_config(config.data.dataset), config.data.on_error, track)
    scored, split = to_score(train.dataset, config.eval.split, track)
    has_val = split in split_names(scored)
    if not has_val and config.train.patience:
        raise ConfigError(f"train.patience: the data set has no split {split!r} to lose patience over")
    val = read_annotations(scored, split, config.data.on_error, track) if has_val else None
    return Sets(train, val)


def _notes(sets: Sets) -> list[str]:
    """What a person should know of the data: the sources of a joint set, and what is wrong in the labels."""
    if len(sets.train.sources) > 1:
        return [note for source in sets.train.sources for note in _notes_on(source, sets.train)]
    number = len(sets.train.errors) + (len(sets.val.errors) if sets.val else 0)
    return [f"warning: {number} errors in the labels, see yolo9k data check"] if number else []


def _notes_on(source: Source, train: TrainingSet) -> Iterator[str]:
    yield f"{source}, {source.weight} of {sum(each.weight for each in train.sources)} drawn"
    errors = source.read.errors
    if errors:
        first = f"{errors[0].place}: {errors[0].message}"
        yield f"warning: {source.name}: {len(errors)} errors in the labels, the first is {first}"


def _row(scores: Evaluation) -> dict[str, float]:
    """The numbers of an evaluation that a run records; what is not defined counts as 0."""
    values = {
        "P": scores.total.precision, "R": scores.total.recall, "mAP50": scores.map50,
        "mAP50-95": scores.map50_95, "mAP_voc07": scores.voc07,
    }  # fmt: skip
    return {name: 0.0 if math.isnan(value) else round(float(value), 5) for name, value in values.items()}
