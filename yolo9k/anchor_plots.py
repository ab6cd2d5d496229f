"""Plot anchors: among the box sizes, as boxes, and the curve of the paper's figure 2."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolo9k.anchors import Anchors, nearest
from yolo9k.drawing import save_figure

MAX_POINTS = 20_000  # more points only enlarge the file


def save_plot(
    path: Path,
    sizes_wh: np.ndarray,
    anchors: Anchors,
    grid_wh: tuple[float, float],
    curve: Sequence[Anchors] = (),
) -> None:
    """Plot `anchors` among boxes of `sizes_wh` (N, 2), all in cells, to a file in one of `FIGURE_FORMATS`.

    `curve`: clusterings for several k, drawn as average IoU over k. Raises `MachineError` if it cannot be written.
    """
    from matplotlib.figure import Figure

    panels = 3 if curve else 2
    figure = Figure(figsize=(5.2 * panels, 5.2), layout="constrained")
    scatter, boxes, *rest = figure.subplots(1, panels)
    colours = _colours(len(anchors))
    _draw_sizes(scatter, sizes_wh, anchors, colours)
    _draw_boxes(boxes, anchors, grid_wh, colours)
    if curve:
        _draw_curve(rest[0], curve, anchors)
    save_figure(path, figure)


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["tab10" if count <= 10 else "tab20"](i % (10 if count <= 10 else 20)) for i in range(count)]


def _draw_sizes(axes: Any, sizes_wh: np.ndarray, anchors: Anchors, colours: list[Any]) -> None:
    """Draw box sizes in the colour of their best anchor, on logarithmic axes."""
    shown = sizes_wh[:: len(sizes_wh) // MAX_POINTS + 1]
    owner, _ = nearest(shown, anchors.wh)
    axes.scatter(*shown.T, s=5, c=np.array(colours)[owner], alpha=0.4, linewidths=0, rasterized=True)
    for rank, (w, h) in enumerate(anchors.wh, start=1):
        axes.plot(w, h, "s", markersize=15, color="white", markeredgecolor="black")
        axes.annotate(str(rank), (w, h), ha="center", va="center", fontsize=9)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set(xlabel="width [cells]", ylabel="height [cells]")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_title(f"{len(sizes_wh):,} boxes and their anchors")
    axes.grid(alpha=0.25)


def _draw_boxes(axes: Any, anchors: Anchors, grid_wh: tuple[float, float], colours: list[Any]) -> None:
    """Draw the anchors as boxes around the image centre, over its grid of cells."""
    from matplotlib.patches import Rectangle

    width, height = grid_wh
    for index, (w, h) in reversed(list(enumerate(anchors.wh))):
        corner = (width - w) / 2, (height - h) / 2
        axes.add_patch(Rectangle(corner, w, h, fill=False, linewidth=2.5, edgecolor=colours[index]))
        label = f"{index + 1}: {w:.2f} x {h:.2f}"
        axes.plot([], [], color=colours[index], linewidth=2.5, label=label)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xlabel="cells", ylabel="cells")
    axes.set_xticks(np.arange(int(width) + 1), minor=True)
    axes.set_yticks(np.arange(int(height) + 1), minor=True)
    axes.grid(which="both", alpha=0.2)
    axes.legend(loc="upper left", fontsize=8, framealpha=0.9, reverse=True)
    axes.set_title(f"anchors in the image ({width:g} x {height:g} cells)")


def _draw_curve(axes: Any, curve: Sequence[Anchors], chosen: Anchors) -> None:
    """Draw the average IoU over the number of anchors."""
    ks = [len(anchors) for anchors in curve]
    axes.plot(ks, [anchors.average_iou for anchors in curve], "o-", label="average IoU")
    axes.plot(ks, [anchors.above_half for anchors in curve], ".:", label="fraction of boxes above IoU .5")
    point = len(chosen), chosen.average_iou
    axes.plot(*point, "o", markersize=12, fillstyle="none", color="black")
    axes.annotate(f"k = {point[0]}: {point[1]:.3f}", point, xytext=(8, -16), textcoords="offset points")
    axes.set(xlabel="number of anchors k", ylim=(0, 1))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right")
    axes.set_title("average IoU by number of anchors")
