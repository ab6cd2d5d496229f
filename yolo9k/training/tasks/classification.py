"""Training a classifier, as a task of the training loop (YOLO9000 section 3, "Training for classification")."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolo9k.build import ClassifierNetwork, build_classifier
from yolo9k.config import ClassifierConfig, DatasetConfig, load_dataset_config, updated
from yolo9k.datasets.load import ImageSet, read_images, split_names
from yolo9k.datasets.loader.dataset import TrainingDataset
from yolo9k.datasets.loader.sampler import SampleOrder
from yolo9k.datasets.transforms.classification import ClassificationTransform
from yolo9k.errors import ConfigError
from yolo9k.evaluation.classifier import evaluate_classifier
from yolo9k.hardware import Precision
from yolo9k.inference.classifier import ImageClassifier
from yolo9k.progress import Track, silent
from yolo9k.resolve import at_size, resolve_classification
from yolo9k.samples import Batch
from yolo9k.training.stages import Stage
from yolo9k.training.step import TrainingStep
from yolo9k.training.tasks.task import EvalModel, OnBad, Scores, Summary, Task
from yolo9k.wordtree.softmax import HierarchicalSoftmax
from yolo9k.wordtree.supervision import Supervision

MIXUP = 1000  # keeps its random stream apart from those of `yolo9k.datasets.loader.sampler`


class ClassificationStep(TrainingStep):
    """The step of a classifier: cross entropy of each image's label over the label set.

    `smoothing`: the share of a label that its siblings get. `mixup`: the parameter of the Beta distribution from which
    the share is drawn that every image keeps of itself, the rest being another of the batch; 0 is off. The draw
    depends on `seed` and the place in the run alone.
    """

    network: ClassifierNetwork

    def __init__(
        self,
        network: ClassifierNetwork,
        scores: HierarchicalSoftmax,
        *,
        smoothing: float,
        mixup: float,
        seed: int,
        **setting: Any,
    ) -> None:
        super().__init__(network, **setting)
        self.scores, self.smoothing, self.mixup, self.seed = scores, smoothing, mixup, seed
        self.compute = network.forward

    def losses(self, batch: Batch, images: Tensor, seen: int) -> dict[str, Tensor]:
        """The sum over the batch, `classification`."""
        label = batch.image_label
        if not self.mixup:
            return {"classification": self._loss(self.computed(images), label).sum()}
        rng = np.random.default_rng([self.seed, MIXUP, seen])
        own = float(rng.beta(self.mixup, self.mixup))
        other = torch.from_numpy(rng.permutation(len(label))).to(label.device, non_blocking=True)
        logits = self.computed(own * images + (1 - own) * images[other])
        mixed = own * self._loss(logits, label) + (1 - own) * self._loss(logits, label[other])
        return {"classification": mixed.sum()}

    def _loss(self, logits: Tensor, label: Tensor) -> Tensor:
        return self.scores.loss(logits, label, self.smoothing)


class ClassificationTask(Task):
    """A classifier that learns labels of whole images, flat or in a tree."""

    config: ClassifierConfig
    network: ClassifierNetwork

    def __init__(self, config: ClassifierConfig, track: Track = silent) -> None:
        dataset = load_dataset_config(config.data.dataset)
        if not isinstance(dataset, DatasetConfig):
            raise ConfigError(
                "data.dataset: a classifier learns from one data set (kind folder or shards), not a joint"
            )
        self.train = read_images(dataset, "train", track)
        self.val = _read_val(dataset, config.eval.split, config.train.patience, track)
        self.config = resolve_classification(config, dataset)
        data = self.config.data
        self.labels = self.train.labels
        self.supervision = _supervision(self.train)
        torch.manual_seed(config.train.seed)
        self.network = build_classifier(config.model, self.labels)
        transform = ClassificationTransform(data.augment)
        self.images = TrainingDataset([self.train.records], transform, config.train.seed, data.on_error)
        self.epoch = float(len(self.train.records))
        self.has_val = self.val is not None
        self.notes = [f"warning: {issue.place}: {issue.message}" for issue in self.train.errors]
        if self.val is None:
            self.notes.append(f"no split {config.eval.split!r}: nothing is scored; `holdout: 0.1` makes val of train")

    def stream(self, seed: int) -> SampleOrder:
        """The order in which images are drawn."""
        return SampleOrder([len(self.train.records)], seed)

    def step(self, device: torch.device, precision: Precision) -> ClassificationStep:
        """Network and cross entropy as one module."""
        return ClassificationStep(
            self.network, HierarchicalSoftmax(self.labels).to(device),
            smoothing=self.config.loss.label_smoothing, mixup=self.config.data.augment.mixup,
            seed=self.config.train.seed, device=device, precision=precision, images=self.config.train.batch,
        )  # fmt: skip

    def images_in(self, stage: Stage) -> TrainingDataset:
        """The images with the crops of the stage."""
        if not self.config.stages:
            return self.images
        own = self.config.stages[stage.number].model_dump(include={"min_crop", "max_crop"}, exclude_none=True)
        transform = ClassificationTransform(updated(self.config.data.augment, own))
        return TrainingDataset([self.train.records], transform, self.config.train.seed, self.config.data.on_error)

    def config_in(self, stage: Stage) -> ClassifierConfig:
        """The config with the stage's size, which is that of evaluation, too."""
        return at_size(self.config, stage.sizes[0])

    def score(self, eval_model: EvalModel, on_bad: OnBad | None, track: Track) -> Scores:
        """Score these weights on the validation split."""
        assert self.val is not None
        assert isinstance(eval_model.config, ClassifierConfig)
        classifier = ImageClassifier(
            eval_model.network, self.labels, eval_model.config, device=eval_model.device, precision=eval_model.precision
        )
        found = evaluate_classifier(classifier, self.val, batch=self.config.eval.batch, track=track, on_bad=on_bad)
        row = {"top1": round(found.top1, 5), "top5": round(found.top5, 5)}
        return Scores(row, found.top1, f"top-1 {found.top1:.4f} top-5 {found.top5:.4f}")

    def summary(self) -> Summary:
        """Images and classes."""
        classes = sum(each.node is not None for each in self.train.classes)
        return Summary(f"{len(self.train.records):,} images of {classes:,} classes", ())


def _read_val(dataset: DatasetConfig, split: str, patience: int, track: Track) -> ImageSet | None:
    """The split to look at, where there is one. Raises `ConfigError` where patience needs it."""
    if split in split_names(dataset):
        return read_images(dataset, split, track)
    if patience:
        raise ConfigError(f"train.patience: the data set has no split {split!r} to lose patience over")
    return None


def _supervision(train: ImageSet) -> Supervision:
    """The labels that images have."""
    return Supervision((), tuple(int(node) for node in np.flatnonzero(train.records.counts(len(train.labels)))))
