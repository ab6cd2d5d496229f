"""`DepthReport`: the depth in the label tree to which detections are correct, for detectors with one label per box.

Each ground-truth box is matched with the detections of any label, by VOC's rule at IoU >= 0.5. The label of the matched
detection is compared with the label of the box by the rules of `metrics.depth`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from yolo9k.datasets.readers.records import Record
from yolo9k.metrics import Matches, match
from yolo9k.metrics.depth import CORRECT, WRONG_BRANCH, Level, ancestors_by_depth, count_levels, outcomes_by_depth
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

IOU = 0.5


@dataclass(frozen=True)
class DepthReport:
    """Accuracy at each depth of the label tree, roots first (`levels`).

    `boxes`: ground-truth boxes that are not ignored, of which `detected` have a matching detection. `exact`: fraction
    of the boxes whose detection has exactly their label. Mean depths (NaN if there are none): `ground_truth_depth` of
    the labels of the boxes, `predicted_depth` of the labels of their detections.
    `labels`, `detections` and `records` are what was evaluated; in `matches` a true positive is a detection whose
    label is the label of the box, an ancestor or a descendant of it.
    """

    levels: tuple[Level, ...]
    boxes: int
    detected: int
    exact: float
    ground_truth_depth: float
    predicted_depth: float
    labels: WordTree
    matches: Matches
    detections: Sequence[Detections]
    records: Sequence[Record]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON."""
        names = ("boxes", "detected", "exact", "ground_truth_depth", "predicted_depth")
        levels = [{**asdict(level), "fractions": level.fractions} for level in self.levels]
        return {**{name: getattr(self, name) for name in names}, "levels": levels}


def depth_report(detections: Sequence[Detections], records: Sequence[Record], tree: WordTree) -> DepthReport:
    """Evaluate detections with one label per box; all labels are nodes of `tree`.

    Raises `ValueError` if the numbers of images differ.
    """
    matches = _match_any_label(detections, records)
    label = _concatenate([record.boxes.label for record in records])
    counted = ~_concatenate([record.boxes.ignore for record in records]).astype(bool)
    true_positive = matches.true_positive[0]
    predicted = np.full(len(label), -1)
    predicted[matches.ground_truth[true_positive]] = _concatenate([each.label for each in detections])[true_positive]

    own, given = ancestors_by_depth(tree, label), ancestors_by_depth(tree, predicted)
    outcome = outcomes_by_depth(own, given)
    is_related = (outcome[:, 0] == CORRECT) & (outcome != WRONG_BRANCH).all(axis=1)
    is_related_match = np.append(is_related, False)[matches.ground_truth]
    detected = predicted[counted] >= 0
    return DepthReport(
        levels=count_levels(outcome[counted], own[counted] >= 0),
        boxes=int(counted.sum()),
        detected=int(detected.sum()),
        exact=_mean(predicted[counted] == label[counted]),
        ground_truth_depth=_mean(tree.depth[label[counted]]),
        predicted_depth=_mean(tree.depth[predicted[counted][detected]]),
        labels=tree,
        matches=replace(matches, true_positive=matches.true_positive & is_related_match),
        detections=detections,
        records=records,
    )


def _match_any_label(detections: Sequence[Detections], records: Sequence[Record]) -> Matches:
    """Match detections and ground-truth boxes regardless of their labels."""
    unlabelled = [replace(each, label=np.zeros_like(each.label)) for each in detections]
    boxes = [replace(record.boxes, label=np.zeros_like(record.boxes.label)) for record in records]
    return match(unlabelled, boxes, 1, [IOU])


def _concatenate(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
