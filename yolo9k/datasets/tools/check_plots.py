"""Plot a checked data set: boxes per class, box sizes, a mosaic of labelled images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo9k.datasets.readers.records import Record
from yolo9k.datasets.tools.check import Report
from yolo9k.drawing import colour, draw_boxes, fit, mosaic, save_figure, save_image
from yolo9k.errors import DataError
from yolo9k.fonts import plot_texts
from yolo9k.images import read_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CLASSES = 100  # bars; more are unreadable
MOSAIC_IMAGES = 12
CELL_WH = (420, 320)


def plot_dataset(report: Report, folder: Path) -> list[Path]:
    """Write `classes.png`, `box-sizes.png` and `images.jpg` into `folder`.

    Raises `MachineError` if they cannot be written.
    """
    paths = [folder / name for name in ("classes.png", "box-sizes.png", "images.jpg")]
    unique = {record.path: record for part in report.annotations.values() for record in part.records}
    records = list(unique.values())
    save_figure(paths[0], class_histogram(report))
    save_figure(paths[1], box_size_histogram(records))
    save_image(paths[2], image_mosaic(pick_evenly(records, MOSAIC_IMAGES), report.labels))
    return paths


def class_histogram(report: Report) -> "Figure":
    """Plot the boxes per class and split; at most the `MAX_CLASSES` most frequent classes."""
    from matplotlib.figure import Figure

    counts = np.array([[count.boxes for count in split.classes] for split in report.splits])
    order = np.argsort(-counts.sum(0), kind="stable")[:MAX_CLASSES]
    figure = Figure(figsize=(8, max(2.5, 1.3 + 0.2 * len(order))), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(order))
    splits, split_font = plot_texts([split.name for split in report.splits])
    for split, row in zip(splits, counts, strict=True):
        axes.barh(np.arange(len(order)), row[order], left=left, height=0.75, label=split)
        left += row[order]
    _annotate_bars(axes, left)
    names, font = plot_texts([report.labels[i] for i in order])
    axes.set_yticks(np.arange(len(order)), names, fontproperties=font)
    axes.invert_yaxis()
    shown = "" if len(order) == len(report.labels) else f", {len(order)} most frequent classes"
    (name,), font = plot_texts([Path(report.dataset).name])
    axes.set(xlabel="boxes")
    axes.set_title(f"{name}: boxes by class{shown}", fontproperties=font, fontsize="large")
    axes.margins(x=0.1, y=0.01)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right", prop=split_font)
    return figure


def _annotate_bars(axes: Any, totals: np.ndarray) -> None:
    for row, total in enumerate(totals):
        axes.annotate(f"{total:,.0f}", (total, row), xytext=(3, 0), textcoords="offset points", va="center", fontsize=8)


def box_size_histogram(records: Sequence[Record]) -> "Figure":
    """Plot a 2D histogram of box widths and heights relative to the image; ignored boxes are skipped."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    sizes = _relative_sizes(records)
    figure = Figure(figsize=(6.4, 5.4), layout="constrained")
    axes = figure.subplots()
    if len(sizes):
        *_, image = axes.hist2d(sizes[:, 0], sizes[:, 1], bins=50, range=((0, 1), (0, 1)), norm=LogNorm(), cmin=1)
        figure.colorbar(image, label="boxes")
    axes.set(xlabel="box width / image width", ylabel="box height / image height", aspect="equal")
    axes.set_title(f"Sizes of {len(sizes):,} boxes")
    axes.grid(alpha=0.3)
    return figure


def _relative_sizes(records: Sequence[Record]) -> np.ndarray:
    """Return (N, 2) widths and heights of the boxes, divided by those of the image."""
    sizes = [np.zeros((0, 2))]
    for record in records:
        xyxy = record.boxes.xyxy[~record.boxes.ignore]
        sizes.append((xyxy[:, 2:] - xyxy[:, :2]) / np.array(record.size_wh))
    return np.concatenate(sizes)


def image_mosaic(records: Sequence[Record], names: Sequence[str]) -> np.ndarray:
    """Return a mosaic (H, W, 3) uint8 of images with their boxes; unreadable images are skipped.

    Raises `DataError` if no image can be read.
    """
    cells = [(cell, record.path.name) for record in records if (cell := _draw_record(record, names)) is not None]
    if not cells:
        raise DataError(f"{records[0].path.parent}: none of the images can be read")
    return mosaic([cell for cell, _ in cells], cell_wh=CELL_WH, captions=[name for _, name in cells])


def _draw_record(record: Record, names: Sequence[str]) -> np.ndarray | None:
    try:
        image = read_image(record.path)
    except DataError:
        return None  # the report has an error for it
    boxes = record.boxes
    image, xyxy = fit(image, boxes.xyxy, CELL_WH)
    texts = [names[label] for label in boxes.label]
    return draw_boxes(image, xyxy, texts, [colour(int(n)) for n in boxes.label], ignore=boxes.ignore)


def pick_evenly(records: Sequence[Record], max_count: int) -> list[Record]:
    """Return at most `max_count` records, evenly spaced from the first to the last."""
    chosen = np.linspace(0, len(records) - 1, min(max_count, len(records))).round().astype(int)
    return [records[i] for i in chosen]
