"""Scores of detections on the records of a data set.

Two ways of matching are used side by side: without VOC's additional pixel for `map50`, `map50_95`, the table
and the curves, and with it for VOC's own numbers. In both, truths to ignore (difficult, crowd) never count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from yolo9k.datasets.readers.records import Record
from yolo9k.evaluation.coco import category_ids_of, ground_truth_of, image_ids_of
from yolo9k.evaluation.depth import DepthReport
from yolo9k.metrics import (
    Confusion,
    Curves,
    Matches,
    average_precision,
    coco_results,
    coco_statistics,
    confusion,
    curves,
    eleven_point,
    match,
    mean,
)
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import SUPERVISION_KINDS, SupervisionKind

THRESHOLDS = tuple((50 + 5 * i) / 100 for i in range(10))


@dataclass(frozen=True)
class ClassScores:
    """One row of the table: images with boxes that count, those boxes, P and R at the best mean F1, AP.

    `supervision`: how the model learnt the label, where that is known.
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
    """Means over the `classes` labels that were taught in one way."""

    supervision: SupervisionKind
    classes: int
    map50: float
    map50_95: float


@dataclass(frozen=True)
class Evaluation:
    """The scores of a set of detections; a mean over labels is NaN where no label has a truth that counts.

    `map50`: mean area under the precision envelope at IoU >= .5 without VOC's additional pixel, the number
    that chooses checkpoints; `map50_95`: its mean over IoU .5, .55, ... .95; `voc_area` and `voc07` (11
    points): with the pixel. `total` is the table's row of all labels, `classes` has one for each label with
    a truth that counts. `labels`, `records` and `category_ids` are what the detections were scored against.
    `confusion` is none where a box counts for several labels (`by_ancestry`); there, `depth` may say how deep into
    the label tree detections are right. `coco`: the twelve numbers of pycocotools by name, where asked for.
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
    confusion: Confusion | None
    by_ancestry: bool = False
    depth: DepthReport | None = None
    coco: dict[str, float] | None = None

    @property
    def groups(self) -> tuple[GroupScores, ...]:
        """Scores of the labels that were taught alike, where that is known."""
        return tuple(
            _group(kind, rows)
            for kind in SUPERVISION_KINDS
            if (rows := [r for r in self.classes if r.supervision == kind])
        )

    def to_dict(self) -> dict[str, Any]:
        """The numbers, ready for JSON; of the confusion matrix the cells that are not 0, largest first."""
        return {
            "map50": self.map50,
            "map50_95": self.map50_95,
            "voc07": self.voc07,
            "voc_area": self.voc_area,
            "best_f1_confidence": self.curves.best_confidence,
            "coco": self.coco,
            "all": asdict(self.total),
            "classes": [asdict(row) for row in self.classes],
            "groups": [asdict(group) for group in self.groups],
            "depth": None if self.depth is None else self.depth.to_dict(),
            "confusion": None if self.confusion is None else _confused(self.confusion, self.labels),
        }


def _confused(confusion: Confusion, labels: WordTree) -> list[dict[str, Any]]:
    names = [*(labels.names[label] for label in confusion.label), "background"]
    cells = np.argwhere(confusion.counts)
    counts = confusion.counts[tuple(cells.T)]
    rows = [(cells[i], counts[i]) for i in np.argsort(-counts, kind="stable")]
    return [
        {"truth": names[truth], "predicted": names[predicted], "count": int(count)}
        for (truth, predicted), count in rows
    ]


def _group(supervision: SupervisionKind, rows: Sequence[ClassScores]) -> GroupScores:
    return GroupScores(supervision, len(rows), _mean_of(rows, "ap50"), _mean_of(rows, "ap50_95"))


def _mean_of(rows: Sequence[ClassScores], column: str) -> float:
    return mean(np.array([getattr(row, column) for row in rows]))


def evaluate(
    detections: Sequence[Detections],
    records: Sequence[Record],
    labels: WordTree,
    *,
    supervision: Sequence[SupervisionKind] = (),
    by_ancestry: bool = False,
    coco: bool = False,
    coco_ground_truth: Mapping[str, Any] | None = None,
    category_ids: Sequence[int] | None = None,
) -> Evaluation:
    """Score detections; `detections[i]` belongs to `records[i]`, labels are those of `labels`.

    `supervision`: how the model learnt each label. `by_ancestry`: boxes and detections are repeated for each label
    that they count for, so there is no confusion matrix.
    `coco` adds COCO's numbers (half a minute for 5,000 images), against `coco_ground_truth`, the content of an
    annotation file, or else against the records. Raises `ValueError` where the numbers of images differ.
    """
    truths = [record.boxes for record in records]
    matches = match(detections, truths, len(labels), THRESHOLDS)
    voc = match(detections, truths, len(labels), THRESHOLDS[:1], voc_pixel=True)
    precisions, lines = average_precision(matches), curves(matches)
    rows = _class_rows(records, labels, lines, precisions, supervision)
    numbers = category_ids_of(labels, category_ids)
    statistics = None
    if coco:
        truth = ground_truth_of(records, labels, numbers) if coco_ground_truth is None else coco_ground_truth
        statistics = coco_statistics(truth, coco_results(detections, image_ids_of(records), numbers))
    return Evaluation(
        map50=mean(precisions[0]),
        map50_95=mean(precisions),
        voc07=mean(average_precision(voc, eleven_point)),
        voc_area=mean(average_precision(voc)),
        total=_total(records, rows),
        classes=rows,
        labels=labels,
        records=records,
        category_ids=numbers,
        matches=matches,
        curves=lines,
        confusion=None if by_ancestry else confusion(detections, truths),
        by_ancestry=by_ancestry,
        coco=statistics,
    )


def _class_rows(
    records: Sequence[Record],
    labels: WordTree,
    lines: Curves,
    precisions: np.ndarray,
    supervision: Sequence[SupervisionKind],
) -> tuple[ClassScores, ...]:
    counted = [record.boxes.label[~record.boxes.ignore] for record in records]
    boxes = _occurrences(counted, len(labels))
    images = _occurrences([np.unique(label) for label in counted], len(labels))
    return tuple(
        ClassScores(
            name=labels.names[label],
            images=int(images[label]),
            boxes=int(boxes[label]),
            precision=float(lines.precision[row, lines.best]),
            recall=float(lines.recall[row, lines.best]),
            ap50=float(precisions[0, label]),
            ap50_95=float(precisions[:, label].mean()),
            supervision=supervision[label] if supervision else None,
        )
        for row, label in enumerate(lines.label)
    )


def _occurrences(labels: Sequence[np.ndarray], count: int) -> np.ndarray:
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=count)


def _total(records: Sequence[Record], rows: Sequence[ClassScores]) -> ClassScores:
    """The row of all labels: every image, every box that counts, means of the scores."""
    return ClassScores(
        name="all",
        images=len(records),
        boxes=sum(row.boxes for row in rows),
        precision=_mean_of(rows, "precision"),
        recall=_mean_of(rows, "recall"),
        ap50=_mean_of(rows, "ap50"),
        ap50_95=_mean_of(rows, "ap50_95"),
    )
