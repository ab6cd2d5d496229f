"""`ClassificationTask`: training a classifier (YOLO9000 section 3, "Training for classification")."""

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolo9k import processes
from yolo9k.build import ClassifierNetwork, build_classifier
from yolo9k.config import ClassifierConfig, DatasetConfig, load_dataset_config, updated
from yolo9k.datasets.load import ImageSet, read_images, split_names
from yolo9k.datasets.loader.dataset import TrainingDataset
from yolo9k.datasets.loader.sampler import SampleOrder
from yolo9k.datasets.transforms.classification import ClassificationTransform
from yolo9k.datasets.transforms.grey import for_channels
from yolo9k.datasets.transforms.transform import Transform
from yolo9k.errors import ConfigError
from yolo9k.evaluation.classifier import evaluate_classifier
from yolo9k.hardware import Precision
from yolo9k.inference.classifier import ImageClassifier
from yolo9k.progress import Track, silent
from yolo9k.resolve import at_size, resolve_classification
from yolo9k.samples import Batch
from yolo9k.training.stages import Stage
from yolo9k.training.step import TrainingStep
from yolo9k.training.tasks.task import EvalModel, OnUnreadable, Scores, Task, warn_without_validation
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax
from yolo9k.wordtree.supervision import Supervision

log = logging.getLogger(__name__)

MIXUP = 1000  # keeps this random stream apart from those of `yolo9k.datasets.loader.sampler`


class ClassificationStep(TrainingStep):
    """The training step of a classifier: cross entropy over the label set.

    `smoothing`: fraction of the target spread over the sibling group. `mixup`: parameter of the Beta distribution from
    which the mixing weight of a micro-batch is drawn, 0: off. The draw depends only on `seed` and `seen`, so that a
    resumed run repeats it.
    """

    network: ClassifierNetwork
    loss_names = ("classification",)

    def __init__(
        self,
        network: ClassifierNetwork,
        softmax: HierarchicalSoftmax,
        *,
        smoothing: float,
        mixup: float,
        seed: int,
        **settings: Any,
    ) -> None:
        super().__init__(network, **settings)
        self.softmax, self.smoothing, self.mixup, self.seed = softmax, smoothing, mixup, seed
        self.forward_network = network.forward

    def losses(self, batch: Batch, images: Tensor, seen: int) -> dict[str, Tensor]:
        """Return `classification`, the cross entropy summed over the micro-batch."""
        label = batch.image_label
        if not self.mixup:
            return {"classification": self._cross_entropy(self.outputs(images), label).sum()}
        rng = np.random.default_rng([self.seed, MIXUP, seen, *([processes.rank()] if processes.rank() else [])])
        weight = float(rng.beta(self.mixup, self.mixup))
        partner = torch.from_numpy(rng.permutation(len(label))).to(label.device, non_blocking=True)
        logits = self.outputs(weight * images + (1 - weight) * images[partner])
        own, other = self._cross_entropy(logits, label), self._cross_entropy(logits, label[partner])
        return {"classification": (weight * own + (1 - weight) * other).sum()}

    def _cross_entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        return self.softmax.loss(logits, label, self.smoothing)


def classification_step(
    config: ClassifierConfig, network: ClassifierNetwork, labels: WordTree, device: torch.device, precision: Precision
) -> ClassificationStep:
    """Build the training step of a config; the network must already be on the device."""
    return ClassificationStep(
        network, HierarchicalSoftmax(labels).to(device),
        smoothing=config.loss.label_smoothing, mixup=config.data.augment.mixup,
        seed=config.train.seed, device=device, precision=precision, batch_size=config.train.batch,
    )  # fmt: skip


