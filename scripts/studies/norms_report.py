"""The report of the norm study: a table and a plot of each norm by batch size."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from studies.norms import NormGrid, Score
from studies.series import draw_seeds, markdown_table, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = {"map50": "mAP50", "map50_95": "mAP50-95"}  # fields of `Score`: title


def table_rows(grid: NormGrid, metric: str) -> tuple[list[str], list[list[str]]]:
    """Return column titles, and cells per batch size: mean ± standard deviation over seeds, in percent."""
    columns = ["batch size", *(f"{kind} norm" for kind in grid.kinds)]
    rows = [[str(batch), *(_cell(_scores(grid, kind, batch), metric) for kind in grid.kinds)] for batch in grid.batches]
    return columns, rows


def _scores(grid: NormGrid, kind: str, batch: int) -> list[Score]:
    return [score for cell, score in grid.scores() if (cell.kind, cell.batch) == (kind, batch)]


def _percent(scores: Sequence[Score], metric: str) -> list[float]:
    return [100 * getattr(score, metric) for score in scores if not score.diverged]


def _cell(scores: Sequence[Score], metric: str) -> str:
    values = _percent(scores, metric)
    diverged = len(scores) - len(values)
    deviation = spread(values)
    suffix = "" if deviation is None else f" ± {deviation:.1f}"
    mean = [f"{statistics.mean(values):.1f}{suffix}"] if values else []
    return ", ".join([*mean, *([f"{diverged} diverged"] if diverged else [])])


def markdown(grid: NormGrid) -> str:
    """Format a table per metric, with the dataset, images, seeds, config and weights."""
    settings = grid.settings
    weights = settings.weights or "random weights"
    if settings.group_weights:
        weights += f", group norm from {settings.group_weights}"
    changes = "".join(f" `--set {override}`" for override in settings.overrides)
    lines = [
        f"In percent on {settings.dataset.name or 'the dataset'} after {settings.images:,} images; mean and "
        f"standard deviation over seeds ({grid.seeds}). Config {settings.config}{changes}, from {weights}.",
        "",
    ]
    for metric, name in METRICS.items():
        lines += [f"{name}:", "", markdown_table(*table_rows(grid, metric)), ""]
    return "\n".join(lines)


def figure(grid: NormGrid) -> "Figure":
    """Draw a panel per metric: a line per norm over batch sizes, and a point per seed."""
    from matplotlib.figure import Figure

    result = Figure(figsize=(11, 4.5), layout="constrained")
    panels = result.subplots(1, len(METRICS))
    for axes, (metric, name) in zip(panels, METRICS.items(), strict=True):
        for kind in grid.kinds:
            draw_seeds(axes, {batch: _percent(_scores(grid, kind, batch), metric) for batch in grid.batches}, kind)
        axes.set_xscale("log", base=2)
        axes.set_xticks(grid.batches, [str(batch) for batch in grid.batches])
        axes.set(xlabel="batch size", ylabel=f"{name}, %")
        axes.grid(alpha=0.3)
    if panels[0].get_legend_handles_labels()[0]:
        panels[0].legend(title="norm")
    return result


def write_report(grid: NormGrid) -> list[Path]:
    """Write the table and plot to the study's folder; returns their paths. Raises `MachineError`."""
    return grid.series.write_report("norms", markdown(grid), figure(grid))
