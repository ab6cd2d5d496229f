"""Plots of a classifier's evaluation: confusion matrix, accuracy by depth in the label tree, worst mistakes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yolo9k.drawing import fit, mosaic, save_figure, save_image
from yolo9k.evaluation.classifier import ClassifierScores
from yolo9k.evaluation.plots import plot_levels, plot_matrix
from yolo9k.images import read_image
from yolo9k.metrics.classification import is_correct

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LABELS = 30  # rows of the confusion matrix
MAX_MISTAKES = 12  # images
CELL_WH = (320, 240)


def write_plots(folder: Path, scores: ClassifierScores) -> list[Path]:
    """Write all plots into a folder and return their paths. Raises `MachineError`, `DataError`."""
    figures = {"confusion.png": plot_confusion(scores)}
    if scores.tree is not None:
        title = f"exact label for {scores.tree.exact:.3f} of {scores.images} images"
        figures["depth.png"] = plot_levels(scores.tree.levels, title)
    for name, figure in figures.items():
        save_figure(folder / name, figure)
    mistakes = draw_worst_mistakes(scores)
    images = {} if mistakes is None else {"worst_mistakes.jpg": mistakes}
    for name, image in images.items():
        save_image(folder / name, image)
    return [folder / name for name in (*figures, *images)]


def plot_confusion(scores: ClassifierScores) -> "Figure":
    """Plot the confusion matrix of the most confused labels as fractions of each row; all others are one column.

    A prediction below the image's label counts as that label.
    """
    labels = _most_confused(scores)
    index_of_label = np.full(len(scores.labels), len(labels))
    index_of_label[labels] = np.arange(len(labels))
    expected, predicted = scores.outcomes.ground_truth, scores.outcomes.label[:, 0]
    predicted = np.where(is_correct(scores.labels, predicted[:, None], expected)[:, 0], expected, predicted)
    counts = np.zeros((len(labels) + 1, len(labels) + 1), np.int64)
    np.add.at(counts, (index_of_label[expected], index_of_label[predicted]), 1)
    counts = counts[:-1]
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [scores.labels.names[label] for label in labels]
    title = f"the {len(labels)} most confused of {len(scores.classes)} classes"
    return plot_matrix(counts, fractions, names, [*names, "others"], title)


def _most_confused(scores: ClassifierScores) -> list[int]:
    """Return the labels of the most frequent mistakes, correct and predicted, then other labels that images have."""
    confused = (label for pair in scores.pairs for label in (pair.ground_truth, pair.predicted))
    others = (row.label for row in scores.classes)
    return sorted(list(dict.fromkeys([*confused, *others]))[:MAX_LABELS])


def draw_worst_mistakes(scores: ClassifierScores) -> np.ndarray | None:
    """Draw the images whose wrong label has the highest probability; `None`: there are no mistakes."""
    outcomes = scores.outcomes
    wrong = ~is_correct(scores.labels, outcomes.label[:, :1], outcomes.ground_truth)[:, 0]
    order = np.argsort(-outcomes.score[:, 0], kind="stable")
    chosen = order[wrong[order]][:MAX_MISTAKES]
    if not len(chosen):
        return None
    images = [fit(read_image(scores.sources[index]), np.zeros((0, 4)), CELL_WH)[0] for index in chosen]
    return mosaic(images, columns=min(4, len(images)), cell_wh=CELL_WH, captions=_captions(scores, chosen))


def _captions(scores: ClassifierScores, chosen: np.ndarray) -> Sequence[str]:
    outcomes, names = scores.outcomes, scores.labels.names
    return [
        f"{names[outcomes.ground_truth[i]]}, predicted {names[outcomes.label[i, 0]]} {outcomes.score[i, 0]:.2f}"
        for i in chosen
    ]
