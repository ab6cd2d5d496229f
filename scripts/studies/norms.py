"""The norm study: each norm with each batch size (figure 1 of Group Normalization, arXiv 1803.08494, for a detector).

Every run trains on the same number of images. All results are stored in one folder, with a run folder per norm, batch
size and seed; finished runs are not repeated.
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
from yolo9k.datasets.joint import evaluation_split
from yolo9k.datasets.load import check_split
from yolo9k.errors import ConfigError
from yolo9k.progress import Track, silent
from yolo9k.training.output.callbacks import Callback

KINDS = ("batch", "group", "frozen")
BATCHES = (1, 2, 4, 16)
STUDY_KEYS = (  # config keys that the study sets
    "model.norm.kind", "data.dataset", "train.seed", "train.accumulate", "train.epochs", "train.steps",
    "train.eval_every", "train.patience",
)  # fmt: skip
POLICIES = ("constant", "cosine", "poly")  # schedules that depend on the fraction of steps, not on their count


@dataclass(frozen=True)
class NormRun:
    """One training run: a kind of norm, a batch size and a seed."""

    kind: str
    batch: int
    seed: int


@dataclass(frozen=True)
class Score:
    """The scores of a run, from 0 to 1; `diverged`: the error message if training diverged."""

    map50: float = 0.0
    map50_95: float = 0.0
    diverged: str = ""


@dataclass(frozen=True)
class Settings:
    """The settings of all runs: a config, whose lr fits its own batch size, and the number of training `images`.

    `weights`: pretrained weights with batch norm; "": random weights. `group_weights`: pretrained weights for group
    norm; "": `weights`, with its batch norm converted to group norm.
    """

    config: str
    dataset: AnyDataset
    images: int
    overrides: tuple[str, ...] = ()
    weights: str = ""
    group_weights: str = ""

    def config_for(self, run: NormRun) -> Config:
        """Return the config of a run. Raises `ConfigError`."""
        loaded = load_config(self.config, (*self.overrides, f"model.norm.kind={run.kind}"))
        if loaded.train.schedule.policy not in POLICIES:
            raise ConfigError(
                f"train.schedule.policy: must be one of {', '.join(POLICIES)} in this study, "
                f"not {loaded.train.schedule.policy}"
            )
        return updated(
            loaded,
            {
                **batch_changes(loaded.train, run.batch, self.images),
                "train.seed": run.seed,
                "data.dataset": self.dataset,
            },
            f"{self.config}, {run.kind} norm, batch size {run.batch}",
        )

    def weights_for(self, run: NormRun) -> str | None:
        """Return the pretrained weights of a run; `None`: random weights."""
        return (self.group_weights if run.kind == "group" else "") or self.weights or None


def batch_changes(config: TrainConfig, batch: int, images: int) -> dict[str, Any]:
    """Return the config changes, by key, to train with another batch size on `images` images and evaluate at the end.

    The lr scales with the batch size, for AdamW with its square root (Goyal et al., arXiv 1706.02677; Malladi et al.,
    2205.10287). Warm-up and weight averaging are counted in images. A step has one micro-batch, so that a norm sees
    the whole batch.
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
    """The norm study in a folder: all runs of `kinds`, `batches` and `seeds`.

    Raises `ConfigError` for `frozen` without weights and if the folder has runs with other settings, `WeightsError` if
    weights cannot be opened.
    """

    def __init__(
        self, folder: Path, settings: Settings, kinds: Sequence[str], batches: Sequence[int], seeds: int
    ) -> None:
        self.settings = settings
        self.kinds, self.batches, self.seeds = tuple(dict.fromkeys(kinds)), tuple(dict.fromkeys(batches)), seeds
        if "frozen" in self.kinds and not settings.weights:
            raise ConfigError("--kind frozen: requires pretrained weights, whose statistics are frozen (--weights)")
        refuse_keys(settings.overrides, STUDY_KEYS)
        self.runs = [
            NormRun(kind, batch, seed) for seed in range(seeds) for batch in self.batches for kind in self.kinds
        ]
        for run in self.runs:
            settings.config_for(run)  # an invalid config is an error now, not hours later
        base = load_config(settings.config, settings.overrides)
        check_split(evaluation_split(settings.dataset, base.eval.split)[0], base.eval.split)
        stored = {**vars(settings), "dataset": settings.dataset.model_dump(mode="json"), **base.model_dump(mode="json")}
        self.series = Series(folder, stored, map(settings.weights_for, self.runs))

    def score(self, run: NormRun) -> Score | None:
        """Return the score of a run; `None` if it is not finished."""
        return self.series.read_score(_run_name(run), Score)

    def train(self, run: NormRun, callback: Callback, track: Track = silent) -> Score:
        """Train and evaluate a run unless it is finished. Raises the errors of training except `DivergedError`."""

        def compute() -> dict[str, Any]:
            config, weights = self.settings.config_for(run), self.settings.weights_for(run)
            return asdict(_final_score(self.series.ensure_trained(_run_name(run), config, weights, callback, track)))

        return self.series.read_or_compute_score(_run_name(run), Score, compute)

    def scores(self) -> Iterator[tuple[NormRun, Score]]:
        """Yield the finished runs with their scores."""
        for run in self.runs:
            score = self.score(run)
            if score is not None:
                yield run, score


def _run_name(run: NormRun) -> str:
    return f"{run.kind}-{run.batch}/seed-{run.seed}"


def _final_score(folder: Path) -> Score:
    """Read the last row of a run's `results.csv`."""
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    return Score(float(last["mAP50"]), float(last["mAP50-95"]))


def to_dict(grid: NormGrid) -> dict[str, Any]:
    """Return settings and scores for JSON."""
    settings = {**vars(grid.settings), "dataset": grid.settings.dataset.name}
    return {**settings, "cells": [{**asdict(run), **asdict(score)} for run, score in grid.scores()]}
