"""`Stage`: a part of a run with its own length, image sizes, learning rate and warm-up. A detector's run has one."""

import math
from dataclasses import dataclass

from yolo9k.config import ClassifierConfig, RunConfig, updated
from yolo9k.config.classifier import StageConfig
from yolo9k.config.schema import TrainConfig
from yolo9k.config.section import SizeWH
from yolo9k.training.schedule import learning_rate

DEFAULT_EPOCHS = 160  # YOLO9000 sections 2, 3


@dataclass(frozen=True)
class Stage:
    """Steps `start` to `stop` (exclusive) of a run.

    `train`: the run's `train` section with the stage's own values. `sizes`: image sizes; one is drawn every
    `size_period` steps. `index`: from 0.
    """

    start: int
    stop: int
    train: TrainConfig
    sizes: tuple[SizeWH, ...]
    size_period: int = 1
    index: int = 0

    def learning_rate(self, step: int, steps_per_epoch: float) -> float:
        """Return the learning rate of a step of the run; warm-up and schedule count from the start of the stage."""
        return learning_rate(step + 1 - self.start, self.stop - self.start, steps_per_epoch, self.train)

    def check_schedule(self, steps_per_epoch: float) -> None:
        """Raise `ConfigError` if the schedule leads to an impossible learning rate in any step of the stage.

        Between the steps that are tried, every policy only rises or only falls.
        """
        schedule = self.train.schedule
        unit = steps_per_epoch if schedule.unit == "epoch" else 1.0
        changes = (self.start + math.ceil(at * unit) - 1 for at in schedule.at)
        for step in (self.start, self.start + self.train.warmup, *changes, self.stop - 1):
            if self.start <= step < self.stop:
                self.learning_rate(step, steps_per_epoch)


def stages_of(config: RunConfig, steps_per_epoch: float) -> tuple[Stage, ...]:
    """Return the stages of a run: those of a classifier's config, else one."""
    if not isinstance(config, ClassifierConfig):
        steps = _num_steps(config.train, steps_per_epoch)
        return (Stage(0, steps, config.train, config.data.training_sizes, config.data.size_period),)
    stages: list[Stage] = []
    for stage in config.stages or (StageConfig(),):
        changes = stage.model_dump(include={"epochs", "steps", "lr", "warmup", "accumulate"}, exclude_none=True)
        if stage.epochs is not None or stage.steps is not None:  # replaces the run's length, in either unit
            changes = {"epochs": None, "steps": None, **changes}
        train = updated(config.train, changes)
        start = stages[-1].stop if stages else 0
        stop = start + _num_steps(train, steps_per_epoch)
        stages.append(Stage(start, stop, train, (stage.size or config.data.size,), index=len(stages)))
    return tuple(stages)


def _num_steps(train: TrainConfig, steps_per_epoch: float) -> int:
    if train.steps is not None:
        return train.steps
    return max(1, round((train.epochs or DEFAULT_EPOCHS) * steps_per_epoch))
