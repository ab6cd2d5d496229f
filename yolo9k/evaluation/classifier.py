"""Evaluate a classifier on labelled images: top-1 and top-5 accuracy, confused pairs, depth in a label tree."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from yolo9k import processes
from yolo9k.datasets.load import ImageSet
from yolo9k.errors import DataError
from yolo9k.evaluation.class_selection import check_node_map, find_nodes
from yolo9k.images import ImageSource
from yolo9k.metrics.classification import (
    TOP_K,
    ClassAccuracy,
    ConfusedPair,
    OutcomeCollector,
    Outcomes,
    accuracy_by_class,
    confused_pairs,
    is_correct,
    top_k_accuracy,
)
from yolo9k.metrics.depth import Level, common_ancestor_heights, compare_levels
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.prediction import descent_threshold
from yolo9k.wordtree.tree import HIER_THRESH

if TYPE_CHECKING:
    from yolo9k.inference.classifier import ImageClassifier, LogitBatch

BATCH = 64
MAX_PAIRS = 1000  # written to JSON


@dataclass(frozen=True)
class TreeScores:
    """Scores over a label tree, of descents from the roots while the path probability is above `hier_thresh`.

    `levels`: outcomes at each depth; `exact`: fraction of descents that end at exactly the image's label. Mean depths:
    `ground_truth_depth` of the images' labels, `predicted_depth` of the ends of the descents.
    `mistakes`: for images whose most probable label is wrong, counts by the height of the lowest common ancestor with
    the correct label (1: both are leaves of one parent); `mistake_height`: their mean, NaN without mistakes.
    """

    hier_thresh: float
    levels: tuple[Level, ...]
    exact: float
    ground_truth_depth: float
    predicted_depth: float
    mistakes: Mapping[int, int]
    mistake_height: float

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON."""
        levels = [{**asdict(level), "fractions": level.fractions} for level in self.levels]
        return {**vars(self), "levels": levels, "mistakes": dict(self.mistakes)}


