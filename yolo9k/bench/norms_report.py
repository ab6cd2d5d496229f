"""What the size of a batch did to each norm: a table and a plot."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolo9k.bench.norms import NormGrid, Score
from yolo9k.bench.series import markdown_table, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def table_rows(grid: NormGrid) -> tuple[list[str], list[list[str]]]:
    """Columns, and for each size of batch a row with mAP50 in percent: mean ± standard deviation over seeds."""
    columns = ["batch size", *(f"{kind} norm" for kind in grid.kinds)]
    rows = [[str(batch), *(_cell(_scores(grid, kind, batch)) for kind in grid.kinds)] for batch in grid.batches]
    return columns, rows


def _scores(grid: NormGrid, kind: str, batch: int) -> list[Score]:
    return [score for cell, score in grid.scores() if (cell.kind, cell.batch) == (kind, batch)]


def _percent(scores: Sequence[Score]) -> list[float]:
    return [100 * score.map50 for score in scores if not score.diverged]


def _cell(scores: Sequence[Score]) -> str:
    values = _percent(scores)
    lost = len(scores) - len(values)
    deviation = spread(values)
    around = "" if deviation is None else f" ± {deviation:.1f}"
    mean = [f"{statistics.mean(values):.1f}{around}"] if values else []
    return ", ".join([*mean, *([f"{lost} diverged"] if lost else [])])


def markdown(grid: NormGrid) -> str:
    """The table with what it was measured on."""
    columns, rows = table_rows(grid)
    settings = grid.settings
    start = settings.weights or "random weights"
    if settings.group_weights:
        start += f", group norm from {settings.group_weights}"
    changes = "".join(f" `--set {override}`" for override in settings.overrides)
    return "\n".join(
        [
            f"mAP50 in percent on {settings.dataset.name or 'the data set'} after {settings.pictures:,} pictures; mean "
            f"and standard deviation over seeds ({grid.seeds}). Config {settings.config}{changes}, from {start}.",
            "",
            markdown_table(columns, rows),
            "",
        ]
    )


def figure(grid: NormGrid) -> "Figure":
    """A line for each norm over the sizes of the batch, every seed as a point."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(7, 4.5), layout="constrained")
    axes = made.subplots()
    for kind in grid.kinds:
        known = [(batch, values) for batch in grid.batches if (values := _percent(_scores(grid, kind, batch)))]
        if not known:
            continue
        means, spreads = zip(*((statistics.mean(values), spread(values) or 0.0) for _, values in known), strict=True)
        line = axes.errorbar([batch for batch, _ in known], means, yerr=spreads, marker="o", capsize=4, label=kind)
        at, points = zip(*((batch, value) for batch, values in known for value in values), strict=True)
        axes.scatter(at, points, s=12, color=line[0].get_color(), alpha=0.5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(grid.batches, [str(batch) for batch in grid.batches])
    axes.set(xlabel="pictures in a batch", ylabel="mAP50, %", ylim=(0, None))
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(title="norm")
    return made


def write_report(grid: NormGrid) -> list[Path]:
    """Write table and plot into the folder of the runs. Raises `EnvironmentFault`."""
    return grid.series.report("norms", markdown(grid), figure(grid))
