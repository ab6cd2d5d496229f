"""Plots of an evaluation: curves, confusion matrix, depth in the tree, predictions beside labels, the worst misses."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yolo9k.datasets.readers.records import Record
from yolo9k.drawing import Colour, colour, draw_boxes, fit, legend, mosaic, save_image
from yolo9k.errors import MachineError
from yolo9k.evaluation.depth import DepthReport
from yolo9k.evaluation.evaluate import Evaluation
from yolo9k.images import read_image
from yolo9k.metrics import Matches
from yolo9k.metrics.confusion import CONFIDENCE, Confusion
from yolo9k.metrics.depth import Level
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 3  # how many of the best and of the worst labels have a name in a plot of many
FEW = 8  # up to here every label has a colour and a name of its own
MAX_CELLS = 100  # rows of a confusion matrix; a screen shows no more
CELLS_WITH_NUMBERS = 16
CELL_WH = (480, 360)
PREDICTIONS = 8  # images shown with their labels
WORST = 9
FATES: dict[str, Colour] = {
    "hit": (40, 200, 80),
    "false positive": (230, 40, 40),
    "missed": (255, 200, 0),
    "to ignore": (150, 150, 150),
}
LEVEL_COLOURS: dict[str, Colour] = {
    "right": (50, 115, 175),
    "too_coarse": (240, 190, 60),
    "wrong_branch": (200, 75, 40),
    "not_found": (190, 190, 190),
}


def write_plots(
    folder: Path, scores: Evaluation, detections: Sequence[Detections], records: Sequence[Record]
) -> list[Path]:
    """Write all plots into a folder, and return their paths. Raises `MachineError`, `DataError`.

    `detections` and `records` as they were scored (`Evaluation.records`). Over a tree the images show one label a
    box, as it was measured for the depth report.
    """
    figures = {"precision_recall.png": precision_recall(scores), "f1_confidence.png": f1_confidence(scores)}
    if scores.confusion is not None:
        figures["confusion.png"] = confusion_matrix(scores.confusion, scores.labels)
    shown: Evaluation | DepthReport = scores
    if scores.depth is not None:
        depth = scores.depth
        title = f"exact label {depth.exact:.3f}, found {depth.found} of {depth.truths}"
        figures["depth.png"] = depth_levels(depth.levels, title)
        shown, detections, records = scores.depth, scores.depth.detections, scores.depth.records
    images = {"predictions.jpg": predictions(detections, records, shown.labels)}
    worst = worst_misses(shown, detections, records)
    if worst is not None:
        images["worst_misses.jpg"] = worst
    for name, figure in figures.items():
        save_figure(folder / name, figure)
    for name, image in images.items():
        save_image(folder / name, image)
    return [folder / name for name in (*figures, *images)]


def save_figure(path: Path, figure: "Figure") -> None:
    """Write a figure; folders are made. Raises `MachineError`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}") from error


def precision_recall(scores: Evaluation) -> "Figure":
    """Precision over recall at IoU >= .5: each label thin, the mean bold."""
    ap50 = np.array([row.ap50 for row in scores.classes])
    figure, axes = _unit_axes("recall", "precision", f"mean AP50 {scores.map50:.3f}")
    _lines(axes, scores, scores.curves.envelope, ap50)
    return figure


def f1_confidence(scores: Evaluation) -> "Figure":
    """F1 over confidence at IoU >= .5, with its best mean marked."""
    lines = scores.curves
    title = f"best mean F1 {lines.f1.mean(axis=0)[lines.best]:.3f}" if len(lines.f1) else "no labels"
    figure, axes = _unit_axes("confidence", "F1", f"{title} at confidence {lines.best_confidence:.3f}")
    _lines(axes, scores, lines.f1, lines.f1[:, lines.best])
    axes.axvline(lines.best_confidence, color="black", linewidth=0.8, linestyle=":")
    return figure


