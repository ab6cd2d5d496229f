"""What a run may learn: the border between the training loop, which serves any task, and the tasks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from yolo9k.build import ClassifierNetwork, Network
from yolo9k.config import RunConfig
from yolo9k.datasets.loader.dataset import TrainingDataset
from yolo9k.datasets.loader.sampler import SampleOrder
from yolo9k.errors import DataError
from yolo9k.hardware import Precision
from yolo9k.progress import Track
from yolo9k.training.stages import Stage
from yolo9k.training.step import TrainingStep
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision

OnBad = Callable[[DataError], None]


@dataclass(frozen=True)
class Scores:
    """What an evaluation says: `row` is recorded, by `value` the best is chosen, `text` is for a person."""

    row: Mapping[str, float]
    value: float
    text: str


@dataclass(frozen=True)
class EvalModel:
    """The weights of now, averaged ones where the run keeps them, and what a checkpoint says of them."""

    network: Any
    config: RunConfig
    device: torch.device
    precision: Precision


@dataclass(frozen=True)
class Summary:
    """What is learnt from what, in words: the `data`, and further `lines`."""

    data: str
    lines: Sequence[str]


class Task(ABC):
    """The data, the network, the losses and the scores of one run.

    `config` has everything written out (labels, anchors, aspect); `network` has fresh weights and is on the CPU;
    `epoch`: images that are drawn until each has come once. `notes`: what a person should know of the data.
    """

    config: RunConfig
    labels: WordTree
    supervision: Supervision | None
    network: Network | ClassifierNetwork
    images: TrainingDataset
    epoch: float
    has_val: bool
    notes: Sequence[str]

    @abstractmethod
    def stream(self, seed: int) -> SampleOrder:
        """The order in which images are drawn."""

    @abstractmethod
    def step(self, device: torch.device, precision: Precision) -> TrainingStep:
        """Network and loss as one module; the network is on the device already."""

    def images_in(self, stage: Stage) -> TrainingDataset:
        """The images as this stage has them changed."""
        return self.images

    def config_in(self, stage: Stage) -> RunConfig:
        """What a checkpoint from this stage says of itself."""
        return self.config

    @abstractmethod
    def score(self, eval_model: EvalModel, on_bad: OnBad | None, track: Track) -> Scores:
        """Score these weights on the validation split, which must be there (`has_val`).

        An image that cannot be read is told to `on_bad`, or raises `DataError` where there is none.
        """

    @abstractmethod
    def summary(self) -> Summary:
        """What a person should see before the first step."""
