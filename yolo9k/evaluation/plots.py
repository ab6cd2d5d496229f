"""Plots of a detector's evaluation: curves, confusion matrix, depth in the label tree, predictions, worst images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yolo9k.datasets.readers.records import Record
from yolo9k.drawing import Colour, colour, draw_boxes, fit, legend, mosaic, save_figure, save_image
from yolo9k.evaluation.depth import DepthReport
from yolo9k.evaluation.evaluate import Evaluation
from yolo9k.fonts import plot_texts
from yolo9k.images import read_image
from yolo9k.metrics import Matches
from yolo9k.metrics.confusion import CONFIDENCE, ConfusionMatrix
from yolo9k.metrics.depth import Level
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_COLOURED = 8  # up to this many classes, each has a colour and a name in a plot
NUM_NAMED = 3  # else, this many of the best and of the worst classes have one
MAX_MATRIX_ROWS = 100  # of a confusion matrix; more do not fit on a screen
MAX_ROWS_WITH_COUNTS = 16
CELL_WH = (480, 360)
MAX_PREDICTIONS = 8  # images shown with ground truth and predictions
MAX_WORST = 9  # images
OUTCOME_COLOURS: dict[str, Colour] = {
    "true positive": (40, 200, 80),
    "false positive": (230, 40, 40),
    "false negative": (255, 200, 0),
    "ignored": (150, 150, 150),
}
LEVEL_COLOURS: dict[str, Colour] = {
    "correct": (50, 115, 175),
    "too_coarse": (240, 190, 60),
    "wrong_branch": (200, 75, 40),
    "not_detected": (190, 190, 190),
}


def write_plots(folder: Path, scores: Evaluation, detections: Sequence[Detections]) -> list[Path]:
    """Write all plots into a folder and return their paths. Raises `MachineError`, `DataError`.

    `detections`: those that were evaluated. With a depth report, the images show its detections: one label per box.
    """
    figures = {"precision_recall.png": plot_precision_recall(scores), "f1_confidence.png": plot_f1(scores)}
    if scores.confusion is not None:
        figures["confusion.png"] = plot_confusion(scores.confusion, scores.labels)
    shown: Evaluation | DepthReport = scores
    if scores.depth is not None:
        depth = shown = scores.depth
        detections = depth.detections
        title = f"exact label {depth.exact:.3f}, detected {depth.detected} of {depth.boxes} boxes"
        figures["depth.png"] = plot_levels(depth.levels, title)
    images = {"predictions.jpg": draw_predictions(detections, shown.records, shown.labels)}
    worst = draw_worst(shown, detections)
    if worst is not None:
        images["worst_misses.jpg"] = worst
    for name, figure in figures.items():
        save_figure(folder / name, figure)
    for name, image in images.items():
        save_image(folder / name, image)
    return [folder / name for name in (*figures, *images)]


def plot_precision_recall(scores: Evaluation) -> "Figure":
    """Plot precision over recall at IoU >= 0.5: a thin line per class, the mean bold."""
    ap50 = np.array([row.ap50 for row in scores.classes])
    figure, axes = _unit_axes("recall", "precision", f"mean AP50 {scores.map50:.3f}")
    _plot_classes(axes, scores, scores.curves.envelope, ap50)
    return figure


def plot_f1(scores: Evaluation) -> "Figure":
    """Plot F1 over confidence at IoU >= 0.5, with a dotted line at the best mean F1."""
    curves = scores.curves
    title = f"best mean F1 {curves.f1.mean(axis=0)[curves.best]:.3f}" if len(curves.f1) else "no labels"
    figure, axes = _unit_axes("confidence", "F1", f"{title} at confidence {curves.best_confidence:.3f}")
    _plot_classes(axes, scores, curves.f1, curves.f1[:, curves.best])
    axes.axvline(curves.best_confidence, color="black", linewidth=0.8, linestyle=":")
    return figure


def _unit_axes(x: str, y: str, title: str) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.add_subplot(xlabel=x, ylabel=y, title=title, xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    return figure, axes


def _plot_classes(axes: "Axes", scores: Evaluation, values: np.ndarray, rank: np.ndarray) -> None:
    """Plot a line per class; of many classes only the best and the worst by `rank` have a colour and a name."""
    order = np.argsort(-rank, kind="stable")
    has_few = len(order) <= MAX_COLOURED
    named = list(order) if has_few else [*order[:NUM_NAMED], *order[-NUM_NAMED:]]
    for row in () if has_few else order[NUM_NAMED:-NUM_NAMED]:
        axes.plot(scores.curves.grid, values[row], color="0.8", linewidth=0.6)
    names, font = plot_texts([scores.classes[row].name for row in named])
    font.set_size("small")
    for index, (row, name) in enumerate(zip(named, names, strict=True)):
        text = f"{name} {rank[row]:.3f}"
        axes.plot(scores.curves.grid, values[row], color=np.array(colour(index)) / 255, linewidth=1, label=text)
    if len(order):
        text = f"mean of {len(order)} {rank.mean():.3f}"
        axes.plot(scores.curves.grid, values.mean(axis=0), color="black", linewidth=2.5, label=text)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), prop=font, frameon=False)


def plot_confusion(confusion: ConfusionMatrix, labels: WordTree) -> "Figure":
    """Plot the confusion matrix as fractions of each row; of more than 100 classes the most confused ones."""
    shown = _most_confused(confusion)
    names = [*(labels.names[label] for label in confusion.label), "background"]
    names = [names[row] for row in shown]
    counts, fractions = (array[np.ix_(shown, shown)] for array in (confusion.counts, confusion.fractions))
    return plot_matrix(counts, fractions, names, names, f"confidence >= {CONFIDENCE:g}, IoU >= 0.5")


def plot_matrix(
    counts: np.ndarray, fractions: np.ndarray, rows: Sequence[str], columns: Sequence[str], title: str
) -> "Figure":
    """Plot the fractions (R, C) of ground truth (rows) with each prediction (columns), and their counts if they fit."""
    from matplotlib.figure import Figure

    side = max(5.0, 0.2 * len(rows) + 2)
    figure = Figure(figsize=(side + 1.5, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="ground truth", title=title)
    image = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for ticks, names, rotation in ((axes.set_xticks, columns, 90), (axes.set_yticks, rows, 0)):
        texts, font = plot_texts(names)
        ticks(range(len(texts)), texts, rotation=rotation, fontproperties=font, fontsize=8)
    figure.colorbar(image, ax=axes, label="fraction of the row", shrink=0.6)
    if len(rows) <= MAX_ROWS_WITH_COUNTS:
        for (row, column), count in np.ndenumerate(counts):
            paint = "white" if fractions[row, column] > 0.5 else "black"
            axes.text(column, row, str(count) if count else "", ha="center", va="center", color=paint, fontsize=8)
    return figure


def _most_confused(confusion: ConfusionMatrix) -> np.ndarray:
    """Return the indices of the rows to show, background last."""
    errors = confusion.counts.sum(axis=0) + confusion.counts.sum(axis=1) - 2 * confusion.counts.diagonal()
    worst = np.sort(np.argsort(-errors[:-1], kind="stable")[:MAX_MATRIX_ROWS])
    return np.append(worst, len(errors) - 1)


def plot_levels(levels: Sequence[Level], title: str) -> "Figure":
    """Plot the outcomes at each depth of the label tree as stacked fractions, with the total count on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(5.0, 0.55 * len(levels) + 3.2), 4.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="depth in the tree", ylabel="fraction of the ground truth", title=title, ylim=(0, 1.08)
    )
    bottom = np.zeros(len(levels))
    for kind, paint in LEVEL_COLOURS.items():
        fractions = np.array([level.fractions[kind] for level in levels])
        text = kind.replace("_", " ") if fractions.any() else None  # no legend entry for empty bars
        axes.bar(range(len(levels)), fractions, bottom=bottom, color=np.array(paint) / 255, width=0.75, label=text)
        bottom += fractions
    for index, level in enumerate(levels):
        axes.text(index, 1.01, f"{level.ground_truths}", ha="center", va="bottom", fontsize=8)
    axes.set_xticks(range(len(levels)), [str(level.depth) for level in levels])
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False, reverse=True)
    return figure


