"""The path from YOLO to YOLOv2 (YOLO9000 section 2, table 2): each step trained on a data set, over several seeds.

Everything goes into one folder, a run folder for each row and seed; what is finished there is not done again.
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
from yolo9k.datasets.joint import read_training, to_score
from yolo9k.datasets.load import check_split, read_annotations, split_names
from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import ConfigError
from yolo9k.evaluation import Evaluation, evaluate_detector
from yolo9k.inference.detector import Detector
from yolo9k.progress import Track, silent
from yolo9k.resolve import with_aspect
from yolo9k.training.output.callbacks import Callback

SIZE = 416  # what the configs are written for


@dataclass(frozen=True)
class Row:
    """One step of the path: the `name` of its config in `configs/ablation`, what it `adds`, the paper's mAP.

    `paper`: on VOC 2007, in percent, of the nearest row of its table 2; none where it has none.
    `classifier`: the size of images of the classifier that it starts from. `network_of`: the row whose network it
    uses, where it has none of its own.
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


def rows_named(names: Sequence[str]) -> tuple[Row, ...]:
    """The rows of these names or numbers, in the order of the path; all where none is named. Raises `ConfigError`."""
    chosen = {name: [row for row in ROWS if name in (row.name, row.name.partition("-")[0])] for name in names}
    for name, found in chosen.items():
        if not found:
            raise ConfigError(f"{name}: no row of the path; the rows are {', '.join(row.name for row in ROWS)}")
    return tuple(row for row in ROWS if not names or any(row in found for found in chosen.values()))


@dataclass(frozen=True)
class Settings:
    """What all rows share.

    `size`: the side of the images that stands for the configs' 416; all lengths change with it. `classifier` and
    `classifier_448`: the weights to start from, before and after row 3. `split`: what is scored.
    """

    dataset: AnyDataset
    split: str
    size: int = SIZE
    overrides: tuple[str, ...] = ()
    classifier: str = ""
    classifier_448: str = ""

    def config(self, row: Row, seed: int = 0) -> Config:
        """The config of a row. Raises `ConfigError`."""
        loaded = load_config(f"ablation/{row.name}", self.overrides)
        changes = {**_scaled(loaded, self.size / SIZE), "data.dataset": self.dataset, "train.seed": seed}
        return updated(loaded, changes, f"row {row.name} at size {self.size}")

    def weights(self, row: Row) -> str | None:
        """What a row's network starts from; none means random weights."""
        chosen = self.classifier_448 if row.classifier == 448 else ""
        return chosen or self.classifier or None

    def path(self, rows: Sequence[Row]) -> tuple[Row, ...]:
        """The rows that can be told apart: without a second classifier row 3 is row 2.

        Raises `ConfigError` where overrides make two neighbours of the path the same.
        """
        refuse_keys(self.overrides, ("train.seed", "data.dataset"))
        if self.size < STRIDE or self.size % STRIDE:
            raise ConfigError(f"size: must be a multiple of {STRIDE}, not {self.size}")
        if self.classifier_448 and not self.classifier:
            raise ConfigError("classifier-448: rows 1 and 2 need the classifier from before that (classifier)")
        known = tuple(row for row in ROWS if self.classifier_448 or row.name != HIGH_RESOLUTION_CLASSIFIER)
        for before, row in pairwise(known):
            if self._same(before, row):
                raise ConfigError(self._why_same(before, row))
        found = tuple(row for row in rows if row in known)
        if not found:
            raise ConfigError(f"row {HIGH_RESOLUTION_CLASSIFIER}: needs the classifier it is about (classifier-448)")
        return found

    def _same(self, before: Row, row: Row) -> bool:
        return self.weights(before) == self.weights(row) and self.config(before) == self.config(row)

    def _why_same(self, before: Row, row: Row) -> str:
        same = f"makes the rows {before.name} and {row.name} the same"
        if replace(self, overrides=())._same(before, row):
            return f"--size {self.size}: {same}; take a larger one"
        return (
            f"--set: {same}; leave out what the rows are about (yolo9k config show ablation/{row.name} --raw); "
            f"sizes are changed with --size"
        )


def split_to_score(dataset: AnyDataset, requested: str = "") -> str:
    """The split to score: the one that is requested for, else `test` where there is one, else `val`.

    Raises `ConfigError` where there is none of that name.
    """
    scored, _ = to_score(dataset, requested or "test")
    split = requested or ("test" if "test" in split_names(scored) else "val")
    check_split(scored, split)
    return split


def _scaled(config: Config, factor: float) -> dict[str, Any]:
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
    """How a row came out with one seed, all from 0 to 1; `diverged`: what training said instead, the scores are 0."""

    map50: float = 0.0
    voc07: float = 0.0
    map50_95: float = 0.0
    recall: float = 0.0
    diverged: str = ""

    @classmethod
    def of(cls, scores: Evaluation) -> "Score":
        """What is kept of an evaluation; `recall` at the best mean F1."""
        return cls(scores.map50, scores.voc07, scores.map50_95, scores.total.recall)


class Ablation:
    """The rows of the path in a folder.

    Raises `ConfigError` for a folder that was begun with other settings, `WeightsError` for a classifier that cannot be
    opened.
    """

    def __init__(self, folder: Path, settings: Settings, rows: Sequence[Row] = ROWS, seeds: int = 3) -> None:
        self.settings, self.seeds = settings, seeds
        self.rows = settings.path(rows)
        values = {row.name: settings.config(row).model_dump(mode="json", exclude={"data": {"dataset"}}) for row in ROWS}
        known = {**vars(settings), "dataset": settings.dataset.model_dump(mode="json"), "rows": values}
        self.series = Series(folder, known, map(settings.weights, self.rows))

    def jobs(self) -> Iterator[tuple[Row, int]]:
        """All rows with all seeds, whether finished or not; all rows of a seed come before the next seed."""
        return ((row, seed) for seed in range(self.seeds) for row in self.rows)

    def score(self, row: Row, seed: int) -> Score | None:
        """How it came out, where it is finished."""
        return self.series.score(_name(row, seed), Score)

    def run(self, row: Row, seed: int, callback: Callback, track: Track = silent) -> Score:
        """Train a row with a seed and score it, as far as that is not done; a run that was cut short goes on."""

        def score() -> dict[str, Any]:
            owner = _owner(row)
            config, weights = self.settings.config(owner, seed), self.settings.weights(owner)
            network = self.series.trained(_name(owner, seed), config, weights, callback, track)
            return asdict(self._scored(network, row, seed, track))

        return self.series.scored(_name(row, seed), Score, score)

    def _scored(self, network: Path, row: Row, seed: int, track: Track) -> Score:
        config = self._fitted(self.settings.config(row, seed), track)
        dataset, split = to_score(self.settings.dataset, self.settings.split, track)
        truth = read_annotations(dataset, split, config.data.on_error, track)
        detector = Detector.load(network, device=config.train.device, size_wh=config.data.size)
        thresholds, batch = Thresholds.of(config.eval), config.eval.batch
        return Score.of(evaluate_detector(detector, truth, thresholds, batch=batch, depth=False, track=track)[0])

    def _fitted(self, config: Config, track: Track) -> Config:
        """The config with the sizes that training made of it."""
        if not config.data.fit_aspect:
            return config
        return with_aspect(config, read_training(self.settings.dataset, config.data.on_error, track).box_records)


def _name(row: Row, seed: int) -> str:
    return f"{row.name}/seed-{seed}"


def _owner(row: Row) -> Row:
    """The row whose network it uses: itself, as a rule."""
    return next(other for other in ROWS if other.name == (row.network_of or row.name))
