"""What the path from YOLO to YOLOv2 came to: a table beside the paper's numbers, and a plot."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studies.ablation import Ablation, Row, Score
from studies.series import draw_seeds, markdown_table, spread

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
    """A row over its seeds: `scores` by seed. What is asked of a metric is asked of the seeds that did not diverge."""

    row: Row
    scores: dict[int, Score]

    def values(self, metric: str) -> tuple[float, ...]:
        """A metric (of `METRICS`) in percent, by seed."""
        field, _ = METRICS[metric]
        return tuple(100 * getattr(score, field) for score in self.scores.values() if not score.diverged)

    def mean(self, metric: str) -> float | None:
        """Of a metric over the seeds; none where there are none."""
        values = self.values(metric)
        return statistics.mean(values) if values else None

    def spread(self, metric: str) -> float | None:
        """The standard deviation of a sample over the seeds, of which it takes two."""
        return spread(self.values(metric))

    @property
    def diverged(self) -> int:
        """How many seeds did."""
        return sum(bool(score.diverged) for score in self.scores.values())


def summaries(ablation: Ablation) -> list[Summary]:
    """What is finished, by row."""
    found = []
    for row in ablation.rows:
        by_seed = {seed: ablation.score(row, seed) for seed in range(ablation.seeds)}
        found.append(Summary(row, {seed: score for seed, score in by_seed.items() if score is not None}))
    return found


def metrics_of(ablation: Ablation) -> tuple[str, ...]:
    """What is reported: the metric of the configs, and that which looks closest at where boxes are."""
    return tuple(dict.fromkeys((ablation.settings.config(ablation.rows[0]).eval.metric, "coco")))


def table_rows(ablation: Ablation) -> tuple[list[str], list[list[str]]]:
    """Columns, and a row of cells for each row of the path; the seeds' values are those of the first metric."""
    metrics = metrics_of(ablation)
    names = [name for metric in metrics for name in (METRICS[metric][1], "±")]
    columns = ["row", "adds", "paper", *names, "seeds"]
    return columns, [_cells(summary, metrics) for summary in summaries(ablation)]


def _cells(summary: Summary, metrics: Sequence[str]) -> list[str]:
    seeds = [f"{value:.1f}" for value in summary.values(metrics[0])] + ["diverged"] * summary.diverged
    found = [number for metric in metrics for number in (summary.mean(metric), summary.spread(metric))]
    shown = ["" if number is None else f"{number:.1f}" for number in (summary.row.paper, *found)]
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
    settings, metrics = ablation.settings, metrics_of(ablation)
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
    """Of each metric the seeds as points and their mean as a line with its spread; and the paper's numbers."""
    from matplotlib.figure import Figure

    found = summaries(ablation)
    made = Figure(figsize=(9, 5), layout="constrained")
    axes = made.subplots()
    paper = [(place, summary.row.paper) for place, summary in enumerate(found) if summary.row.paper is not None]
    axes.plot(*zip(*paper, strict=True), marker="s", linestyle="--", color="grey", label="paper, mAP on VOC 2007")
    for metric in metrics_of(ablation):
        label = f"{METRICS[metric][1]} here, {ablation.settings.dataset.name or 'data set'}"
        draw_seeds(axes, {place: summary.values(metric) for place, summary in enumerate(found)}, label)
    names = [f"{summary.row.name.partition('-')[0]} {summary.row.adds}" for summary in found]
    axes.set_xticks(range(len(found)), names, rotation=30, ha="right")
    axes.set(ylabel="%")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        made.legend(loc="outside upper center", ncols=3)
    return made


def write_report(ablation: Ablation) -> list[Path]:
    """Write table and plot into the folder of the rows. Raises `MachineError`."""
    return ablation.series.report("ablation", markdown(ablation), figure(ablation))
