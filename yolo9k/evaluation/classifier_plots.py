"""Plots of a classifier's evaluation: the most confused labels, depth in the tree, the worst mistakes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yolo9k.drawing import mosaic, save_image
from yolo9k.evaluation.classifier import ClassifierScores
from yolo9k.evaluation.plots import depth_levels, matrix, save_figure
from yolo9k.images import read_image
from yolo9k.metrics.classification import is_right

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CONFUSED = 30  # labels in the matrix
MISTAKES = 12  # images
CELL_WH = (320, 240)


def write_plots(folder: Path, scores: ClassifierScores) -> list[Path]:
    """Write all plots into a folder, and return their paths. Raises `MachineError`, `DataError`."""
    figures = {"confusion.png": confused_labels(scores)}
    if scores.tree is not None:
        title = f"exact label {scores.tree.exact:.3f} of {scores.images}"
        figures["depth.png"] = depth_levels(scores.tree.levels, title)
    for name, figure in figures.items():
        save_figure(folder / name, figure)
    worst = worst_mistakes(scores)
    images = {} if worst is None else {"worst_mistakes.jpg": worst}
    for name, image in images.items():
        save_image(folder / name, image)
    return [folder / name for name in (*figures, *images)]


def confused_labels(scores: ClassifierScores) -> "Figure":
    """What the labels with most mistakes are taken for, as shares of their images; the last column is all others.

    A label below that of an image counts as its own.
    """
    labels = _most_confused(scores)
    place = np.full(len(scores.labels), len(labels))
    place[labels] = np.arange(len(labels))
    truth, given = scores.outcomes.truth, scores.outcomes.label[:, 0]
    given = np.where(is_right(scores.labels, given[:, None], truth)[:, 0], truth, given)
    counts = np.zeros((len(labels) + 1, len(labels) + 1), np.int64)
    np.add.at(counts, (place[truth], place[given]), 1)
    counts = counts[:-1]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [scores.labels.names[label] for label in labels]
    title = f"the {len(labels)} most confused of {len(scores.classes)} labels"
    return matrix(counts, shares, names, [*names, "others"], title)


def _most_confused(scores: ClassifierScores) -> list[int]:
    """Labels of the most frequent mistakes, both what images are and what they are called, then others that occur."""
    wrong = (label for pair in scores.pairs for label in (pair.truth, pair.label))
    others = (row.label for row in scores.classes)
    return sorted(list(dict.fromkeys([*wrong, *others]))[:MAX_CONFUSED])


def worst_mistakes(scores: ClassifierScores) -> np.ndarray | None:
    """The wrong images whose wrong label got the highest probability; none where all are right."""
    chosen = _surest_mistakes(scores)
    if not len(chosen):
        return None
    images = [read_image(scores.sources[number]) for number in chosen]
    return mosaic(images, columns=min(4, len(images)), cell_wh=CELL_WH, captions=_captions(scores, chosen))


def _surest_mistakes(scores: ClassifierScores) -> np.ndarray:
    outcomes = scores.outcomes
    wrong = ~is_right(scores.labels, outcomes.label[:, :1], outcomes.truth)[:, 0]
    order = np.argsort(-outcomes.score[:, 0], kind="stable")
    chosen: np.ndarray = order[wrong[order]][:MISTAKES]
    return chosen


def _captions(scores: ClassifierScores, chosen: np.ndarray) -> Sequence[str]:
    outcomes, names = scores.outcomes, scores.labels.names
    return [
        f"{names[outcomes.truth[i]]}, called {names[outcomes.label[i, 0]]} {outcomes.score[i, 0]:.2f}" for i in chosen
    ]
