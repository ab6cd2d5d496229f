"""`DetectionTask`: training a detector on box labels and image-level labels."""

import logging
import math
from typing import Any

import torch
from torch import Tensor

from yolo9k.build import Network, build_codec, build_network, build_scores
from yolo9k.config import Config, load_dataset_config
from yolo9k.datasets.joint import TrainingSet, evaluation_split, read_training
from yolo9k.datasets.load import read_annotations, split_names
from yolo9k.datasets.loader.dataset import TrainingDataset
from yolo9k.datasets.loader.sampler import SampleOrder
from yolo9k.datasets.readers.records import Annotations
from yolo9k.datasets.tools.check_files import missing_boxes
from yolo9k.datasets.transforms.detection import DetectionTransform
from yolo9k.datasets.transforms.grey import for_channels
from yolo9k.detection.loss import LOSS_NAMES, RegionLoss
from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import ConfigError
from yolo9k.evaluation import Evaluation, evaluate_detector
from yolo9k.hardware import Precision
from yolo9k.inference.detector import Detector
from yolo9k.progress import Track, silent
from yolo9k.resolve import resolve_detection
from yolo9k.samples import Batch
from yolo9k.training.step import TrainingStep
from yolo9k.training.tasks.task import EvalModel, OnUnreadable, Scores, Task, warn_without_validation
from yolo9k.wordtree import WordTree

log = logging.getLogger(__name__)

METRICS = {"map50": "mAP50", "voc07": "mAP_voc07", "coco": "mAP50-95"}  # `eval.metric` to a column of results.csv


def build_loss(config: Config, network: Network, labels: WordTree) -> RegionLoss:
    """Build the region loss with the network's anchors."""
    return RegionLoss(build_codec(config.model, network), build_scores(config.model, labels), config.loss)


class DetectionStep(TrainingStep):
    """The training step of a detector, with the region loss."""

    network: Network
    loss_names = LOSS_NAMES

    def __init__(self, network: Network, loss: RegionLoss, **settings: Any) -> None:
        super().__init__(network, **settings)
        self.loss = loss
        self.forward_network = network.features

    def losses(self, batch: Batch, images: Tensor, seen: int) -> dict[str, Tensor]:
        """Return the losses of `RegionLoss`."""
        return self.loss(self.network.head, self.outputs(images), batch, seen)


def detection_step(
    config: Config, network: Network, labels: WordTree, device: torch.device, precision: Precision
) -> DetectionStep:
    """Build the training step of a config; the network must already be on the device."""
    loss = build_loss(config, network, labels).to(device)
    return DetectionStep(network, loss, device=device, precision=precision, batch_size=config.train.batch)


class DetectionTask(Task):
    """A detector trained on box labels, and on image-level labels if the data set is joint.

    `train` and `val`: the splits as read; `val` is `None` if the data set has no such split. Raises the errors of
    reading them, and `ConfigError` if `train.patience` is set without a validation split.
    """

    config: Config
    network: Network

    def __init__(self, config: Config, track: Track = silent) -> None:
        self.train = read_training(load_dataset_config(config.data.dataset), config.data.on_error, track)
        self.val = _read_val(config, self.train, track)
        self.config = resolve_detection(config, self.train)
        _warn_without_boxes(self.train, self.val)
        self.labels = self.train.labels
        self.supervision = self.train.supervision()
        torch.manual_seed(self.config.train.seed)
        self.network = build_network(self.config.model, self.labels)
        data = self.config.data
        sources = [source.read.records for source in self.train.sources]
        transform = for_channels(DetectionTransform(data.augment, data.resize_mode), data.channels)
        reduce = data.resize != "darknet"  # as the detector reads them
        self.dataset = TrainingDataset(sources, transform, self.config.train.seed, data.on_error, reduce=reduce)
        self.images_per_epoch = self.train.images_per_epoch
        self.has_val = self.val is not None
        box_records = self.train.box_records
        boxes = sum(len(record.boxes) for record in box_records)
        self.data_summary = f"{len(box_records)} images with {boxes} boxes"
        anchors = "; ".join(f"{w:g},{h:g}" for w, h in self.network.anchors.tolist())
        self.details = (f"anchors in cells: {anchors}",)
        self.notes = _source_notes(self.train)

    def sample_order(self, seed: int) -> SampleOrder:
        """Return the order in which training images are drawn."""
        return self.train.sample_order(seed)

    def build_step(self, device: torch.device, precision: Precision) -> DetectionStep:
        """Return network and region loss as one module."""
        return detection_step(self.config, self.network, self.labels, device, precision)

    def score(self, eval_model: EvalModel, on_unreadable: OnUnreadable | None, track: Track) -> Scores:
        """Score a network on the validation split."""
        assert self.val is not None
        settings = self.config.eval
        detector = Detector.of_network(
            eval_model.network, self.labels, self.config,
            device=str(eval_model.device), precision=eval_model.precision, supervision=self.supervision,
        )  # fmt: skip
        evaluation, _ = evaluate_detector(
            detector, self.val, Thresholds.of(settings),
            batch=settings.batch, track=track, on_unreadable=on_unreadable,
        )  # fmt: skip
        row, chosen = _metrics_row(evaluation), METRICS[settings.metric]
        means = " ".join(f"{name} {row[name]:.4f}" for name in dict.fromkeys((chosen, "mAP50", "mAP50-95")))
        return Scores(row, row[chosen], f"{means} P {row['P']:.3f} R {row['R']:.3f}")


def _read_val(config: Config, train: TrainingSet, track: Track) -> Annotations | None:
    """Read the validation split if there is one. Raises `ConfigError` if there is none but `train.patience` is set."""
    dataset, split = evaluation_split(train.dataset, config.eval.split, track)
    if split in split_names(dataset):
        return read_annotations(dataset, split, config.data.on_error, track, all_sizes=True)
    if config.train.patience:
        raise ConfigError(f"train.patience: needs a validation split; the data set has no split {split!r}")
    if config.train.eval_every:  # else none is expected
        warn_without_validation(dataset, split)
    return None


def _warn_without_boxes(train: TrainingSet, val: Annotations | None) -> None:
    """Warn about sources and a validation split in which no box counts; `resolve_detection` refuses it of all."""
    for source in train.sources:
        if isinstance(source.read, Annotations) and (problem := missing_boxes(source.read.records, "images")):
            log.warning("%s: %s: nothing but background is learnt from this source", source.name, problem)
    if val is not None and (problem := missing_boxes(val.records, "validation images")):
        log.warning("%s: every score is 0, and best.pt is that of the first evaluation", problem)


def _source_notes(train: TrainingSet) -> list[str]:
    """Return a note about each source of a joint data set."""
    total = sum(source.weight for source in train.sources)
    parts = train.sources if len(train.sources) > 1 else ()
    return [f"{source}, sampling weight {source.weight} of {total}" for source in parts]


def _metrics_row(scores: Evaluation) -> dict[str, float]:
    """Return the metrics for results.csv; an undefined one (NaN) is 0. Older runs resume: keep the names."""
    values = {
        "P": scores.total.precision, "R": scores.total.recall, "mAP50": scores.map50,
        "mAP50-95": scores.map50_95, "mAP_voc07": scores.voc07,
    }  # fmt: skip
    return {name: 0.0 if math.isnan(value) else round(float(value), 5) for name, value in values.items()}