class ClassificationTask(Task):
    """A classifier trained on image-level labels, over a flat label set or a tree.

    `train` and `val`: the splits as read; `val` is `None` if the data set has no such split. Raises the errors of
    reading them, and `ConfigError` for a joint data set or if `train.patience` is set without a validation split.
    """

    config: ClassifierConfig
    network: ClassifierNetwork

    def __init__(self, config: ClassifierConfig, track: Track = silent) -> None:
        dataset = load_dataset_config(config.data.dataset)
        if not isinstance(dataset, DatasetConfig):
            raise ConfigError("data.dataset: must be one data set of kind folder or shards, not a joint one")
        self.train = read_images(dataset, "train", track)
        self.val = _read_val(config, dataset, track)
        self.config = resolve_classification(config, dataset)
        data = self.config.data
        self.labels = self.train.labels
        counts = self.train.records.counts(len(self.labels))  # images per node
        self.supervision = Supervision((), tuple(int(node) for node in np.flatnonzero(counts)))
        _warn_of_one_class(counts, self.labels)
        torch.manual_seed(config.train.seed)
        self.network = build_classifier(config.model, self.labels)
        transform = for_channels(ClassificationTransform(data.augment), data.channels)
        self.dataset = self._dataset(transform)
        self.images_per_epoch = float(len(self.train.records))
        self.has_val = self.val is not None
        classes = sum(each.node is not None for each in self.train.classes)
        self.data_summary = f"{len(self.train.records):,} images of {classes:,} classes"
        self.notes = []

    def sample_order(self, seed: int) -> SampleOrder:
        """Return the order in which training images are drawn."""
        return SampleOrder([len(self.train.records)], seed)

    def build_step(self, device: torch.device, precision: Precision) -> ClassificationStep:
        """Return network and cross entropy as one module."""
        return classification_step(self.config, self.network, self.labels, device, precision)

    def dataset_in(self, stage: Stage) -> TrainingDataset:
        """Return the training images with the crop sizes of this stage."""
        if not self.config.stages:
            return self.dataset
        crops = self.config.stages[stage.index].model_dump(include={"min_crop", "max_crop"}, exclude_none=True)
        data = self.config.data
        transform = for_channels(ClassificationTransform(updated(data.augment, crops)), data.channels)
        return self._dataset(transform)

    def _dataset(self, transform: Transform) -> TrainingDataset:
        data = self.config.data
        reduce = data.resize != "darknet"  # as the classifier reads them
        return TrainingDataset([self.train.records], transform, self.config.train.seed, data.on_error, reduce=reduce)

    def config_in(self, stage: Stage) -> ClassifierConfig:
        """Return the config with `data.size` of this stage, so that evaluation uses it, too."""
        return at_size(self.config, stage.sizes[0])

    def score(self, eval_model: EvalModel, on_unreadable: OnUnreadable | None, track: Track) -> Scores:
        """Score a network on the validation split."""
        assert self.val is not None
        assert isinstance(eval_model.config, ClassifierConfig)
        classifier = ImageClassifier(
            eval_model.network, self.labels, eval_model.config, device=eval_model.device, precision=eval_model.precision
        )
        batch = self.config.eval.batch
        scores = evaluate_classifier(classifier, self.val, batch=batch, track=track, on_unreadable=on_unreadable)
        row = {"top1": round(scores.top1, 5), "top5": round(scores.top5, 5)}  # columns of results.csv: keep the names
        return Scores(row, scores.top1, f"top-1 {scores.top1:.4f} top-5 {scores.top5:.4f}")


def _warn_of_one_class(counts: np.ndarray, labels: WordTree) -> None:
    """Warn if all training images have one label; `counts`: images per node."""
    used = np.flatnonzero(counts)
    if len(used) == 1:
        log.warning("every training image has one class, %s: there is nothing to tell apart", labels.names[used[0]])


def _read_val(config: ClassifierConfig, dataset: DatasetConfig, track: Track) -> ImageSet | None:
    """Read the validation split if there is one. Raises `ConfigError` if there is none but `train.patience` is set."""
    split = config.eval.split
    if split in split_names(dataset):
        return read_images(dataset, split, track)
    if config.train.patience:
        raise ConfigError(f"train.patience: needs a validation split; the data set has no split {split!r}")
    if config.train.eval_every:  # else none is expected
        warn_without_validation(dataset, split)
    return None
