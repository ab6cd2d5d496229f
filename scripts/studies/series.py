"""A series of training runs in one folder: finished runs are not repeated, unfinished ones are resumed."""

import json
import reprlib
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from yolo9k.checkpoint import LAST
from yolo9k.config import Config
from yolo9k.config.overrides import Override
from yolo9k.errors import ConfigError, DataError, DivergedError
from yolo9k.io import replacing, write_text
from yolo9k.pretrained import open_weights
from yolo9k.progress import Track, silent
from yolo9k.training import resume, train
from yolo9k.training.output.callbacks import Callback

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SETTINGS, SCORES = "settings.json", "scores.json"
ScoreValues = dict[str, Any]  # the contents of `scores.json`
Score = TypeVar("Score")


class Series:
    """Training runs in `folder`, each in its own subfolder.

    `settings`: common to all runs, ready for JSON. `weights`: pretrained weights of the runs; they are opened at once,
    so that an error does not appear hours later. Raises `ConfigError` if the folder has runs with other settings,
    `WeightsError` if weights cannot be opened, `MachineError` if the folder cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], weights: Iterable[str | None]) -> None:
        self.folder = folder
        for source in {source for source in weights if source}:
            open_weights(source)
        self._save_settings(json.loads(json.dumps(settings)))

    def _save_settings(self, settings: Mapping[str, Any]) -> None:
        """Write the settings, or compare them with those of existing runs."""
        path = self.folder / SETTINGS
        if not any(self.folder.glob("*/*/checkpoints/*.pt")):
            _write_json(path, settings)
            return
        difference = next(_differences(_read_json(path), settings), None)
        if difference:
            key, stored, current = difference
            raise ConfigError(
                f"{self.folder}: has runs with another {key}: {reprlib.repr(stored)}, not {reprlib.repr(current)}; "
                f"use another folder (--out) or the same settings"
            )

    def read_score(self, name: str, score_class: Callable[..., Score]) -> Score | None:
        """Return the score of a run, `None` if it is not finished. Raises `DataError` if the file is invalid."""
        values = self._score_values(name)
        return None if values is None else self._to_score(name, score_class, values)

    def read_or_compute_score(
        self, name: str, score_class: Callable[..., Score], compute: Callable[[], ScoreValues]
    ) -> Score:
        """Return the score of a run; if it is not finished, call `compute` and store its result.

        A `DivergedError` of `compute` is stored as a score, too, with its message in `diverged`.
        """
        values = self._score_values(name)
        if values is None:
            try:
                values = compute()
            except DivergedError as error:
                values = {"diverged": str(error)}
            _write_json(self.folder / name / SCORES, values)
        return self._to_score(name, score_class, values)

    def _to_score(self, name: str, score_class: Callable[..., Score], values: ScoreValues) -> Score:
        try:
            return score_class(**values)
        except TypeError as error:
            raise _unreadable(self.folder / name / SCORES, error) from error

    def _score_values(self, name: str) -> ScoreValues | None:
        path = self.folder / name / SCORES
        return _read_json(path) if path.exists() else None

    def ensure_trained(
        self, name: str, config: Config, weights: str | None, callback: Callback, track: Track = silent
    ) -> Path:
        """Train or resume a run unless it is finished; returns its folder. Raises the errors of training."""
        folder, values = self.folder / name, self._score_values(name)
        if values is not None and values.get("diverged"):
            raise DivergedError(values["diverged"])
        if values is not None:
            return folder
        torch.compiler.reset()  # torch caches few compiled variants of the same code, which all runs share
        if (folder / "checkpoints" / LAST).exists():
            return resume(folder, callback=callback, track=track)
        return train(config, folder, weights=weights, callback=callback, track=track)

    def write_report(self, name: str, text: str, figure: "Figure") -> list[Path]:
        """Write `name`.md and `name`.png to the folder; returns their paths. Raises `MachineError`."""
        table, plot = self.folder / f"{name}.md", self.folder / f"{name}.png"
        write_text(table, text)
        with replacing(plot) as draft:
            figure.savefig(draft, dpi=120, format="png")
        return [table, plot]


def refuse_keys(overrides: Iterable[str], keys: Sequence[str]) -> None:
    """Raise `ConfigError` for an override (`KEY=VALUE`) of a config key that the study sets itself."""
    for override in map(Override.of, overrides):
        for key in keys:
            if _has_key(override.nested(), key):
                raise ConfigError(f"{override.said}: {key} is set by the study; remove this override")


def _has_key(values: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def spread(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation; `None` for fewer than two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


def draw_seeds(axes: "Axes", values: Mapping[int, Sequence[float]], label: str) -> None:
    """Draw a line of means with their standard deviations, and a point per seed.

    `values`: by x coordinate, one value per seed; coordinates without values are skipped.
    """
    by_x = {x: seeds for x, seeds in values.items() if seeds}
    if not by_x:
        return
    means, spreads = zip(*((statistics.mean(seeds), spread(seeds) or 0.0) for seeds in by_x.values()), strict=True)
    line = axes.errorbar(list(by_x), means, yerr=spreads, marker="o", capsize=4, label=label)
    xs, ys = zip(*((x, value) for x, seeds in by_x.items() for value in seeds), strict=True)
    axes.scatter(xs, ys, s=12, color=line[0].get_color(), alpha=0.5)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read: {error}; remove it to create it again")


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, indent=1) + "\n")


def _differences(stored: Any, current: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, stored value, current value) for each value of nested settings that differs."""
    if not (isinstance(stored, dict) and isinstance(current, dict)):
        if stored != current:
            yield key, stored, current
        return
    for name in {**current, **stored}:
        yield from _differences(stored.get(name), current.get(name), f"{key}.{name}" if key else name)
