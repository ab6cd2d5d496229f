"""Metrics of image classification: top-k accuracy, accuracy by class, confused pairs.

Only leaves are ranked. A predicted leaf is correct if it is the image's label or a descendant of it, because images
may be labelled with an inner node of a tree. If all labels are leaves, this is Darknet's rule
(`classifier.c: validate_classifier_single`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from yolo9k.metrics.depth import is_in_subtree
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.prediction import predict_labels
from yolo9k.wordtree.softmax import HierarchicalSoftmax
from yolo9k.wordtree.tree import HIER_THRESH

TOP_K = 5


@dataclass(frozen=True)
class Outcomes:
    """Predictions and ground truth of N images.

    `ground_truth` (N,) nodes; `label` (N, T) predicted labels, most probable first, padded with -1; `score` (N, T)
    their probabilities; `descent_label` (N,) the node at which the descent from the roots stopped; `loss` (N,) the
    cross entropy of the ground truth.
    """

    ground_truth: np.ndarray
    label: np.ndarray
    score: np.ndarray
    descent_label: np.ndarray
    loss: np.ndarray

    @classmethod
    def concatenated(cls, parts: "Sequence[Outcomes]") -> "Outcomes":
        """Return the outcomes of several lists of images; those of no image may lack columns."""
        filled = [part for part in parts if len(part.ground_truth)] or parts[:1]
        return cls(*(np.concatenate([getattr(part, each.name) for part in filled]) for each in fields(cls)))

    def selected(self, images: np.ndarray) -> "Outcomes":
        """Return the outcomes of some images."""
        return Outcomes(*(getattr(self, each.name)[images] for each in fields(self)))


class OutcomeCollector:
    """Collects the outcomes of batches, keeping only the top labels of each image.

    Tensors stay on their device until `outcomes` is called, so adding a batch does not wait for the device.
    """

    def __init__(self, scores: HierarchicalSoftmax, top: int = TOP_K, hier_thresh: float = HIER_THRESH) -> None:
        self.scores, self.top, self.hier_thresh = scores, top, hier_thresh
        self._batches: list[tuple[Tensor, ...]] = []

    def add(self, logits: Tensor, ground_truth: Tensor) -> None:
        """Add logits (M, K) of images whose labels are the nodes `ground_truth` (M,)."""
        predicted = predict_labels(self.scores, logits, self.top, self.hier_thresh)
        loss = self.scores.loss(logits, ground_truth)
        self._batches.append((ground_truth, predicted.label, predicted.score, predicted.descent_label, loss))

    def outcomes(self) -> Outcomes:
        """Return the outcomes of all batches."""
        if not self._batches:
            nodes, rows = np.zeros(0, np.int64), np.zeros((0, self.top), np.int64)
            return Outcomes(nodes, rows, rows.astype(np.float32), nodes, np.zeros(0, np.float32))
        return Outcomes(*(torch.cat(field).cpu().numpy() for field in zip(*self._batches, strict=True)))


def is_correct(tree: WordTree, label: np.ndarray, ground_truth: np.ndarray) -> np.ndarray:
    """Return which predicted labels (N, T) are correct for images with labels `ground_truth` (N,): bool (N, T)."""
    return is_in_subtree(tree, label, ground_truth[:, None])


def top_k_accuracy(correct: np.ndarray, k: int) -> float:
    """Return the top-k accuracy, 0 to 1, from `is_correct` (N, T)."""
    return float(correct[:, :k].any(axis=1).mean())


@dataclass(frozen=True)
class ClassAccuracy:
    """Top-1 and top-5 accuracy, 0 to 1, of the `images` whose ground truth is `label`."""

    label: int
    images: int
    top1: float
    top5: float


def accuracy_by_class(ground_truth: np.ndarray, correct: np.ndarray) -> tuple[ClassAccuracy, ...]:
    """Return the accuracy of each label in `ground_truth` (N,), ordered by label, from `is_correct` (N, T)."""
    labels, row, images = np.unique(ground_truth, return_inverse=True, return_counts=True)
    top1, top5 = (np.bincount(row, correct[:, :k].any(axis=1)) / images for k in (1, TOP_K))
    return tuple(
        ClassAccuracy(int(label), int(count), float(first), float(five))
        for label, count, first, five in zip(labels, images, top1, top5, strict=True)
    )


@dataclass(frozen=True)
class ConfusedPair:
    """`count` images labelled `ground_truth` were classified as `predicted`."""

    ground_truth: int
    predicted: int
    count: int


def confused_pairs(ground_truth: np.ndarray, predicted: np.ndarray, correct: np.ndarray) -> tuple[ConfusedPair, ...]:
    """Return the confused pairs, most frequent first, from ground truth, predicted labels and `correct`, all (N,).

    These are the off-diagonal cells of the confusion matrix; with thousands of labels, most of them are empty.
    """
    pairs, counts = np.unique(np.stack([ground_truth, predicted], axis=1)[~correct], axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return tuple(
        ConfusedPair(int(pair[0]), int(pair[1]), int(count))
        for pair, count in zip(pairs[order], counts[order], strict=True)
    )