@dataclass(frozen=True)
class ClassifierScores:
    """The scores of a classifier on `images` images, without the `unreadable` ones.

    `top1`, `top5`: accuracy of the most probable label, of the five most probable; `class_top1`: mean of the top-1
    accuracy of the classes; `loss`: mean cross entropy. `classes`: a row for each label that images have; `pairs`: the
    confused labels, most frequent first. `tree`: scores over the label tree, `None`: the labels are flat.
    `outcomes` and `sources`: the predictions for each image, and its file.
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
        """Return the numbers for JSON; of the confused pairs only the most frequent."""
        names, ids = self.labels.names, self.labels.ids
        numbers = ("images", "unreadable", "top1", "top5", "class_top1", "loss")
        return {
            **{name: getattr(self, name) for name in numbers},
            "tree": None if self.tree is None else self.tree.to_dict(),
            "classes": [{"id": ids[row.label], "name": names[row.label], **asdict(row)} for row in self.classes],
            "confused_pairs": [
                {"ground_truth": names[pair.ground_truth], "predicted": names[pair.predicted], "count": pair.count}
                for pair in self.pairs[:MAX_PAIRS]
            ],
        }


def evaluate_classifier(
    classifier: "ImageClassifier",
    images: ImageSet,
    *,
    batch: int = BATCH,
    node_map: Sequence[int] | None = None,
    hier_thresh: float | None = None,
    on_unreadable: Callable[[DataError], None] | None = None,
    track: Track = silent,
) -> ClassifierScores:
    """Run a classifier on labelled images and score its predictions.

    `batch`: batch size; `node_map`: the model's node of each label of the data set, as in a `.map` file (`None`:
    labels are found by id, name or alias); `hier_thresh`: in a tree, descend while the path probability is above it
    (default 0.5). Raises `ConfigError` for labels that the model does not have and for `hier_thresh` with flat labels,
    and `DataError` for an unreadable image. If `on_unreadable` is given, it receives that error and the image is
    excluded; if no image is left, this raises `DataError`. If `track` ends early, the scores are those of the images
    before.
    """
    threshold = descent_threshold(classifier.labels, hier_thresh)
    records = [images.records[index] for index in range(len(images.records))]
    sources = [record.source for record in records]
    image_label = np.array([record.image_label for record in records], np.int64)
    if node_map is None:
        node_of_label = find_nodes(classifier.labels, images.labels, np.unique(image_label).tolist())
    else:
        node_of_label = check_node_map(classifier.labels, images.labels, node_map)
    nodes = node_of_label[image_label]
    errors: list[DataError] = []

    def classify_share() -> tuple[list[bool], Outcomes]:
        share = processes.share(range(len(sources)))
        tracked = track([sources[index] for index in share], "Classifying", len(share))
        collects = None if on_unreadable is None else errors.append
        stream = classifier.stream_logits(tracked, batch=batch, on_unreadable=collects)
        return _collect(classifier, stream, nodes[list(share)], threshold)

    parts = processes.gather(processes.together(classify_share))
    is_read = processes.merge([flags for flags, _ in parts])
    for error in (error for part in processes.gather(errors) for error in part):
        assert on_unreadable is not None
        on_unreadable(error)
    if not any(is_read):
        raise DataError(f"none of {len(is_read)} images could be read; first: {sources[0]}")
    readable = [source for source, flag in zip(sources, is_read, strict=False) if flag]  # fewer if `track` ends early
    unreadable = len(is_read) - len(readable)
    outcomes = _merged(parts, len(is_read))
    return score_outcomes(outcomes, classifier.labels, readable, threshold, unreadable=unreadable)


def _collect(
    classifier: "ImageClassifier", stream: "Iterable[LogitBatch]", nodes: np.ndarray, hier_thresh: float
) -> tuple[list[bool], Outcomes]:
    """Return which images of a stream could be read, and the outcomes of these; `nodes`: the label of each image."""
    collector = OutcomeCollector(classifier.softmax, TOP_K, hier_thresh)
    is_read: list[bool] = []
    for part in stream:
        expected = nodes[len(is_read) : len(is_read) + len(part.is_read)][part.is_read]
        collector.add(part.logits, torch.from_numpy(expected).to(part.logits.device))
        is_read += part.is_read
    return is_read, collector.outcomes()


def _merged(parts: Sequence[tuple[list[bool], Outcomes]], images: int) -> Outcomes:
    """Return the outcomes of the first images in their order, from the `_collect` of each process."""
    step = len(parts)
    at = [first + step * np.flatnonzero(is_read) for first, (is_read, _) in enumerate(parts)]  # of each outcome
    indices = np.concatenate(at)
    order = np.argsort(indices)
    return Outcomes.concatenated([outcomes for _, outcomes in parts]).selected(order[indices[order] < images])


def score_outcomes(
    outcomes: Outcomes,
    labels: WordTree,
    sources: Sequence[ImageSource],
    hier_thresh: float = HIER_THRESH,
    *,
    unreadable: int = 0,
) -> ClassifierScores:
    """Score the predictions for the images at `sources`; `hier_thresh` is that of their descents."""
    correct = is_correct(labels, outcomes.label, outcomes.ground_truth)
    classes = accuracy_by_class(outcomes.ground_truth, correct)
    return ClassifierScores(
        images=len(outcomes.ground_truth),
        unreadable=unreadable,
        top1=top_k_accuracy(correct, 1),
        top5=top_k_accuracy(correct, TOP_K),
        class_top1=float(np.mean([row.top1 for row in classes])),
        loss=float(outcomes.loss.mean()),
        classes=classes,
        pairs=confused_pairs(outcomes.ground_truth, outcomes.label[:, 0], correct[:, 0]),
        tree=None if labels.is_flat else _tree_scores(outcomes, labels, correct[:, 0], hier_thresh),
        labels=labels,
        outcomes=outcomes,
        sources=sources,
    )


def _tree_scores(outcomes: Outcomes, tree: WordTree, correct: np.ndarray, hier_thresh: float) -> TreeScores:
    wrong = ~correct
    height = common_ancestor_heights(tree, outcomes.ground_truth[wrong], outcomes.label[wrong, 0])
    return TreeScores(
        hier_thresh=hier_thresh,
        levels=compare_levels(tree, outcomes.ground_truth, outcomes.descent_label),
        exact=float(np.mean(outcomes.descent_label == outcomes.ground_truth)),
        ground_truth_depth=float(tree.depth[outcomes.ground_truth].mean()),
        predicted_depth=float(tree.depth[outcomes.descent_label].mean()),
        mistakes={int(each): int((height == each).sum()) for each in np.unique(height)},
        mistake_height=float(height.mean()) if len(height) else float("nan"),
    )
