"""A detector's evaluation as text: how it was measured, table rows and summary."""

import math
from collections.abc import Sequence

from yolo9k.detection.thresholds import Thresholds
from yolo9k.evaluation.depth import DepthReport
from yolo9k.evaluation.evaluate import ClassScores, Evaluation

COLUMNS = ("label", "images", "boxes", "P", "R", "AP50", "AP50-95")
DEPTH_COLUMNS = ("depth", "boxes", "correct", "too coarse", "wrong branch", "not detected")


def protocol(scores: Evaluation, thresholds: Thresholds) -> list[str]:
    """Return how the numbers were measured: two lines, and one more for each thing that a label tree adds."""
    lines = [
        f"confidence >= {thresholds.conf:g}, NMS IoU {thresholds.iou:g}, at most {thresholds.max_detections} "
        "detections per image; a true positive has the same label and IoU >= the threshold; difficult and crowd boxes "
        "are ignored",
        "AP: area under the precision envelope, without VOC's additional pixel; P and R at confidence "
        f"{scores.curves.best_confidence:.3f}, where the mean F1 is highest; VOC: IoU >= 0.5, boxes one pixel wider "
        "(+1)",
    ]
    if scores.by_ancestry:
        lines.append(
            "label tree: boxes and detections count for their label and all its ancestors; a box is ignored for the "
            "descendants of its label; the maximum number of detections is multiplied by the classes per box"
        )
    if scores.depth is not None:
        lines.append("depth: one label per box, matched at IoU >= 0.5 regardless of labels; roots have depth 0")
    if scores.coco_package is not None:
        lines.append(f"COCO: computed by {scores.coco_package}")
    return lines


def columns(scores: Evaluation) -> Sequence[str]:
    """Return the columns of `table_rows`: with `supervision` if it is known."""
    return (*COLUMNS, "supervision") if scores.groups else COLUMNS


def table_rows(scores: Evaluation) -> list[Sequence[object]]:
    """Return the rows of the table, `all` first, then the classes with boxes; columns as in `columns`."""
    rows = scores.total, *scores.classes
    return [(*_cells(row), row.supervision or "") if scores.groups else _cells(row) for row in rows]


def _cells(row: ClassScores) -> Sequence[object]:
    numbers = row.precision, row.recall, row.ap50, row.ap50_95
    return row.name, row.images, row.boxes, *("-" if math.isnan(value) else value for value in numbers)


def depth_rows(depth: DepthReport) -> list[Sequence[object]]:
    """Return a row for each depth; columns as in `DEPTH_COLUMNS`, the last four as fractions of the boxes."""
    return [(level.depth, level.ground_truths, *level.fractions.values()) for level in depth.levels]


def summary(scores: Evaluation) -> list[str]:
    """Return the main numbers, and those of COCO, of each kind of supervision and of depth if there are any."""
    lines = [
        f"mAP50 {_format(scores.map50)}   mAP50-95 {_format(scores.map50_95)}",
        f"VOC   area {_format(scores.voc_area)}   11-point {_format(scores.voc07)}",
    ]
    if scores.coco is not None:
        entries = [f"{name} {_format(value)}" for name, value in scores.coco.items()]
        lines += [f"COCO  {'  '.join(entries[:6])}", f"      {'  '.join(entries[6:])}"]
    lines += [
        f"supervision {group.supervision}: {group.classes} labels  mAP50 {_format(group.map50)}  "
        f"mAP50-95 {_format(group.map50_95)}"
        for group in scores.groups
    ]
    if scores.depth is not None:
        lines.append(_depth_summary(scores.depth))
    return lines


def _depth_summary(depth: DepthReport) -> str:
    return (
        f"label tree: {depth.detected} of {depth.boxes} boxes detected, exact label {_format(depth.exact)}; "
        f"mean depth: ground truth {_format(depth.ground_truth_depth)}, predicted {_format(depth.predicted_depth)}"
    )


def _format(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