def draw_predictions(detections: Sequence[Detections], records: Sequence[Record], labels: WordTree) -> np.ndarray:
    """Draw evenly spaced images of the data set: ground truth left, predictions of confidence >= 0.25 right of it."""
    chosen = np.unique(np.linspace(0, len(records) - 1, min(MAX_PREDICTIONS, len(records))).round().astype(int))
    cells, captions = [], []
    for i in chosen:
        image, name = read_image(records[i].path), records[i].path.name
        boxes, shown = records[i].boxes, detections[i][detections[i].score >= CONFIDENCE]
        texts = [f"{labels.names[label]} {score:.2f}" for label, score in zip(shown.label, shown.score, strict=True)]
        cells += [
            _draw_cell(image, boxes.xyxy, [labels.names[n] for n in boxes.label], _colours(boxes.label), boxes.ignore),
            _draw_cell(image, shown.xyxy, texts, _colours(shown.label)),
        ]
        captions += [f"{name}: ground truth", f"{name}: predictions"]
    return mosaic(cells, columns=2 if len(chosen) <= 2 else 4, cell_wh=CELL_WH, captions=captions)


def _colours(labels: np.ndarray) -> list[Colour]:
    return [colour(int(label)) for label in labels]


def _draw_cell(
    image: np.ndarray,
    xyxy: np.ndarray,
    texts: Sequence[str],
    colours: Sequence[Colour],
    ignore: np.ndarray | None = None,
) -> np.ndarray:
    """Draw boxes on the image at the size of a cell, so that all texts have one font size."""
    small, boxes = fit(image, xyxy, CELL_WH)
    return draw_boxes(small, boxes, texts, colours, ignore=ignore)


