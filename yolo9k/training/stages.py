"""The parts of a run, one after another: each with its length, sizes, learning rate and burn-in."""

from collections.abc import Sequence
from dataclasses import dataclass

from yolo9k.config import ClassifierConfig, RunConfig, updated
from yolo9k.config.classifier import StageConfig
from yolo9k.config.schema import TrainConfig
from yolo9k.config.section import SizeWH
from yolo9k.training.schedule import learning_rate

DEFAULT_EPOCHS = 160  # YOLO9000 sections 2, 3


@dataclass(frozen=True)
class Stage:
    """Steps `first` to `last` (exclusive), as `train` says; every `size_period` steps one of the `sizes` is drawn."""

    first: int
    last: int
    train: TrainConfig
    sizes: tuple[SizeWH, ...]
    size_period: int = 1
    number: int = 0

    def learning_rate(self, step: int, steps_per_epoch: float) -> float:
        """The learning rate of a step, which counts from the beginning of the stage."""
        return learning_rate(step + 1 - self.first, self.last - self.first, steps_per_epoch, self.train)


def stages_of(config: RunConfig, steps_per_epoch: float) -> tuple[Stage, ...]:
    """The stages of a run: those of a classifier's config, else one."""
    if not isinstance(config, ClassifierConfig):
        steps = _steps(config.train, steps_per_epoch)
        return (Stage(0, steps, config.train, config.data.training_sizes, config.data.size_period),)
    return _in_turn(config, config.stages or (StageConfig(),), steps_per_epoch)


def _in_turn(config: ClassifierConfig, parts: Sequence[StageConfig], steps_per_epoch: float) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    for part in parts:
        own = part.model_dump(include={"epochs", "steps", "lr", "warmup", "accumulate"}, exclude_none=True)
        if part.epochs is not None or part.steps is not None:
            own = {"epochs": None, "steps": None, **own}
        train = updated(config.train, own)
        first = stages[-1].last if stages else 0
        last = first + _steps(train, steps_per_epoch)
        stages.append(Stage(first, last, train, (part.size or config.data.size,), number=len(stages)))
    return tuple(stages)


def _steps(train: TrainConfig, steps_per_epoch: float) -> int:
    if train.steps is not None:
        return train.steps
    return max(1, round((train.epochs or DEFAULT_EPOCHS) * steps_per_epoch))
