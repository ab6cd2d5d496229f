"""Compute the scores of given detections: mAP, VOC's AP, per-class scores, curves and confusion matrix.

Detections are matched twice: without VOC's additional pixel for `map50`, `map50_95`, the table and the curves, and with
it for VOC's own metrics. Boxes to ignore (difficult, crowd) never count.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from yolo9k.datasets.readers.records import Record
from yolo9k.evaluation.coco import choose_category_ids
from yolo9k.evaluation.depth import DepthReport
from yolo9k.metrics import (
    ConfusionMatrix,
    Curves,
    Matches,
    average_precision,
    confusion_matrix,
    curves,
    eleven_point,
    match,
    mean,
)
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import SUPERVISION_KINDS, SupervisionKind

IOU_THRESHOLDS = tuple((50 + 5 * i) / 100 for i in range(10))


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class: a row of the table.

    `images` with boxes of the class that are not ignored, those `boxes`, `precision` and `recall` at the confidence
    with the best mean F1, average precision. `supervision`: how the model's label was trained, `None`: unknown.
    """

    name: str
    images: int
    boxes: int
    precision: float
    recall: float
    ap50: float
    ap50_95: float
    supervision: SupervisionKind | None = None


@dataclass(frozen=True)
class GroupScores:
    """Mean scores over the `classes` classes with one kind of supervision."""

    supervision: SupervisionKind
    classes: int
    map50: float
    map50_95: float


@dataclass(frozen=True)
class Evaluation:
    """The scores of detections; a mean over classes is NaN if no class has a box that counts.

    `map50`: mean area under the precision envelope at IoU >= 0.5 without VOC's additional pixel, the metric that
    selects checkpoints; `map50_95`: its mean over IoU 0.5, 0.55, ... 0.95; `voc_area` and `voc07` (11 points): with
    the pixel. `total`: the table's row of all classes; `classes`: a row for each class that has a box that counts.
    `labels`, `records` and `category_ids` are what the detections were evaluated against. `by_ancestry`: a box counts
    for several classes; then `confusion` is `None`. `depth`: accuracy by depth in the label tree, `None`: not
    evaluated. `coco`: COCO's twelve metrics by name, `None`: not evaluated (see `add_coco_metrics`);
    `coco_package`: what computed them.
    """

    map50: float
    map50_95: float
    voc07: float
    voc_area: float
    total: ClassScores
    classes: tuple[ClassScores, ...]
    labels: WordTree
    records: Sequence[Record]
    category_ids: Sequence[int]
    matches: Matches
    curves: Curves
    confusion: ConfusionMatrix | None
    by_ancestry: bool = False
    depth: DepthReport | None = None
    coco: dict[str, float] | None = None
    coco_package: str | None = None

    @property
    def groups(self) -> tuple[GroupScores, ...]:
        """Return the scores by supervision, if it is known."""
        rows_by_kind = {kind: [row for row in self.classes if row.supervision == kind] for kind in SUPERVISION_KINDS}
        return tuple(
            GroupScores(kind, len(rows), _mean_of(rows, "ap50"), _mean_of(rows, "ap50_95"))
            for kind, rows in rows_by_kind.items()
            if rows
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON; of the confusion matrix the cells above 0, largest first."""
        return {
            "map50": self.map50,
            "map50_95": self.map50_95,
            "voc07": self.voc07,
            "voc_area": self.voc_area,
            "best_f1_confidence": self.curves.best_confidence,
            "coco": self.coco,
            "coco_package": self.coco_package,
            "all": asdict(self.total),
            "classes": [asdict(row) for row in self.classes],
            "groups": [asdict(group) for group in self.groups],
            "depth": None if self.depth is None else self.depth.to_dict(),
            "confusion": None if self.confusion is None else _confusion_cells(self.confusion, self.labels),
        }


def _confusion_cells(confusion: ConfusionMatrix, labels: WordTree) -> list[dict[str, Any]]:
    names = [*(labels.names[label] for label in confusion.label), "background"]
    cells = np.argwhere(confusion.counts)
    counts = confusion.counts[tuple(cells.T)]
    order = np.argsort(-counts, kind="stable")
    return [
        {"ground_truth": names[row], "predicted": names[column], "count": int(count)}
        for (row, column), count in zip(cells[order], counts[order], strict=True)
    ]


def _mean_of(rows: Sequence[ClassScores], column: str) -> float:
    return mean(np.array([getattr(row, column) for row in rows]))


def evaluate(
    detections: Sequence[Detections],
    records: Sequence[Record],
    labels: WordTree,
    *,
    supervision: Sequence[SupervisionKind] = (),
    by_ancestry: bool = False,
    category_ids: Sequence[int] | None = None,
) -> Evaluation:
    """Evaluate detections; `detections[i]` belongs to `records[i]`, both with labels of `labels`.

    `supervision`: how each label was trained, empty: unknown. `by_ancestry`: boxes and detections are repeated for
    each label that they count for, so there is no confusion matrix. `category_ids`: COCO's ids of the labels
    (`None`: 1, 2, ...). Raises `ValueError` if the numbers of images differ.
    """
    boxes = [record.boxes for record in records]
    matches = match(detections, boxes, len(labels), IOU_THRESHOLDS)
    voc_matches = match(detections, boxes, len(labels), IOU_THRESHOLDS[:1], voc_pixel=True)
    ap, class_curves = average_precision(matches), curves(matches)
    rows = _class_rows(records, labels, class_curves, ap, supervision)
    return Evaluation(
        map50=mean(ap[0]),
        map50_95=mean(ap),
        voc07=mean(average_precision(voc_matches, eleven_point)),
        voc_area=mean(average_precision(voc_matches)),
        total=_total_row(records, rows),
        classes=rows,
        labels=labels,
        records=records,
        category_ids=choose_category_ids(labels, category_ids),
        matches=matches,
        curves=class_curves,
        confusion=None if by_ancestry else confusion_matrix(detections, boxes),
        by_ancestry=by_ancestry,
    )


def _class_rows(
    records: Sequence[Record],
    labels: WordTree,
    class_curves: Curves,
    ap: np.ndarray,
    supervision: Sequence[SupervisionKind],
) -> tuple[ClassScores, ...]:
    box_labels = [record.boxes.label[~record.boxes.ignore] for record in records]
    boxes = _count_labels(box_labels, len(labels))
    images = _count_labels([np.unique(label) for label in box_labels], len(labels))
    return tuple(
        ClassScores(
            name=labels.names[label],
            images=int(images[label]),
            boxes=int(boxes[label]),
            precision=float(class_curves.precision[row, class_curves.best]),
            recall=float(class_curves.recall[row, class_curves.best]),
            ap50=float(ap[0, label]),
            ap50_95=float(ap[:, label].mean()),
            supervision=supervision[label] if supervision else None,
        )
        for row, label in enumerate(class_curves.label)
    )


def _count_labels(labels: Sequence[np.ndarray], num_labels: int) -> np.ndarray:
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=num_labels)


def _total_row(records: Sequence[Record], rows: Sequence[ClassScores]) -> ClassScores:
    """Return the row of all classes: every image, every box that counts, means of the scores."""
    return ClassScores(
        name="all",
        images=len(records),
        boxes=sum(row.boxes for row in rows),
        precision=_mean_of(rows, "precision"),
        recall=_mean_of(rows, "recall"),
        ap50=_mean_of(rows, "ap50"),
        ap50_95=_mean_of(rows, "ap50_95"),
    )
