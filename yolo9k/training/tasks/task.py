"""`Task`, the interface between the training loop and what is trained, and the types it exchanges with the loop."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from yolo9k.build import ClassifierNetwork, Network
from yolo9k.config import DatasetConfig, RunConfig
from yolo9k.datasets.load import split_names
from yolo9k.datasets.loader.dataset import TrainingDataset
from yolo9k.datasets.loader.sampler import SampleOrder
from yolo9k.errors import DataError
from yolo9k.hardware import Precision
from yolo9k.progress import Track
from yolo9k.training.stages import Stage
from yolo9k.training.step import TrainingStep
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision

OnUnreadable = Callable[[DataError], None]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scores:
    """Scores of an evaluation.

    `row`: metrics to record, by name. `value`: the metric that selects the best checkpoint. `text`: the line for users.
    """

    row: Mapping[str, float]
    value: float
    text: str


@dataclass(frozen=True)
class EvalModel:
    """A network to score, and how to run it.

    `network`: the averaged network if the run keeps an average. `config`: as in a checkpoint saved now.
    """

    network: Any
    config: RunConfig
    device: torch.device
    precision: Precision


def warn_without_validation(dataset: DatasetConfig, split: str) -> None:
    """Warn that a training has no validation split: its name may be mistyped."""
    name, names = dataset.name or dataset.root, ", ".join(split_names(dataset))
    log.warning(
        "%s: no split %r (it has %s): nothing is validated, and best.pt is the newest state; `holdout: 0.1` in the "
        "config of the data set makes a val split of train",
        name, split, names,
    )  # fmt: skip


class Task(ABC):
    """The data, network, losses and scores of one run.

    `config`: the resolved config (labels, anchors and sizes filled in). `network`: with new weights, on the CPU.
    `dataset`: the training images. `images_per_epoch`: samples drawn until each image (of a joint data set: each image
    of the first source) came once. `has_val`: whether there is a validation split. `data_summary`: one line about the
    training data. `details`: further facts, one line each. `notes`: warnings and facts about the data for the user.
    """

    config: RunConfig
    labels: WordTree
    supervision: Supervision
    network: Network | ClassifierNetwork
    dataset: TrainingDataset
    images_per_epoch: float
    has_val: bool
    data_summary: str
    details: Sequence[str] = ()
    notes: Sequence[str]

    @abstractmethod
    def sample_order(self, seed: int) -> SampleOrder:
        """Return the order in which training images are drawn."""

    @abstractmethod
    def build_step(self, device: torch.device, precision: Precision) -> TrainingStep:
        """Return network and loss as one module; the network must already be on the device."""

    def dataset_in(self, stage: Stage) -> TrainingDataset:
        """Return the training images with the transform of this stage."""
        return self.dataset

    def config_in(self, stage: Stage) -> RunConfig:
        """Return the config that a checkpoint from this stage holds."""
        return self.config

    @abstractmethod
    def score(self, eval_model: EvalModel, on_unreadable: OnUnreadable | None, track: Track) -> Scores:
        """Score a network on the validation split; requires `has_val`.

        `on_unreadable` receives the error of each unreadable image; `None`: raises `DataError` for the first one.
        """
