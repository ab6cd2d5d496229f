"""An evaluation in words and table rows."""

import math
from collections.abc import Sequence

from yolo9k.evaluation.evaluate import ClassScores, Evaluation

COLUMNS = ("label", "images", "boxes", "P", "R", "AP50", "AP50-95")


def protocol(scores: Evaluation, conf: float, iou: float, max_detections: int) -> list[str]:
    """How the numbers were made: two lines."""
    return [
        f"confidence >= {conf:g}, NMS {iou:g}, at most {max_detections} detections a picture; a match has "
        "the same label and IoU >= the threshold; difficult and crowd boxes count neither way",
        "AP: area under the precision envelope, no additional pixel; P and R at confidence "
        f"{scores.curves.best_confidence:.3f}, the best mean F1; VOC: IoU >= .5, boxes one pixel wider (+1)",
    ]


def table_rows(scores: Evaluation) -> list[Sequence[object]]:
    """The table, `all` first, of the labels that have boxes; columns as in `COLUMNS`."""
    return [_cells(row) for row in (scores.total, *scores.classes)]


def _cells(row: ClassScores) -> Sequence[object]:
    numbers = row.precision, row.recall, row.ap50, row.ap50_95
    return row.name, row.images, row.boxes, *("-" if math.isnan(value) else value for value in numbers)


def summary(scores: Evaluation) -> list[str]:
    """The headline numbers, and COCO's where they were computed."""
    lines = [
        f"mAP50 {_number(scores.map50)}   mAP50-95 {_number(scores.map50_95)}",
        f"VOC   area {_number(scores.voc_area)}   11-point {_number(scores.voc07)}",
    ]
    if scores.coco is not None:
        entries = [f"{name} {_number(value)}" for name, value in scores.coco.items()]
        lines += [f"COCO  {'  '.join(entries[:6])}", f"      {'  '.join(entries[6:])}"]
    return lines


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
