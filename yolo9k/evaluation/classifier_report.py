"""A classifier's evaluation in words and table rows."""

import math
from collections.abc import Sequence

from yolo9k.evaluation.classifier import ClassifierScores, TreeScores
from yolo9k.metrics.classification import ClassAccuracy

WORST = 20  # classes and pairs that are shown
CLASS_COLUMNS = ("label", "images", "top-1", "top-5", "most often taken for")
PAIR_COLUMNS = ("label", "taken for", "images")
DEPTH_COLUMNS = ("depth", "images", "right", "too coarse", "wrong branch")


def protocol(scores: ClassifierScores) -> list[str]:
    """How the numbers were made: a line, and two more in a tree."""
    lines = ["top-1, top-5: the label of an image is the likeliest, among the five likeliest; loss: cross entropy"]
    if scores.tree is not None:
        lines += [
            "label tree: the ranking is one of labels without any below them, by the probability of the whole way from "
            "a root; a label below that of the image is right, too",
            f"depth: a descent to the likeliest child while its probability is above {scores.tree.hier_thresh:g}; "
            "roots have depth 0",
        ]
    return lines


def worst_rows(scores: ClassifierScores, most: int = WORST) -> list[Sequence[object]]:
    """Of the classes that are not always right, those with the lowest top-1; columns as in `CLASS_COLUMNS`."""
    names = scores.labels.names
    taken = {pair.truth: f"{names[pair.label]} ({pair.count})" for pair in reversed(scores.pairs)}  # the first stays
    wrong = sorted((row for row in scores.classes if row.label in taken), key=_quality)
    return [(names[row.label], row.images, row.top1, row.top5, taken[row.label]) for row in wrong[:most]]


def _quality(row: ClassAccuracy) -> tuple[float, float, int]:
    return row.top1, row.top5, -row.images


def pair_rows(scores: ClassifierScores, most: int = WORST) -> list[Sequence[object]]:
    """What is most often taken for what; columns as in `PAIR_COLUMNS`."""
    names = scores.labels.names
    return [(names[pair.truth], names[pair.label], pair.count) for pair in scores.pairs[:most]]


def depth_rows(tree: TreeScores) -> list[Sequence[object]]:
    """A row for each level of the tree; columns as in `DEPTH_COLUMNS`, the last three as shares of the images."""
    kinds = ("right", "too_coarse", "wrong_branch")
    return [(level.depth, level.truths, *(level.shares[kind] for kind in kinds)) for level in tree.levels]


def summary(scores: ClassifierScores) -> list[str]:
    """The headline numbers, and what a tree adds."""
    lines = [
        f"top-1 {scores.top1:.4f}   top-5 {scores.top5:.4f}   mean top-1 of {len(scores.classes)} classes "
        f"{scores.class_top1:.4f}   loss {scores.loss:.4f}   ({scores.images:,} images)"
    ]
    if scores.tree is not None:
        lines += _of_tree(scores.tree)
    return lines


def _of_tree(tree: TreeScores) -> list[str]:
    lines = [f"descent: exact label {tree.exact:.4f}, depth {tree.reached_depth:.2f} reached of {tree.truth_depth:.2f}"]
    if not math.isnan(tree.mistake_height):
        counts = ", ".join(f"{count} at {height}" for height, count in tree.mistakes.items())
        lines.append(
            f"mistakes by the height of the lowest common ancestor with the right label: {counts}; "
            f"mean {tree.mistake_height:.2f}"
        )
    return lines
