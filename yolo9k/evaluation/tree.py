"""Evaluate detections over a label tree (YOLO9000 section 4): they count for their label and its ancestors."""

from collections.abc import Sequence
from dataclasses import replace

from yolo9k.datasets.readers.records import Record
from yolo9k.evaluation.depth import depth_report
from yolo9k.evaluation.eval_classes import EvalClasses
from yolo9k.evaluation.evaluate import Evaluation, evaluate
from yolo9k.samples import Detections
from yolo9k.wordtree.supervision import Supervision


def evaluate_tree(
    multi_label: Sequence[Detections],
    descended: Sequence[Detections] | None,
    records: Sequence[Record],
    classes: EvalClasses,
    supervision: Supervision | None = None,
) -> tuple[Evaluation, list[Detections]]:
    """Evaluate detections whose labels are nodes of the model's tree on records with the data set's labels.

    `multi_label`: for each box a row per node of `classes.unique_nodes` above the threshold, for average precision.
    `descended`: one label per box, the end of its descent, for the depth report; `None`: no depth report.
    `supervision`: how the model's labels were trained, if known. Returns the scores, and the detections with the
    labels of the scores (`Evaluation.labels`). Raises `ValueError` if the numbers of images differ.
    """
    detections = classes.to_classes(multi_label)
    kinds = () if supervision is None else supervision.kinds(classes.tree)
    scores = evaluate(
        detections,
        classes.ground_truth(records),
        classes.labels,
        supervision=[kinds[node] for node in classes.nodes] if kinds else (),
        by_ancestry=classes.by_ancestry,
        category_ids=classes.category_ids,
    )
    # The row of all labels counts each box once, even if it counts for several classes.
    scores = replace(scores, total=replace(scores.total, boxes=classes.count_boxes(records)))
    if descended is not None and not classes.tree.is_flat:
        scores = replace(scores, depth=depth_report(descended, classes.to_nodes(records), classes.tree))
    return scores, detections
