"""Trainings that belong together, in one folder: what is finished there is not done again."""

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
from yolo9k.errors import ConfigError, DataError, DivergedError, MachineError
from yolo9k.pretrained import open_weights
from yolo9k.progress import Track, silent
from yolo9k.training import resume, train
from yolo9k.training.output.callbacks import Callback

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SETTINGS, SCORES = "settings.json", "scores.json"
Scores = dict[str, Any]
Score = TypeVar("Score")


class Series:
    """The trainings in `folder`, each in a folder of its own below it.

    `settings`: what all have in common, ready for JSON; `weights`: what they start from, opened now and not hours
    later. Raises `ConfigError` for a folder that was begun with other settings, `WeightsError` for weights that cannot
    be opened, `MachineError` where nothing can be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], weights: Iterable[str | None]) -> None:
        self.folder = folder
        for source in {each for each in weights if each}:
            open_weights(source)
        self._remember(json.loads(json.dumps(settings)))

    def _remember(self, given: Mapping[str, Any]) -> None:
        path = self.folder / SETTINGS
        if not any(self.folder.glob("*/*/checkpoints/*.pt")):
            _write(path, given)
            return
        difference = next(_differences(_read(path), given), None)
        if difference:
            key, begun, now = difference
            raise ConfigError(
                f"{self.folder}: was begun with another {key}, {reprlib.repr(begun)}, not {reprlib.repr(now)}; "
                f"name another folder (--out), or go on with the same"
            )

    def score(self, name: str, kind: Callable[..., Score]) -> Score | None:
        """How a training came out, where it is finished. Raises `DataError` for a broken file."""
        found = self._scores(name)
        return None if found is None else self._made(name, kind, found)

    def _made(self, name: str, kind: Callable[..., Score], found: Scores) -> Score:
        try:
            return kind(**found)
        except TypeError as error:
            raise _unreadable(self.folder / name / SCORES, error) from error

    def _scores(self, name: str) -> Scores | None:
        path = self.folder / name / SCORES
        return _read(path) if path.exists() else None

    def scored(self, name: str, kind: Callable[..., Score], score: Callable[[], Scores]) -> Score:
        """As `score`; where it is not known `score` finds it, or training diverges: `diverged` is what it said then."""
        found = self._scores(name)
        if found is None:
            try:
                found = score()
            except DivergedError as error:
                found = {"diverged": str(error)}
            _write(self.folder / name / SCORES, found)
        return self._made(name, kind, found)

    def trained(
        self, name: str, config: Config, weights: str | None, callback: Callback, track: Track = silent
    ) -> Path:
        """The run folder of a training that is made, finished or taken from before. Raises the errors of training."""
        folder, found = self.folder / name, self._scores(name)
        if found is not None and found.get("diverged"):
            raise DivergedError(found["diverged"])
        if found is not None:
            return folder
        torch.compiler.reset()  # torch keeps a few compiled forms of a network's code, and all trainings share it
        if (folder / "checkpoints" / LAST).exists():
            return resume(folder, callback=callback, track=track)
        return train(config, folder, weights=weights, callback=callback, track=track)

    def report(self, name: str, text: str, figure: "Figure") -> list[Path]:
        """Write `name`.md and `name`.png into the folder. Raises `MachineError`."""
        table, plot = self.folder / f"{name}.md", self.folder / f"{name}.png"
        try:
            table.write_text(text, encoding="utf-8")
            figure.savefig(plot, dpi=120)
        except OSError as error:
            raise MachineError(f"{self.folder}: cannot be written: {error.strerror or error}") from error
        return [table, plot]


def refuse_keys(overrides: Iterable[str], keys: Sequence[str]) -> None:
    """Raises `ConfigError` for an override (`KEY=VALUE`) of a key that each training sets itself."""
    for override in map(Override.of, overrides):
        for key in keys:
            if _says(override.nested(), key):
                raise ConfigError(f"{override.said}: {key} is set for each training; leave it out")


def _says(values: Any, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def spread(values: Sequence[float]) -> float | None:
    """The standard deviation of a sample, which takes two values."""
    return statistics.stdev(values) if len(values) > 1 else None


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lines of a table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: cannot be read: {error}; remove it to have it made again")


def _write(path: Path, values: Mapping[str, Any]) -> None:
    """Replace a file whole. Raises `MachineError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(path.name + ".part")
        draft.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}") from error


def draw_seeds(axes: "Axes", values: Mapping[int, Sequence[float]], label: str) -> None:
    """A line of the means with their spreads, and a point for every seed; `values` of the seeds by their place."""
    known = {place: found for place, found in values.items() if found}
    if not known:
        return
    means, spreads = zip(*((statistics.mean(found), spread(found) or 0.0) for found in known.values()), strict=True)
    line = axes.errorbar(list(known), means, yerr=spreads, marker="o", capsize=4, label=label)
    at, points = zip(*((place, value) for place, found in known.items() for value in found), strict=True)
    axes.scatter(at, points, s=12, color=line[0].get_color(), alpha=0.5)


def _differences(begun: Any, now: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each value of nested settings that is another one than it was, with its key."""
    if not (isinstance(begun, dict) and isinstance(now, dict)):
        if begun != now:
            yield key, begun, now
        return
    for name in {**now, **begun}:
        yield from _differences(begun.get(name), now.get(name), f"{key}.{name}" if key else name)
