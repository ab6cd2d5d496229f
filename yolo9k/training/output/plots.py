"""The curves of a run: losses, learning rate and scores over the steps."""

import json
from pathlib import Path
from typing import Any

from yolo9k.errors import MachineError

FEW = 20  # points of a curve that are shown each


def plot_run(folder: Path) -> Path | None:
    """Draw `metrics.jsonl` of a run into `plots/curves.png`; nothing where there is nothing to draw.

    Raises `MachineError` where it cannot be written.
    """
    from matplotlib.figure import Figure

    source = folder / "metrics.jsonl"
    if not source.exists():
        return None
    entries = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    scores = _named(entries, "val/")
    panels = 3 if scores else 2
    figure = Figure(figsize=(4 * panels, 4), layout="constrained")
    axes = figure.subplots(1, panels)
    total, *parts = _named(entries, "loss") or ("loss",)
    _draw(axes[0], entries, (total, *parts) if len(parts) > 1 else (total,), "loss per image")
    axes[0].set_yscale("log")
    _draw(axes[1], entries, ("lr",), "learning rate")
    if scores:
        _draw(axes[2], entries, scores, "validation scores")
        axes[2].set_ylim(0, 1)
    target = folder / "plots" / "curves.png"
    try:
        target.parent.mkdir(exist_ok=True)
        figure.savefig(target, dpi=120)
    except OSError as error:
        raise MachineError(f"{target}: cannot be written: {error.strerror or error}") from error
    return target


def _named(entries: list[dict[str, float]], beginning: str) -> tuple[str, ...]:
    """The names of numbers that begin so, in the order in which they came."""
    return tuple(dict.fromkeys(name for entry in entries for name in entry if name.startswith(beginning)))


def _draw(axes: Any, entries: list[dict[str, float]], names: tuple[str, ...], title: str) -> None:
    for name in names:
        points = [(entry["step"], entry[name]) for entry in entries if entry.get(name) is not None]
        if points:
            marker = "o" if len(points) < FEW else ""  # a line through one point is none
            axes.plot(*zip(*points, strict=True), label=name.rsplit("/", 1)[-1], linewidth=1.2, marker=marker)
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)
