"""The report of the ablation from YOLO to YOLOv2: a table with the paper's numbers, and a plot."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.ablation import Ablation, Row, Score
from studies.series import draw_seeds, markdown_table, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = {  # `eval.metric`: (field of `Score`, column title)
    "map50": ("map50", "mAP50"),
    "voc07": ("voc07", "mAP (VOC 2007)"),
    "coco": ("map50_95", "mAP50-95"),
}
PAPER = (
    "The paper's numbers are from YOLO9000's table 2: VOC 2007 test, with a classifier pretrained on ImageNet. Its "
    "first two rows use YOLO's network with fully connected layers, which no row here has; rows 4 and 5 are one row "
    "there."
)


@dataclass(frozen=True)
class Summary:
    """The scores of a row by seed. Statistics are in percent and exclude seeds that diverged."""

    row: Row
    scores: dict[int, Score]

    def values(self, metric: str) -> tuple[float, ...]:
        """Return the values of a metric (a key of `METRICS`), one per seed."""
        field, _ = METRICS[metric]
        return tuple(100 * getattr(score, field) for score in self.scores.values() if not score.diverged)

    def mean(self, metric: str) -> float | None:
        """Return the mean over seeds; `None` without values."""
        values = self.values(metric)
        return statistics.mean(values) if values else None

    def spread(self, metric: str) -> float | None:
        """Return the sample standard deviation over seeds; `None` for fewer than two."""
        return spread(self.values(metric))

    @property
    def diverged(self) -> int:
        """Number of seeds that diverged."""
        return sum(bool(score.diverged) for score in self.scores.values())


def summaries(ablation: Ablation) -> list[Summary]:
    """Return a summary of the finished runs per row."""
    result = []
    for row in ablation.rows:
        by_seed = {seed: ablation.score(row, seed) for seed in range(ablation.seeds)}
        result.append(Summary(row, {seed: score for seed, score in by_seed.items() if score is not None}))
    return result


def reported_metrics(ablation: Ablation) -> tuple[str, ...]:
    """Return the metrics of the report: the configs' `eval.metric`, and COCO's, the strictest about localisation."""
    return tuple(dict.fromkeys((ablation.settings.config(ablation.rows[0]).eval.metric, "coco")))


def table_rows(ablation: Ablation) -> tuple[list[str], list[list[str]]]:
    """Return column titles, and cells per row of the path; the values per seed are those of the first metric."""
    metrics = reported_metrics(ablation)
    names = [name for metric in metrics for name in (METRICS[metric][1], "±")]
    columns = ["row", "adds", "paper", *names, "seeds"]
    return columns, [_cells(summary, metrics) for summary in summaries(ablation)]


def _cells(summary: Summary, metrics: Sequence[str]) -> list[str]:
    seeds = [f"{value:.1f}" for value in summary.values(metrics[0])] + ["diverged"] * summary.diverged
    values = [value for metric in metrics for value in (summary.mean(metric), summary.spread(metric))]
    cells = ["" if value is None else f"{value:.1f}" for value in (summary.row.paper, *values)]
    return [summary.row.name, summary.row.adds, *cells, ", ".join(seeds)]


def markdown(ablation: Ablation) -> str:
    """Format the table with the dataset, split, size, weights and overrides."""
    columns, rows = table_rows(ablation)
    settings = ablation.settings
    changes = " ".join(f"`--set {override}`" for override in settings.overrides)
    classifiers = ", then ".join(name for name in (settings.classifier, settings.classifier_448) if name)
    lines = [
        f"# The path to YOLOv2 on {settings.dataset.name or 'a dataset'}\n",
        f"Split {settings.split}, size {settings.size}, from {classifiers or 'random weights'}. {changes}".rstrip()
        + "\n",
        markdown_table(columns, rows),
        f"\nIn percent; ± is the standard deviation over seeds. {PAPER}",
    ]
    return "\n".join(lines) + "\n"


def to_dict(ablation: Ablation) -> dict[str, Any]:
    """Return settings, rows and scores for JSON."""
    settings, metrics = ablation.settings, reported_metrics(ablation)
    rows = [
        {
            **asdict(summary.row),
            "mean": {metric: summary.mean(metric) for metric in metrics},
            "spread": {metric: summary.spread(metric) for metric in metrics},
            "scores": {str(seed): asdict(score) for seed, score in summary.scores.items()},
        }
        for summary in summaries(ablation)
    ]
    return {**vars(settings), "dataset": settings.dataset.name, "metrics": metrics, "rows": rows}


def figure(ablation: Ablation) -> "Figure":
    """Draw, per metric, the mean with its standard deviation and a point per seed; and the paper's numbers."""
    from matplotlib.figure import Figure

    rows = summaries(ablation)
    result = Figure(figsize=(9, 5), layout="constrained")
    axes = result.subplots()
    paper = [(x, summary.row.paper) for x, summary in enumerate(rows) if summary.row.paper is not None]
    axes.plot(*zip(*paper, strict=True), marker="s", linestyle="--", color="grey", label="paper, mAP on VOC 2007")
    for metric in reported_metrics(ablation):
        label = f"{METRICS[metric][1]} here, {ablation.settings.dataset.name or 'dataset'}"
        draw_seeds(axes, {x: summary.values(metric) for x, summary in enumerate(rows)}, label)
    names = [f"{summary.row.name.partition('-')[0]} {summary.row.adds}" for summary in rows]
    axes.set_xticks(range(len(rows)), names, rotation=30, ha="right")
    axes.set(ylabel="%")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        result.legend(loc="outside upper center", ncols=3)
    return result


def write_report(ablation: Ablation) -> list[Path]:
    """Write the table and plot to the ablation's folder; returns their paths. Raises `MachineError`."""
    return ablation.series.write_report("ablation", markdown(ablation), figure(ablation))
