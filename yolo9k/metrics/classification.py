"""Scores of what whole images are called: top-k, by class, which label is taken for which.

The ranking is one of labels without any below them. A label is right that is the image's own or lies below it, since
images may be labelled with an inner node of a tree; where all are labelled with leaves, this is Darknet's rule
(`classifier.c: validate_classifier_single`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from yolo9k.metrics.depth import is_within
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.prediction import HIER_THRESH, predict_labels
from yolo9k.wordtree.softmax import HierarchicalSoftmax

TOP = 5


@dataclass(frozen=True)
class Outcomes:
    """What was said of N images.

    `truth` (N,) nodes; `label` (N, T) labels, the likeliest first, -1 for none; `score` (N, T) their probabilities;
    `reached` (N,) where a descent from the roots ended; `loss` (N,) the cross entropy of the true label.
    """

    truth: np.ndarray
    label: np.ndarray
    score: np.ndarray
    reached: np.ndarray
    loss: np.ndarray


class Tally:
    """Gathers the outcomes of batches; of an image it keeps a few numbers, however many labels there are.

    Tensors stay on their device until `outcomes` is asked for, so that nothing waits for it.
    """

    def __init__(self, scores: HierarchicalSoftmax, top: int = TOP, hier_thresh: float = HIER_THRESH) -> None:
        self.scores, self.top, self.hier_thresh = scores, top, hier_thresh
        self._parts: list[tuple[Tensor, ...]] = []

    def add(self, logits: Tensor, truth: Tensor) -> None:
        """Take in logits (M, K) of images whose labels are the nodes `truth` (M,)."""
        named = predict_labels(self.scores, logits, self.top, self.hier_thresh)
        self._parts.append((truth, named.label, named.score, named.reached, self.scores.loss(logits, truth)))

    def outcomes(self) -> Outcomes:
        """All that was taken in. Raises `ValueError` where that is nothing."""
        if not self._parts:
            raise ValueError("no batch was taken in")
        return Outcomes(*(torch.cat(parts).cpu().numpy() for parts in zip(*self._parts, strict=True)))


def is_right(tree: WordTree, label: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(N, T) whether labels (N, T) are right for images with labels `truth` (N,)."""
    return is_within(tree, label, truth[:, None])


def top_accuracy(right: np.ndarray, most: int) -> float:
    """The share of images of which one of the first `most` labels is right, from `is_right` (N, T)."""
    return float(right[:, :most].any(axis=1).mean())


@dataclass(frozen=True)
class ClassAccuracy:
    """Of the `images` with a label the shares whose first, and one of whose first five labels are right."""

    label: int
    images: int
    top1: float
    top5: float


def accuracy_by_class(truth: np.ndarray, right: np.ndarray) -> tuple[ClassAccuracy, ...]:
    """A row for each label that images have, in order of their numbers, from (N,) and `is_right` (N, T)."""
    labels, row, images = np.unique(truth, return_inverse=True, return_counts=True)
    top1, top5 = (np.bincount(row, right[:, :most].any(axis=1)) / images for most in (1, TOP))
    return tuple(
        ClassAccuracy(int(label), int(count), float(one), float(five))
        for label, count, one, five in zip(labels, images, top1, top5, strict=True)
    )


@dataclass(frozen=True)
class ConfusedPair:
    """`count` images labelled `truth` were called `label`."""

    truth: int
    label: int
    count: int


def confused_pairs(truth: np.ndarray, label: np.ndarray, right: np.ndarray) -> tuple[ConfusedPair, ...]:
    """Which label (N,) was wrongly given for which (N,), the most frequent first; `right` (N,).

    This is what a confusion matrix has beside its diagonal; of thousands of labels most cells are empty.
    """
    pairs, counts = np.unique(np.stack([truth, label], axis=1)[~right], axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return tuple(
        ConfusedPair(int(pair[0]), int(pair[1]), int(count))
        for pair, count in zip(pairs[order], counts[order], strict=True)
    )
