"""How deep into a label tree detections are right, for detectors that give each box one label.

Each box that counts is looked for by the detections of any label, with VOC's rule at IoU >= .5. The label of the
detection that found it is compared with its own by the rules of `metrics.depth`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from yolo9k.datasets.readers.records import Record
from yolo9k.metrics import Matches, match
from yolo9k.metrics.depth import RIGHT, WRONG_BRANCH, Level, fates, levels, lineages
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

IOU = 0.5


@dataclass(frozen=True)
class DepthReport:
    """The levels from the roots on, of `truths` boxes that count, of which `found` were found.

    `exact`: the share of truths whose detection has just their label. Mean depths, NaN where there is nothing:
    `truth_depth` of the labels, `reached_depth` of the detections that found a box.
    `labels`, `detections` and `records` are what was measured; in `matches` a hit is a detection whose label lies
    on the way to that of the box, or below it.
    """

    levels: tuple[Level, ...]
    truths: int
    found: int
    exact: float
    truth_depth: float
    reached_depth: float
    labels: WordTree
    matches: Matches
    detections: Sequence[Detections]
    records: Sequence[Record]

    def to_dict(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        names = ("truths", "found", "exact", "truth_depth", "reached_depth")
        levels = [{**asdict(level), "shares": level.shares} for level in self.levels]
        return {**{name: getattr(self, name) for name in names}, "levels": levels}


def depth_report(detections: Sequence[Detections], records: Sequence[Record], tree: WordTree) -> DepthReport:
    """Measure detections with one label a box; all labels are nodes of `tree`.

    Raises `ValueError` where the numbers of images differ.
    """
    matches = _match_boxes(detections, records)
    truth = _join([record.boxes.label for record in records])
    counts = ~_join([record.boxes.ignore for record in records]).astype(bool)
    named = _join([found.label for found in detections])
    hit = matches.hit[0]
    predicted = np.full(len(truth), -1)
    predicted[matches.truth[hit]] = named[hit]

    own, reached = lineages(tree, truth), lineages(tree, predicted)
    fate = fates(own, reached)
    related = (fate[:, 0] == RIGHT) & (fate != WRONG_BRANCH).all(axis=1)
    found = predicted[counts] >= 0
    return DepthReport(
        levels=levels(fate[counts], own[counts] >= 0),
        truths=int(counts.sum()),
        found=int(found.sum()),
        exact=_mean(predicted[counts] == truth[counts]),
        truth_depth=_mean(tree.depth[truth[counts]]),
        reached_depth=_mean(tree.depth[predicted[counts][found]]),
        labels=tree,
        matches=replace(matches, hit=matches.hit & np.append(related, False)[matches.truth]),
        detections=detections,
        records=records,
    )


def _match_boxes(detections: Sequence[Detections], records: Sequence[Record]) -> Matches:
    """Detections and truths of one image, whatever their labels."""
    found = [replace(each, label=np.zeros_like(each.label)) for each in detections]
    truths = [replace(record.boxes, label=np.zeros_like(record.boxes.label)) for record in records]
    return match(found, truths, 1, [IOU])


def _join(parts: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
