"""A classifier over labelled images: top-1 and top-5, classes, what is taken for what, and depth in a tree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from yolo9k.datasets.load import ImageSet
from yolo9k.datasets.readers.records import ImageSequence
from yolo9k.errors import DataError
from yolo9k.evaluation.class_selection import find_nodes, given_nodes
from yolo9k.images import ImageSource
from yolo9k.metrics.classification import (
    TOP,
    ClassAccuracy,
    ConfusedPair,
    Outcomes,
    Tally,
    accuracy_by_class,
    confused_pairs,
    is_right,
    top_accuracy,
)
from yolo9k.metrics.depth import Level, common_heights, levels_of
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.prediction import HIER_THRESH, descent_threshold

if TYPE_CHECKING:
    from yolo9k.inference.classifier import ImageClassifier

BATCH = 64
MAX_PAIRS = 1000  # written to JSON


@dataclass(frozen=True)
class TreeScores:
    """What a tree of labels adds. The descent from the roots goes on while the probability is above `hier_thresh`.

    `levels`: what became of the descents at each depth; `exact`: the share that ended at just the image's label.
    Mean depths: `truth_depth` of the labels, `reached_depth` of where descents ended. `mistakes` counts the images
    whose likeliest label is wrong by the height of its lowest common ancestor with the image's own (1: below one
    parent of leaves), of which `mistake_height` is the mean, NaN without a mistake.
    """

    hier_thresh: float
    levels: tuple[Level, ...]
    exact: float
    truth_depth: float
    reached_depth: float
    mistakes: Mapping[int, int]
    mistake_height: float

    def to_dict(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        levels = [{**asdict(level), "shares": level.shares} for level in self.levels]
        return {**vars(self), "levels": levels, "mistakes": dict(self.mistakes)}


@dataclass(frozen=True)
class ClassifierScores:
    """The scores of a classifier on `images`; those that could not be read (`unreadable`) are not among them.

    `top1`, `top5`: the shares of images whose label is the likeliest, one of the five likeliest; `class_top1`: the
    mean of top-1 over the labels that images have; `loss`: the mean cross entropy. `classes`: a row for each of those
    labels; `pairs`: what was taken for what, the most frequent first. `tree`: none where labels are flat.
    `outcomes` and `sources` say of each image what it was called and where it is.
    """

    images: int
    unreadable: int
    top1: float
    top5: float
    class_top1: float
    loss: float
    classes: tuple[ClassAccuracy, ...]
    pairs: tuple[ConfusedPair, ...]
    tree: TreeScores | None
    labels: WordTree
    outcomes: Outcomes
    sources: Sequence[ImageSource]

    def to_dict(self) -> dict[str, Any]:
        """The numbers, ready for JSON; of the pairs the most frequent."""
        names, ids = self.labels.names, self.labels.ids
        numbers = ("images", "unreadable", "top1", "top5", "class_top1", "loss")
        return {
            **{name: getattr(self, name) for name in numbers},
            "tree": None if self.tree is None else self.tree.to_dict(),
            "classes": [{"id": ids[row.label], "name": names[row.label], **asdict(row)} for row in self.classes],
            "confused_pairs": [
                {"truth": names[pair.truth], "predicted": names[pair.label], "count": pair.count}
                for pair in self.pairs[:MAX_PAIRS]
            ],
        }


def evaluate_classifier(
    classifier: "ImageClassifier",
    images: ImageSet,
    *,
    batch: int = BATCH,
    nodes: Sequence[int] | None = None,
    hier_thresh: float | None = None,
    on_bad: Callable[[DataError], None] | None = None,
    track: Track = silent,
) -> ClassifierScores:
    """Run a classifier over labelled images and score what it calls them.

    `nodes`: the model's node of each label of the data set, as a `.map` gives them; without them by id, name or alias.
    `hier_thresh`: in a tree the descent goes on while the probability is above it (.5). Raises `ConfigError` for labels
    that the model does not have, and for a threshold over flat labels; `DataError` for a bad image unless `on_bad`
    takes it, and where no image is left.
    """
    threshold = descent_threshold(classifier.labels, hier_thresh)
    sources, truth = _listed(images.records)
    truth = _nodes_of(classifier.labels, images.labels, truth, nodes)[truth]
    tally = Tally(classifier.softmax, TOP, threshold)
    read: list[bool] = []
    answers = classifier.stream_logits(track(sources, "Classifying", len(sources)), batch=batch, on_bad=on_bad)
    for part in answers:
        own = truth[len(read) : len(read) + len(part.is_read)][part.is_read]
        tally.add(part.logits, torch.from_numpy(own).to(part.logits.device))
        read += part.is_read
    if not any(read):
        raise DataError(f"none of {len(read)} images can be read, the first is {sources[0]}")
    kept = [source for source, is_read in zip(sources, read, strict=True) if is_read]
    return score_outcomes(tally.outcomes(), classifier.labels, kept, threshold, unreadable=len(read) - len(kept))


def _listed(records: ImageSequence) -> tuple[list[ImageSource], np.ndarray]:
    """Where each image is, and its label in the data set."""
    found = [records[number] for number in range(len(records))]
    return [each.source for each in found], np.array([each.image_label for each in found], np.int64)


def _nodes_of(model: WordTree, data: WordTree, truth: np.ndarray, nodes: Sequence[int] | None) -> np.ndarray:
    """(L,) the model's node of each label of the data set, as far as `truth` needs it."""
    if nodes is not None:
        return given_nodes(model, data, nodes)
    return find_nodes(model, data, np.unique(truth).tolist())


def score_outcomes(
    outcomes: Outcomes,
    labels: WordTree,
    sources: Sequence[ImageSource],
    hier_thresh: float = HIER_THRESH,
    *,
    unreadable: int = 0,
) -> ClassifierScores:
    """The scores of what images at `sources` were called, with a descent by `hier_thresh`."""
    right = is_right(labels, outcomes.label, outcomes.truth)
    classes = accuracy_by_class(outcomes.truth, right)
    return ClassifierScores(
        images=len(outcomes.truth),
        unreadable=unreadable,
        top1=top_accuracy(right, 1),
        top5=top_accuracy(right, TOP),
        class_top1=float(np.mean([row.top1 for row in classes])),
        loss=float(outcomes.loss.mean()),
        classes=classes,
        pairs=confused_pairs(outcomes.truth, outcomes.label[:, 0], right[:, 0]),
        tree=None if labels.is_flat else _tree_scores(outcomes, labels, right[:, 0], hier_thresh),
        labels=labels,
        outcomes=outcomes,
        sources=sources,
    )


def _tree_scores(outcomes: Outcomes, tree: WordTree, right: np.ndarray, hier_thresh: float) -> TreeScores:
    wrong = ~right
    height = common_heights(tree, outcomes.truth[wrong], outcomes.label[wrong, 0])
    return TreeScores(
        hier_thresh=hier_thresh,
        levels=levels_of(tree, outcomes.truth, outcomes.reached),
        exact=float(np.mean(outcomes.reached == outcomes.truth)),
        truth_depth=float(tree.depth[outcomes.truth].mean()),
        reached_depth=float(tree.depth[outcomes.reached].mean()),
        mistakes={int(each): int((height == each).sum()) for each in np.unique(height)},
        mistake_height=float(height.mean()) if len(height) else float("nan"),
    )
