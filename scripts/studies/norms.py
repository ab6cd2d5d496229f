"""What the size of a batch does to each norm (the figure of the group-norm paper, arXiv 1803.08494, on a detector).

Every norm sees the same number of images in batches of every size, over several seeds. All goes into one folder, a
run folder for each; what is finished there is not done again.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studies.series import Series, refuse_keys
from yolo9k.config import Config, load_config, updated
from yolo9k.config.datasets import AnyDataset
from yolo9k.config.schema import TrainConfig
from yolo9k.datasets.joint import to_score
from yolo9k.datasets.load import check_split
from yolo9k.errors import ConfigError
from yolo9k.progress import Track, silent
from yolo9k.training.output.callbacks import Callback

KINDS = ("batch", "group", "frozen")
BATCHES = (1, 2, 4, 16)
OWNED = (  # keys that the grid sets itself
    "model.norm.kind", "data.dataset", "train.seed", "train.accumulate", "train.epochs", "train.steps",
    "train.eval_every", "train.patience",
)  # fmt: skip
EVEN = ("constant", "cosine", "poly")  # schedules that depend on the progress alone, not on numbers of steps


@dataclass(frozen=True)
class Cell:
    """One training: a kind of norm, a size of batch, a seed."""

    kind: str
    batch: int
    seed: int


@dataclass(frozen=True)
class Score:
    """How it came out, from 0 to 1; `diverged`: what training said instead."""

    map50: float = 0.0
    map50_95: float = 0.0
    diverged: str = ""


@dataclass(frozen=True)
class Settings:
    """What all trainings share: a config (its rate is for its own batch), and how many `images` each one sees.

    `weights`: what they start from, with batch norms; `group_weights`: what those with group norm start from, where
    there is something better than the others' weights made into group norm.
    """

    config: str
    dataset: AnyDataset
    images: int
    overrides: tuple[str, ...] = ()
    weights: str = ""
    group_weights: str = ""

    def config_of(self, cell: Cell) -> Config:
        """The config of one training. Raises `ConfigError`."""
        loaded = load_config(self.config, (*self.overrides, f"model.norm.kind={cell.kind}"))
        if loaded.train.schedule.policy not in EVEN:
            raise ConfigError(
                f"train.schedule.policy: must be {', '.join(EVEN)} here, which count no steps, "
                f"not {loaded.train.schedule.policy}"
            )
        return updated(
            loaded,
            {**for_batch(loaded.train, cell.batch, self.images), "train.seed": cell.seed, "data.dataset": self.dataset},
            f"{self.config}, {cell.kind} norm, batches of {cell.batch}",
        )

    def weights_of(self, cell: Cell) -> str | None:
        """What one training starts from; none is random weights."""
        return (self.group_weights if cell.kind == "group" else "") or self.weights or None


def for_batch(config: TrainConfig, batch: int, images: int) -> dict[str, Any]:
    """Return the changes, by config key, that train with another batch size on `images` images, scored once at the end.

    The rate follows the batch, for AdamW its square root (Goyal et al., arXiv 1706.02677; Malladi et al., 2205.10287);
    burn-in and average go by images. One part for each update: a norm shall see the whole batch.
    """
    factor = batch / config.batch
    changes = {
        "batch": batch, "accumulate": 1, "epochs": None, "steps": max(1, round(images / batch)),
        "lr": config.lr * (factor if config.optimizer == "sgd" else math.sqrt(factor)),
        "warmup": round(config.warmup / factor), "ema": config.ema**factor if config.ema else 0.0,
        "eval_every": 0, "patience": 0,
    }  # fmt: skip
    return {f"train.{key}": value for key, value in changes.items()}


class NormGrid:
    """Kinds of norm by sizes of batch by seeds, in a folder.

    Raises `ConfigError` for `frozen` without weights to freeze and for a folder that was begun with other settings,
    `WeightsError` for weights that cannot be opened.
    """

    def __init__(
        self, folder: Path, settings: Settings, kinds: Sequence[str], batches: Sequence[int], seeds: int
    ) -> None:
        self.settings = settings
        self.kinds, self.batches, self.seeds = tuple(dict.fromkeys(kinds)), tuple(dict.fromkeys(batches)), seeds
        if "frozen" in self.kinds and not settings.weights:
            raise ConfigError("kind frozen: freezes the statistics of other weights; name them (--weights)")
        refuse_keys(settings.overrides, OWNED)
        self.cells = [Cell(kind, batch, seed) for seed in range(seeds) for batch in self.batches for kind in self.kinds]
        for cell in self.cells:
            settings.config_of(cell)  # now, not hours later
        plain = load_config(settings.config, settings.overrides)
        check_split(to_score(settings.dataset, plain.eval.split)[0], plain.eval.split)
        known = {**vars(settings), "dataset": settings.dataset.model_dump(mode="json"), **plain.model_dump(mode="json")}
        self.series = Series(folder, known, map(settings.weights_of, self.cells))

    def score(self, cell: Cell) -> Score | None:
        """How it came out, where it is finished."""
        return self.series.score(_name(cell), Score)

    def run(self, cell: Cell, callback: Callback, track: Track = silent) -> Score:
        """Train and score one, as far as that is not done. Raises the errors of training, but for divergence."""

        def score() -> dict[str, Any]:
            config, weights = self.settings.config_of(cell), self.settings.weights_of(cell)
            return asdict(_final_score(self.series.trained(_name(cell), config, weights, callback, track)))

        return self.series.scored(_name(cell), Score, score)

    def scores(self) -> Iterator[tuple[Cell, Score]]:
        """What is finished."""
        for cell in self.cells:
            found = self.score(cell)
            if found is not None:
                yield cell, found


def _name(cell: Cell) -> str:
    return f"{cell.kind}-{cell.batch}/seed-{cell.seed}"


def _final_score(folder: Path) -> Score:
    """The last line of a run's results."""
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    return Score(float(last["mAP50"]), float(last["mAP50-95"]))


def to_dict(grid: NormGrid) -> dict[str, Any]:
    """Everything, for JSON."""
    about = {**vars(grid.settings), "dataset": grid.settings.dataset.name}
    return {**about, "cells": [{**asdict(cell), **asdict(score)} for cell, score in grid.scores()]}