def draw_worst(scores: Evaluation | DepthReport, detections: Sequence[Detections]) -> np.ndarray | None:
    """Draw the images with most false positives and false negatives at confidence >= 0.25; `None`: there are none."""
    outcomes = _outcomes(scores.matches, scores.records)
    errors = np.array([false_positive.sum() + false_negative.sum() for _, false_positive, false_negative in outcomes])
    worst = [i for i in np.argsort(-errors, kind="stable")[:MAX_WORST] if errors[i]]
    if not worst:
        return None
    cells = [_draw_outcome(scores.records[i], detections[i], outcomes[i], scores.labels) for i in worst]
    captions = [f"{scores.records[i].path.name}: {outcomes[i][1].sum()} FP, {outcomes[i][2].sum()} FN" for i in worst]
    sheet = mosaic(cells, columns=min(3, len(cells)), cell_wh=CELL_WH, captions=captions)
    return np.concatenate([legend(list(OUTCOME_COLOURS), list(OUTCOME_COLOURS.values()), sheet.shape[1]), sheet])


Outcome = tuple[np.ndarray, np.ndarray, np.ndarray]  # masks: true positives, false positives, false negatives


def _outcomes(matches: Matches, records: Sequence[Record]) -> list[Outcome]:
    """Return masks for each image: detections that are true or false positives, boxes that are false negatives."""
    confident = matches.score >= CONFIDENCE
    true_positive = matches.true_positive[0] & confident
    false_positive = ~matches.true_positive[0] & ~matches.ignored[0] & confident
    false_negative = ~np.concatenate([np.zeros(0, bool), *(record.boxes.ignore for record in records)])
    false_negative[matches.ground_truth[true_positive]] = False
    detection_ends = np.cumsum(np.bincount(matches.image, minlength=len(records)))[:-1]
    box_ends = np.cumsum([len(record.boxes) for record in records])[:-1]
    return list(
        zip(
            np.split(true_positive, detection_ends),
            np.split(false_positive, detection_ends),
            np.split(false_negative, box_ends),
            strict=True,
        )
    )


def _draw_outcome(record: Record, detections: Detections, outcome: Outcome, labels: WordTree) -> np.ndarray:
    """Draw an image with true positives, false positives, false negatives and ignored boxes in their colours."""
    boxes, (true_positive, false_positive, false_negative) = record.boxes, outcome
    groups = {
        "false negative": (boxes.xyxy[false_negative], boxes.label[false_negative]),
        "false positive": (detections.xyxy[false_positive], detections.label[false_positive]),
        "ignored": (boxes.xyxy[boxes.ignore], boxes.label[boxes.ignore]),
        "true positive": (detections.xyxy[true_positive], detections.label[true_positive]),
    }
    xyxy = np.concatenate([box for box, _ in groups.values()])
    # True positives are the majority; without a text they leave room for the errors.
    texts = [labels.names[n] if kind != "true positive" else "" for kind, (_, label) in groups.items() for n in label]
    colours = [OUTCOME_COLOURS[kind] for kind, (_, label) in groups.items() for _ in label]
    return _draw_cell(read_image(record.path), xyxy, texts, colours)
