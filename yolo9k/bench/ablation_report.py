"""What the path from YOLO to YOLOv2 came to: a table beside the paper's numbers, and a plot."""

import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo9k.bench.ablation import Ablation, Row, Score
from yolo9k.bench.series import markdown_table, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = {  # of `eval.metric`: the field of a score, and its name
    "map50": ("map50", "mAP50"),
    "voc07": ("voc07", "mAP (VOC 2007)"),
    "coco": ("map50_95", "mAP50-95"),
}
PAPER = (
    "The paper's numbers are those of YOLO9000's table 2: VOC 2007 test, from a classifier trained on ImageNet. Its "
    "first two have YOLO's network and fully connected layers, which no row here has; rows 4 and 5 are one there."
)


@dataclass(frozen=True)
class Summary:
    """A row over its seeds: `scores` by seed, and of those that did not diverge the `values` of one metric in percent.

    `mean` and `spread` (the standard deviation of a sample) are none where there are too few.
    """

    row: Row
    scores: dict[int, Score]
    values: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Over the seeds."""
        return statistics.mean(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        """Over the seeds, of which it takes two."""
        return spread(self.values)

    @property
    def diverged(self) -> int:
        """How many seeds did."""
        return len(self.scores) - len(self.values)


def summaries(ablation: Ablation) -> list[Summary]:
    """What is finished, by row."""
    field, _ = METRICS[_metric(ablation)]
    found = []
    for row in ablation.rows:
        by_seed = {seed: ablation.score(row, seed) for seed in range(ablation.seeds)}
        scores = {seed: score for seed, score in by_seed.items() if score is not None}
        values = tuple(100 * getattr(score, field) for score in scores.values() if not score.diverged)
        found.append(Summary(row, scores, values))
    return found


def table_rows(ablation: Ablation) -> tuple[list[str], list[list[str]]]:
    """Columns, and a row of cells for each row of the path."""
    columns = ["row", "adds", "paper", METRICS[_metric(ablation)][1], "±", "seeds"]
    return columns, [_cells(summary) for summary in summaries(ablation)]


def _cells(summary: Summary) -> list[str]:
    seeds = [f"{value:.1f}" for value in summary.values] + ["diverged"] * summary.diverged
    numbers = [summary.row.paper, summary.mean, summary.spread]
    shown = ["" if number is None else f"{number:.1f}" for number in numbers]
    return [summary.row.name, summary.row.adds, *shown, ", ".join(seeds)]


def markdown(ablation: Ablation) -> str:
    """The table with what it was measured on."""
    columns, rows = table_rows(ablation)
    settings = ablation.settings
    changes = " ".join(f"`--set {override}`" for override in settings.overrides)
    classifiers = ", then ".join(name for name in (settings.classifier, settings.classifier_448) if name)
    said = [
        f"# The path to YOLOv2 on {settings.dataset.name or 'a data set'}\n",
        f"Split {settings.split}, size {settings.size}, from {classifiers or 'random weights'}. {changes}".rstrip()
        + "\n",
        markdown_table(columns, rows),
        f"\nIn percent; ± is the standard deviation over seeds. {PAPER}",
    ]
    return "\n".join(said) + "\n"


def to_dict(ablation: Ablation) -> dict[str, Any]:
    """Everything, for JSON."""
    settings = ablation.settings
    rows = [
        {
            **asdict(summary.row), "mean": summary.mean, "spread": summary.spread,
            "scores": {str(seed): asdict(score) for seed, score in summary.scores.items()},
        }
        for summary in summaries(ablation)
    ]  # fmt: skip
    about = {**vars(settings), "dataset": settings.dataset.name}
    return {**about, "metric": _metric(ablation), "rows": rows}


def figure(ablation: Ablation) -> "Figure":
    """Each seed as a point, their mean as a line with its spread, and the paper's numbers."""
    from matplotlib.figure import Figure

    found = summaries(ablation)
    made = Figure(figsize=(9, 5), layout="constrained")
    axes = made.subplots()
    places = range(len(found))
    known = [(place, s.mean, s.spread or 0.0) for place, s in zip(places, found, strict=True) if s.mean is not None]
    if known:
        at, means, spreads = zip(*known, strict=True)
        axes.errorbar(at, means, yerr=spreads, marker="o", capsize=4, label=f"here, {_title(ablation)}")
    points = [(place, value) for place, summary in zip(places, found, strict=True) for value in summary.values]
    axes.scatter([place for place, _ in points], [value for _, value in points], s=12, color="black", alpha=0.5)
    paper = [(place, s.row.paper) for place, s in zip(places, found, strict=True) if s.row.paper is not None]
    axes.plot(*zip(*paper, strict=True), marker="s", linestyle="--", color="grey", label="paper, VOC 2007")
    axes.set_xticks(
        list(places), [f"{s.row.name.partition('-')[0]} {s.row.adds}" for s in found], rotation=30, ha="right"
    )
    axes.set(ylabel=f"{METRICS[_metric(ablation)][1]}, %", ylim=(0, 100))
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    return made


def write_report(ablation: Ablation) -> list[Path]:
    """Write table and plot into the folder of the rows. Raises `EnvironmentFault`."""
    return ablation.series.report("ablation", markdown(ablation), figure(ablation))


def _title(ablation: Ablation) -> str:
    return f"{ablation.settings.dataset.name or 'data set'}, mean of {ablation.seeds} seeds"


def _metric(ablation: Ablation) -> str:
    return ablation.settings.config(ablation.rows[0]).eval.metric