def _unit_axes(x: str, y: str, title: str) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y, title=title, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    return figure, axes


def _lines(axes: "Axes", scores: Evaluation, values: np.ndarray, rank: np.ndarray) -> None:
    """One line a label; of many labels only the best and the worst by `rank` are coloured and named."""
    order = np.argsort(-rank, kind="stable")
    named = list(order) if len(order) <= FEW else [*order[:NAMED], *order[-NAMED:]]
    for row in order[NAMED:-NAMED] if len(order) > FEW else ():
        axes.plot(scores.curves.grid, values[row], color="0.8", linewidth=0.6)
    for place, row in enumerate(named):
        paint = np.array(colour(place)) / 255
        text = f"{scores.classes[row].name} {rank[row]:.3f}"
        axes.plot(scores.curves.grid, values[row], color=paint, linewidth=1, label=text)
    if len(order):
        text = f"mean of {len(order)} {rank.mean():.3f}"
        axes.plot(scores.curves.grid, values.mean(axis=0), color="black", linewidth=2.5, label=text)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False)


def confusion_matrix(confusion: Confusion, labels: WordTree) -> "Figure":
    """What became of the truths of each label (rows, as shares), with the counts where there is room.

    Of more than 100 labels those with most errors are shown.
    """
    shown = _most_confused(confusion)
    names = [*(labels.names[label] for label in confusion.label), "background"]
    names = [names[place] for place in shown]
    counts, shares = (array[np.ix_(shown, shown)] for array in (confusion.counts, confusion.shares))
    return matrix(counts, shares, names, names, f"confidence >= {CONFIDENCE:g}, IoU >= .5")


def matrix(counts: np.ndarray, shares: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str) -> "Figure":
    """Shares (R, C) of named truths (rows) that were given each name (columns), with counts where there is room."""
    from matplotlib.figure import Figure

    side = max(5.0, 0.2 * len(rows) + 2)
    figure = Figure(figsize=(side + 1.5, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="truth", title=title)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    figure.colorbar(image, ax=axes, label="share of the row", shrink=0.6)
    if len(rows) <= CELLS_WITH_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            paint = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count) if count else "", ha="center", va="center", color=paint, fontsize=8)
    return figure


def _most_confused(confusion: Confusion) -> np.ndarray:
    """Places of the rows to show, background last."""
    errors = confusion.counts.sum(axis=0) + confusion.counts.sum(axis=1) - 2 * confusion.counts.diagonal()
    worst = np.sort(np.argsort(-errors[:-1], kind="stable")[:MAX_CELLS])
    return np.append(worst, len(errors) - 1)


