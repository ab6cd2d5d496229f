"""A classifier's evaluation as text: how it was measured, table rows and summary."""

import math
from collections.abc import Sequence

from yolo9k.evaluation.classifier import ClassifierScores, TreeScores

MAX_ROWS = 20  # classes and pairs that are shown
CLASS_COLUMNS = ("label", "images", "top-1", "top-5", "most frequent mistake")
PAIR_COLUMNS = ("label", "predicted", "images")
DEPTH_COLUMNS = ("depth", "images", "correct", "too coarse", "wrong branch")


def protocol(scores: ClassifierScores) -> list[str]:
    """Return how the numbers were measured: one line, and two more for a label tree."""
    lines = ["top-1, top-5: the image's label is the most probable, among the five most probable; loss: cross entropy"]
    if scores.tree is not None:
        lines += [
            "label tree: leaves are ranked by path probability; a descendant of the image's label is correct, too",
            "depth: descent to the most probable child while the path probability is above "
            f"{scores.tree.hier_thresh:g}; roots have depth 0",
        ]
    return lines


def worst_rows(scores: ClassifierScores, max_rows: int = MAX_ROWS) -> list[Sequence[object]]:
    """Return the classes with mistakes, lowest top-1 accuracy first; columns as in `CLASS_COLUMNS`."""
    names = scores.labels.names
    # Pairs are sorted by count; reversed, the most frequent one of each class is kept.
    mistakes = {pair.ground_truth: f"{names[pair.predicted]} ({pair.count})" for pair in reversed(scores.pairs)}
    rows = [row for row in scores.classes if row.label in mistakes]
    rows.sort(key=lambda row: (row.top1, row.top5, -row.images))
    return [(names[row.label], row.images, row.top1, row.top5, mistakes[row.label]) for row in rows[:max_rows]]


def pair_rows(scores: ClassifierScores, max_rows: int = MAX_ROWS) -> list[Sequence[object]]:
    """Return the most frequent mistakes; columns as in `PAIR_COLUMNS`."""
    names = scores.labels.names
    return [(names[pair.ground_truth], names[pair.predicted], pair.count) for pair in scores.pairs[:max_rows]]


def depth_rows(tree: TreeScores) -> list[Sequence[object]]:
    """Return a row for each depth; columns as in `DEPTH_COLUMNS`, the last three as fractions of the images."""
    kinds = ("correct", "too_coarse", "wrong_branch")
    return [(level.depth, level.ground_truths, *(level.fractions[kind] for kind in kinds)) for level in tree.levels]


def summary(scores: ClassifierScores) -> list[str]:
    """Return the main numbers, and those of a label tree."""
    lines = [
        f"top-1 {scores.top1:.4f}   top-5 {scores.top5:.4f}   mean top-1 of {len(scores.classes)} classes "
        f"{scores.class_top1:.4f}   loss {scores.loss:.4f}   ({scores.images:,} images)"
    ]
    if scores.tree is not None:
        lines += _tree_summary(scores.tree)
    return lines


def _tree_summary(tree: TreeScores) -> list[str]:
    lines = [
        f"descent: exact label {tree.exact:.4f}; mean depth: ground truth {tree.ground_truth_depth:.2f}, "
        f"predicted {tree.predicted_depth:.2f}"
    ]
    if not math.isnan(tree.mistake_height):
        counts = ", ".join(f"{count} at {height}" for height, count in tree.mistakes.items())
        lines.append(
            f"mistakes by the height of the lowest common ancestor with the correct label: {counts}; "
            f"mean {tree.mistake_height:.2f}"
        )
    return lines
