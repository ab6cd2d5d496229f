"""The ablation from YOLO to YOLOv2 (YOLO9000 section 2, table 2): train each step of the path on a dataset.

All results are stored in one folder, with a run folder per row and seed; finished runs are not repeated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from studies.series import Series, refuse_keys
from yolo9k.config import Config, load_config, updated
from yolo9k.config.datasets import AnyDataset
from yolo9k.config.section import STRIDE
from yolo9k.datasets.joint import evaluation_split, read_training
from yolo9k.datasets.load import check_split, read_annotations, split_names
from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import ConfigError
from yolo9k.evaluation import Evaluation, evaluate_detector
from yolo9k.inference.detector import Detector
from yolo9k.progress import Track, silent
from yolo9k.resolve import with_aspect
from yolo9k.training.output.callbacks import Callback

SIZE = 416  # image size of the configs


@dataclass(frozen=True)
class Row:
    """One step of the path. `name`: its config in `configs/ablation`. `adds`: the change from the row before.

    `paper`: mAP in percent on VOC 2007 of the closest row of the paper's table 2; `None`: it has none. `classifier`:
    image size of the pretrained classifier. `network_of`: the row whose trained network is reused; "": its own.
    """

    name: str
    adds: str
    paper: float | None
    classifier: Literal[224, 448] = 448
    network_of: str = ""


HIGH_RESOLUTION_CLASSIFIER = "3-high-resolution-classifier"
ROWS = (
    Row("1-plain", "plain", 63.4, classifier=224),
    Row("2-batch-norm", "batch norm", 65.8, classifier=224),
    Row(HIGH_RESOLUTION_CLASSIFIER, "high-resolution classifier", 69.6),
    Row("4-dimension-priors", "dimension priors", None),
    Row("5-location-prediction", "direct location prediction", 74.4),
    Row("6-passthrough", "passthrough", 75.4),
    Row("7-multi-scale", "multi-scale training", 76.8),
    Row("8-high-resolution-detector", "high-resolution detector", 78.6, network_of="7-multi-scale"),
)


def select_rows(names: Sequence[str]) -> tuple[Row, ...]:
    """Select rows by name or number, in the order of the path; all rows if `names` is empty. Raises `ConfigError`."""
    matches = {name: [row for row in ROWS if name in (row.name, row.name.partition("-")[0])] for name in names}
    for name, rows in matches.items():
        if not rows:
            raise ConfigError(f"--only {name}: unknown row; must be one of {', '.join(row.name for row in ROWS)}")
    return tuple(row for row in ROWS if not names or any(row in rows for rows in matches.values()))


@dataclass(frozen=True)
class Settings:
    """The settings of all rows.

    `size`: image side in pixels that replaces the configs' 416; anchors and other sizes scale with it. `classifier`,
    `classifier_448`: pretrained weights of rows 1 and 2, and of the rows from 3 on ("": none). `split`: evaluated.
    """

    dataset: AnyDataset
    split: str
    size: int = SIZE
    overrides: tuple[str, ...] = ()
    classifier: str = ""
    classifier_448: str = ""

    def config(self, row: Row, seed: int = 0) -> Config:
        """Return the config of a row. Raises `ConfigError`."""
        loaded = load_config(f"ablation/{row.name}", self.overrides)
        changes = {**_scaled_sizes(loaded, self.size / SIZE), "data.dataset": self.dataset, "train.seed": seed}
        return updated(loaded, changes, f"row {row.name} at size {self.size}")

    def weights(self, row: Row) -> str | None:
        """Return the pretrained weights of a row; `None`: random weights."""
        weights = self.classifier_448 if row.classifier == 448 else ""
        return weights or self.classifier or None

    def trainable_rows(self, rows: Sequence[Row]) -> tuple[Row, ...]:
        """Return `rows` without row 3 if there is no second classifier, since it would equal row 2.

        Raises `ConfigError` if the size is invalid, if the settings make two neighbours of the path equal, or if no
        row remains.
        """
        refuse_keys(self.overrides, ("train.seed", "data.dataset"))
        if self.size < STRIDE or self.size % STRIDE:
            raise ConfigError(f"--size: must be a multiple of {STRIDE}, not {self.size}")
        if self.classifier_448 and not self.classifier:
            raise ConfigError("--classifier-448: requires --classifier, the classifier of rows 1 and 2")
        possible = tuple(row for row in ROWS if self.classifier_448 or row.name != HIGH_RESOLUTION_CLASSIFIER)
        for before, row in pairwise(possible):
            if self._are_equal(before, row):
                raise ConfigError(self._equal_rows_message(before, row))
        remaining = tuple(row for row in rows if row in possible)
        if not remaining:
            raise ConfigError(f"--only {HIGH_RESOLUTION_CLASSIFIER}: requires --classifier-448")
        return remaining

    def _are_equal(self, before: Row, row: Row) -> bool:
        return self.weights(before) == self.weights(row) and self.config(before) == self.config(row)

    def _equal_rows_message(self, before: Row, row: Row) -> str:
        problem = f"makes the rows {before.name} and {row.name} equal"
        if replace(self, overrides=())._are_equal(before, row):
            return f"--size {self.size}: {problem}; use a larger size"
        return (
            f"--set: {problem}; do not set what the rows change (yolo9k config show ablation/{row.name} --raw); "
            f"set sizes with --size"
        )


def find_split(dataset: AnyDataset, requested: str = "") -> str:
    """Return the split to evaluate: the requested one, else `test` if the dataset has it, else `val`.

    Raises `ConfigError` if the dataset does not have the split.
    """
    evaluated, _ = evaluation_split(dataset, requested or "test")
    split = requested or ("test" if "test" in split_names(evaluated) else "val")
    check_split(evaluated, split)
    return split


def _scaled_sizes(config: Config, factor: float) -> dict[str, Any]:
    """Return sizes (multiples of the stride) and anchors (unless `auto`) times `factor`, by config key."""
    data, model = config.data, config.model
    sizes = tuple(dict.fromkeys(_scaled_size(size, factor) for size in data.sizes))
    changes: dict[str, Any] = {"data.size": _scaled_size(data.size, factor), "data.sizes": sizes}
    if model.anchors != "auto":
        changes["model.anchors"] = tuple((round(w * factor, 3), round(h * factor, 3)) for w, h in model.anchors)
    return changes


def _scaled_size(size_wh: tuple[int, int], factor: float) -> tuple[int, int]:
    w, h = (max(1, round(side * factor / STRIDE)) * STRIDE for side in size_wh)
    return w, h


@dataclass(frozen=True)
class Score:
    """The scores of a row with one seed, from 0 to 1. `recall`: at the best mean F1.

    `diverged`: the error message if training diverged; the scores are then 0.
    """

    map50: float = 0.0
    voc07: float = 0.0
    map50_95: float = 0.0
    recall: float = 0.0
    diverged: str = ""

    @classmethod
    def of(cls, evaluation: Evaluation) -> "Score":
        """Take the scores of an evaluation."""
        return cls(evaluation.map50, evaluation.voc07, evaluation.map50_95, evaluation.total.recall)


class Ablation:
    """The ablation in a folder: all runs of `rows` and `seeds`.

    Raises `ConfigError` if the folder has runs with other settings, `WeightsError` if a classifier cannot be opened.
    """

    def __init__(self, folder: Path, settings: Settings, rows: Sequence[Row] = ROWS, seeds: int = 3) -> None:
        self.settings, self.seeds = settings, seeds
        self.rows = settings.trainable_rows(rows)
        configs = {
            row.name: settings.config(row).model_dump(mode="json", exclude={"data": {"dataset"}}) for row in ROWS
        }
        stored = {**vars(settings), "dataset": settings.dataset.model_dump(mode="json"), "rows": configs}
        self.series = Series(folder, stored, map(settings.weights, self.rows))

    def jobs(self) -> Iterator[tuple[Row, int]]:
        """Yield all (row, seed), finished or not: all rows of a seed before the next seed."""
        return ((row, seed) for seed in range(self.seeds) for row in self.rows)

    def score(self, row: Row, seed: int) -> Score | None:
        """Return the score of a row; `None` if it is not finished."""
        return self.series.read_score(_run_name(row, seed), Score)

    def run(self, row: Row, seed: int, callback: Callback, track: Track = silent) -> Score:
        """Train and evaluate a row unless it is finished; an interrupted run is resumed."""

        def compute() -> dict[str, Any]:
            network_row = next(other for other in ROWS if other.name == (row.network_of or row.name))
            config, weights = self.settings.config(network_row, seed), self.settings.weights(network_row)
            network = self.series.ensure_trained(_run_name(network_row, seed), config, weights, callback, track)
            return asdict(self._evaluate(network, row, seed, track))

        return self.series.read_or_compute_score(_run_name(row, seed), Score, compute)

    def _evaluate(self, network: Path, row: Row, seed: int, track: Track) -> Score:
        config = self._with_trained_size(self.settings.config(row, seed), track)
        dataset, split = evaluation_split(self.settings.dataset, self.settings.split, track)
        ground_truth = read_annotations(dataset, split, config.data.on_error, track)
        detector = Detector.load(network, device=config.train.device, size_wh=config.data.size)
        thresholds, batch = Thresholds.of(config.eval), config.eval.batch
        return Score.of(evaluate_detector(detector, ground_truth, thresholds, batch=batch, track=track)[0])

    def _with_trained_size(self, config: Config, track: Track) -> Config:
        """Return the config with the image sizes that training used (`data.fit_aspect`)."""
        if not config.data.fit_aspect:
            return config
        return with_aspect(config, read_training(self.settings.dataset, config.data.on_error, track).box_records)


def _run_name(row: Row, seed: int) -> str:
    return f"{row.name}/seed-{seed}"