def depth_levels(levels: Sequence[Level], title: str) -> "Figure":
    """What became of the truths at each level of the tree, as shares that add up to 1, with their number on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(5.0, 0.55 * len(levels) + 3.2), 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="depth in the tree", ylabel="share of the truths", title=title, ylim=(0, 1.08))
    below = np.zeros(len(levels))
    for kind, paint in LEVEL_COLOURS.items():
        shares = np.array([level.shares[kind] for level in levels])
        text = kind.replace("_", " ") if shares.any() else None  # the legend names what there is
        axes.bar(range(len(levels)), shares, bottom=below, color=np.array(paint) / 255, width=0.75, label=text)
        below += shares
    for place, level in enumerate(levels):
        axes.text(place, 1.01, f"{level.truths}", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(levels)), [str(level.depth) for level in levels])
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False, reverse=True)
    return figure


def predictions(detections: Sequence[Detections], records: Sequence[Record], labels: WordTree) -> np.ndarray:
    """Images from all over the data set: labels left, predictions of confidence >= .25 right of them."""
    chosen = np.unique(np.linspace(0, len(records) - 1, min(PREDICTIONS, len(records))).round().astype(int))
    cells, captions = [], []
    for i in chosen:
        image, name = read_image(records[i].path), records[i].path.name
        boxes, found = records[i].boxes, _confident(detections[i])
        texts = [f"{labels.names[label]} {score:.2f}" for label, score in zip(found.label, found.score, strict=True)]
        cells += [
            _drawn(image, boxes.xyxy, [labels.names[n] for n in boxes.label], _colours(boxes.label), boxes.ignore),
            _drawn(image, found.xyxy, texts, _colours(found.label)),
        ]
        captions += [f"{name}: labels", f"{name}: predictions"]
    return mosaic(cells, columns=2 if len(chosen) <= 2 else 4, cell_wh=CELL_WH, captions=captions)


def _confident(found: Detections) -> Detections:
    return found[found.score >= CONFIDENCE]


def _colours(labels: np.ndarray) -> list[Colour]:
    return [colour(int(label)) for label in labels]


def _drawn(
    image: np.ndarray,
    xyxy: np.ndarray,
    texts: Sequence[str],
    colours: Sequence[Colour],
    ignore: np.ndarray | None = None,
) -> np.ndarray:
    """The image at the size of a cell with its boxes, so that all labels have letters of one size."""
    small, boxes = fit(image, xyxy, CELL_WH)
    return draw_boxes(small, boxes, texts, colours, ignore=ignore)


def worst_misses(
    scores: Evaluation | DepthReport, detections: Sequence[Detections], records: Sequence[Record]
) -> np.ndarray | None:
    """The images with most misses and false positives at confidence >= .25; none where all is well."""
    fates = _fates(scores.matches, records)
    errors = np.array([false.sum() + missed.sum() for _, false, missed in fates])
    worst = [i for i in np.argsort(-errors, kind="stable")[:WORST] if errors[i]]
    if not worst:
        return None
    cells = [_marked(records[i], detections[i], fates[i], scores.labels) for i in worst]
    captions = [f"{records[i].path.name}: {fates[i][1].sum()} false, {fates[i][2].sum()} missed" for i in worst]
    sheet = mosaic(cells, columns=min(3, len(cells)), cell_wh=CELL_WH, captions=captions)
    return np.concatenate([legend(list(FATES), list(FATES.values()), sheet.shape[1]), sheet])


Fate = tuple[np.ndarray, np.ndarray, np.ndarray]


def _fates(matches: Matches, records: Sequence[Record]) -> list[Fate]:
    """For each image: which detections are hits, which are false positives, which truths are missed."""
    confident = matches.score >= CONFIDENCE
    hit = matches.hit[0] & confident
    false = ~matches.hit[0] & ~matches.ignored[0] & confident
    missed = ~np.concatenate([np.zeros(0, bool), *(record.boxes.ignore for record in records)])
    missed[matches.truth[hit]] = False
    detection_ends = np.cumsum(np.bincount(matches.image, minlength=len(records)))[:-1]
    truth_ends = np.cumsum([len(record.boxes) for record in records])[:-1]
    parts = np.split(hit, detection_ends), np.split(false, detection_ends), np.split(missed, truth_ends)
    return list(zip(*parts, strict=True))


def _marked(record: Record, found: Detections, fate: Fate, labels: WordTree) -> np.ndarray:
    """One image with its hits, false positives, missed truths and truths to ignore in their colours."""
    boxes, (hit, false, missed) = record.boxes, fate
    groups = {
        "missed": (boxes.xyxy[missed], boxes.label[missed]),
        "false positive": (found.xyxy[false], found.label[false]),
        "to ignore": (boxes.xyxy[boxes.ignore], boxes.label[boxes.ignore]),
        "hit": (found.xyxy[hit], found.label[hit]),
    }
    xyxy = np.concatenate([box for box, _ in groups.values()])
    # hits are most of the boxes and need no text
    texts = [labels.names[n] if kind != "hit" else "" for kind, (_, label) in groups.items() for n in label]
    colours = [FATES[kind] for kind, (_, label) in groups.items() for _ in label]
    return _drawn(read_image(record.path), xyxy, texts, colours)
