"""An evaluation in words and table rows."""

import math
from collections.abc import Sequence

from yolo9k.detection.thresholds import Thresholds
from yolo9k.evaluation.depth import DepthReport
from yolo9k.evaluation.evaluate import ClassScores, Evaluation

COLUMNS = ("label", "images", "boxes", "P", "R", "AP50", "AP50-95")
DEPTH_COLUMNS = ("depth", "boxes", "right", "too coarse", "wrong branch", "not found")


def protocol(scores: Evaluation, thresholds: Thresholds) -> list[str]:
    """How the numbers were made: two lines, and one more for each thing that a tree adds."""
    lines = [
        f"confidence >= {thresholds.conf:g}, NMS IoU {thresholds.iou:g}, at most {thresholds.max_detections} "
        "detections per image; a true positive has the same label and IoU >= the threshold; difficult and crowd boxes "
        "are ignored",
        "AP: area under the precision envelope, no additional pixel; P and R at confidence "
        f"{scores.curves.best_confidence:.3f}, the best mean F1; VOC: IoU >= .5, boxes one pixel wider (+1)",
    ]
    if scores.by_ancestry:
        lines.append(
            "label tree: boxes and detections count for their label and for every label above it; a box with a coarser "
            "label counts neither way; the limit of detections is multiplied by the labels that one box can have"
        )
    if scores.depth is not None:
        lines.append("depth: one label a box, matched at IoU >= .5 whatever the labels; roots have depth 0")
    return lines


def columns(scores: Evaluation) -> Sequence[str]:
    """The columns of `table_rows`: one more where it is known how the model learnt its labels."""
    return (*COLUMNS, "supervision") if scores.groups else COLUMNS


def table_rows(scores: Evaluation) -> list[Sequence[object]]:
    """The table, `all` first, of the labels that have boxes; columns as in `columns`."""
    rows = scores.total, *scores.classes
    return [(*_cells(row), row.supervision or "") if scores.groups else _cells(row) for row in rows]


def _cells(row: ClassScores) -> Sequence[object]:
    numbers = row.precision, row.recall, row.ap50, row.ap50_95
    return row.name, row.images, row.boxes, *("-" if math.isnan(value) else value for value in numbers)


def depth_rows(depth: DepthReport) -> list[Sequence[object]]:
    """A row for each level of the tree; columns as in `DEPTH_COLUMNS`, the last four as shares of the boxes."""
    return [(level.depth, level.truths, *level.shares.values()) for level in depth.levels]


def summary(scores: Evaluation) -> list[str]:
    """The headline numbers, COCO's where they were computed, those of groups and of depth where there are some."""
    lines = [
        f"mAP50 {_number(scores.map50)}   mAP50-95 {_number(scores.map50_95)}",
        f"VOC   area {_number(scores.voc_area)}   11-point {_number(scores.voc07)}",
    ]
    if scores.coco is not None:
        entries = [f"{name} {_number(value)}" for name, value in scores.coco.items()]
        lines += [f"COCO  {'  '.join(entries[:6])}", f"      {'  '.join(entries[6:])}"]
    lines += [
        f"{group.supervision}: {group.classes} labels  mAP50 {_number(group.map50)}  mAP50-95 {_number(group.map50_95)}"
        for group in scores.groups
    ]
    if scores.depth is not None:
        lines.append(_depths(scores.depth))
    return lines


def _depths(depth: DepthReport) -> str:
    return (
        f"depth {_number(depth.truth_depth)} of the labels, {_number(depth.reached_depth)} reached; "
        f"found {depth.found} of {depth.truths} boxes, with the exact label {_number(depth.exact)}"
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
