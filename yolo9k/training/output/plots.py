"""`plot_run`: curves of a run, with losses, learning rate and validation scores over the steps."""

import json
from pathlib import Path
from typing import Any

from yolo9k.drawing import save_figure

MAX_MARKED_POINTS = 20  # shorter curves show each point; a curve of one point would be invisible without


def plot_run(folder: Path) -> Path | None:
    """Draw `metrics.jsonl` of a run into `plots/curves.png` and return its path; `None`: there is no `metrics.jsonl`.

    Raises `MachineError` if the plot cannot be written.
    """
    from matplotlib.figure import Figure

    source = folder / "metrics.jsonl"
    if not source.exists():
        return None
    entries = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    scores = _names_with_prefix(entries, "val/")
    panels = 3 if scores else 2
    figure = Figure(figsize=(4 * panels, 4), layout="constrained")
    axes = figure.subplots(1, panels)
    losses = _names_with_prefix(entries, "loss") or ("loss",)
    if len(losses) == 2:  # a single loss equals the total
        losses = losses[:1]
    _draw(axes[0], entries, losses, "loss per image")
    axes[0].set_yscale("log")
    _draw(axes[1], entries, ("lr",), "learning rate")
    if scores:
        _draw(axes[2], entries, scores, "validation scores")
        axes[2].set_ylim(0, 1)
    target = folder / "plots" / "curves.png"
    save_figure(target, figure)
    return target


def _names_with_prefix(entries: list[dict[str, float]], prefix: str) -> tuple[str, ...]:
    """Return the metrics whose names start with `prefix`, in the order of their first entry."""
    return tuple(dict.fromkeys(name for entry in entries for name in entry if name.startswith(prefix)))


def _draw(axes: Any, entries: list[dict[str, float]], names: tuple[str, ...], title: str) -> None:
    for name in names:
        points = [(entry["step"], entry[name]) for entry in entries if entry.get(name) is not None]
        if points:
            marker = "o" if len(points) < MAX_MARKED_POINTS else ""
            axes.plot(*zip(*points, strict=True), label=name.rsplit("/", 1)[-1], linewidth=1.2, marker=marker)
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)
