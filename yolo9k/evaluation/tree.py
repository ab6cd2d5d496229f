"""Scores over a label tree (YOLO9000 section 4): a detection counts for its label and for the classes above it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from yolo9k.datasets.readers.records import Record
from yolo9k.evaluation.coco import category_ids_of
from yolo9k.evaluation.depth import depth_report
from yolo9k.evaluation.evaluate import Evaluation, evaluate
from yolo9k.evaluation.scored_classes import ScoredClasses
from yolo9k.samples import Detections
from yolo9k.wordtree.supervision import Supervision, SupervisionKind


def evaluate_tree(
    scored: Sequence[Detections] | None,
    descended: Sequence[Detections] | None,
    records: Sequence[Record],
    classes: ScoredClasses,
    *,
    supervision: Supervision | None = None,
    coco: bool = False,
    coco_ground_truth: Mapping[str, Any] | None = None,
) -> tuple[Evaluation, list[Detections]]:
    """Score detections whose labels are nodes of the model's tree on records with the data set's labels.

    `scored`: a row for each node of `classes.asked` that a box is likely enough to be; these give average precision.
    `descended`: one label a box, the end of its descent; these give the depth report, and average precision where
    there is nothing else. Either may be missing. `supervision`: what the model was taught. `coco_ground_truth` (see
    `evaluate`) is used where it has just the classes and a box counts for one only. Gives the scores, and the
    detections in the labels that they are of (`Evaluation.labels`).
    Raises `ValueError` where both forms are missing or numbers of images differ.
    """
    if scored is not None:
        found = classes.scored(scored)
    elif descended is not None:
        found = classes.descended(descended)
    else:
        raise ValueError("scores need detections: scored or descended")
    scores = evaluate(
        found,
        classes.truths(records),
        classes.labels,
        supervision=_supervision_kinds(classes, supervision),
        by_ancestry=classes.by_ancestry,
        coco=coco,
        coco_ground_truth=coco_ground_truth if _fits(coco_ground_truth, classes) else None,
        category_ids=classes.category_ids,
    )
    # a box is one box in the row of all labels, however many of them it counts for
    scores = replace(scores, total=replace(scores.total, boxes=classes.counted(records)))
    if descended is not None and not classes.tree.is_flat:
        scores = replace(scores, depth=depth_report(descended, classes.in_nodes(records), classes.tree))
    return scores, found


def _supervision_kinds(classes: ScoredClasses, supervision: Supervision | None) -> Sequence[SupervisionKind]:
    if supervision is None:
        return ()
    kinds = supervision.kinds(classes.tree)
    return [kinds[node] for node in classes.nodes]


def _fits(truth: Mapping[str, Any] | None, classes: ScoredClasses) -> bool:
    """Whether an annotation file has just the classes, each for itself."""
    if truth is None or classes.by_ancestry:
        return False
    return {entry["id"] for entry in truth["categories"]} == set(category_ids_of(classes.labels, classes.category_ids))
