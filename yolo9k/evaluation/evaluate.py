"""Scores of detections, or of a detector, on the records of a data set.

Two ways of matching are used side by side: without VOC's additional pixel for `map50`, `map50_95`, the table
and the curves, and with it for VOC's own numbers. In both, truths to ignore (difficult, crowd) never count.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo9k.config.schema import EvalConfig
from yolo9k.datasets.records import Annotations, Record
from yolo9k.errors import ConfigError
from yolo9k.evaluation.coco import category_ids_of, image_ids_of, truth_of
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
from yolo9k.progress import Track, silent
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.tree import describe

if TYPE_CHECKING:
    from yolo9k.inference.detector import Detector

DEFAULTS = EvalConfig()
THRESHOLDS = tuple((50 + 5 * i) / 100 for i in range(10))


@dataclass(frozen=True)
class ClassScores:
    """One row of the table: pictures with boxes that count, those boxes, P and R at the best mean F1, AP."""

    name: str
    images: int
    boxes: int
    precision: float
    recall: float
    ap50: float
    ap50_95: float


@dataclass(frozen=True)
class Evaluation:
    """The scores of a set of detections; a mean over labels is NaN where no label has a truth that counts.

    `map50`: mean area under the precision envelope at IoU >= .5 without VOC's additional pixel, the number
    that chooses checkpoints; `map50_95`: its mean over IoU .5, .55, ... .95; `voc_area` and `voc07` (11
    points): with the pixel. `total` is the table's row of all labels, `classes` has one for each label with
    a truth that counts. `coco`: the twelve numbers of pycocotools by name, where asked for.
    """

    map50: float
    map50_95: float
    voc07: float
    voc_area: float
    total: ClassScores
    classes: tuple[ClassScores, ...]
    labels: WordTree
    matches: Matches
    curves: Curves
    confusion: Confusion
    coco: dict[str, float] | None = None

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
            "confusion": self._confused(),
        }

    def _confused(self) -> list[dict[str, Any]]:
        names = [*(self.labels.names[label] for label in self.confusion.label), "background"]
        cells = np.argwhere(self.confusion.counts)
        counts = self.confusion.counts[tuple(cells.T)]
        rows = [(cells[i], counts[i]) for i in np.argsort(-counts, kind="stable")]
        return [
            {"truth": names[truth], "predicted": names[predicted], "count": int(count)}
            for (truth, predicted), count in rows
        ]


def evaluate(
    detections: Sequence[Detections],
    records: Sequence[Record],
    labels: WordTree,
    *,
    coco: bool = False,
    coco_truth: Mapping[str, Any] | None = None,
    category_ids: Sequence[int] | None = None,
) -> Evaluation:
    """Score detections; `detections[i]` belongs to `records[i]`, labels are nodes of `labels`.

    `coco` adds COCO's numbers (half a minute for 5,000 pictures), against `coco_truth`, the content of an
    annotation file, or else against the records. Raises `ValueError` where the numbers of pictures differ.
    """
    truths = [record.boxes for record in records]
    matches = match(detections, truths, len(labels), THRESHOLDS)
    voc = match(detections, truths, len(labels), THRESHOLDS[:1], voc_pixel=True)
    precisions, lines = average_precision(matches), curves(matches)
    rows = _class_rows(records, labels, lines, precisions)
    statistics = None
    if coco:
        numbers = category_ids_of(labels, category_ids)
        truth = truth_of(records, labels, numbers) if coco_truth is None else coco_truth
        statistics = coco_statistics(truth, coco_results(detections, image_ids_of(records), numbers))
    return Evaluation(
        map50=mean(precisions[0]),
        map50_95=mean(precisions),
        voc07=mean(average_precision(voc, eleven_point)),
        voc_area=mean(average_precision(voc)),
        total=_total(records, rows),
        classes=rows,
        labels=labels,
        matches=matches,
        curves=lines,
        confusion=confusion(detections, truths),
        coco=statistics,
    )


def _class_rows(
    records: Sequence[Record], labels: WordTree, lines: Curves, precisions: np.ndarray
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
        )
        for row, label in enumerate(lines.label)
    )


def _occurrences(labels: Sequence[np.ndarray], count: int) -> np.ndarray:
    return np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=count)


def _total(records: Sequence[Record], rows: Sequence[ClassScores]) -> ClassScores:
    """The row of all labels: every picture, every box that counts, means of the scores."""
    columns = ("precision", "recall", "ap50", "ap50_95")
    means = {column: mean(np.array([getattr(row, column) for row in rows])) for column in columns}
    return ClassScores("all", len(records), sum(row.boxes for row in rows), **means)


def evaluate_detector(
    detector: "Detector",
    annotations: Annotations,
    *,
    conf: float = DEFAULTS.conf,
    iou: float = DEFAULTS.iou,
    max_detections: int = DEFAULTS.max_detections,
    batch: int = DEFAULTS.batch,
    coco: bool = False,
    coco_truth: Mapping[str, Any] | None = None,
    track: Track = silent,
) -> tuple[Evaluation, list[Detections]]:
    """Run a detector over the pictures and score what it finds; detections have the data set's labels.

    `coco` and `coco_truth` as for `evaluate`.
    Raises `ConfigError` where the labels of detector and data set differ, `DataError` for a bad picture.
    """
    settings = {"conf": conf, "iou": iou, "max_detections": max_detections, "batch": batch}
    detections = list(_detect(detector, annotations, track, **settings))
    scores = evaluate(
        detections,
        annotations.records,
        annotations.labels,
        coco=coco,
        coco_truth=coco_truth,
        category_ids=annotations.category_ids,
    )
    return scores, detections


def _detect(detector: "Detector", annotations: Annotations, track: Track, **settings: Any) -> Iterator[Detections]:
    """The detections of every record, in the data set's labels."""
    numbers = label_numbers(detector.labels, annotations.labels)
    paths = [record.path for record in annotations.records]
    for found in track(detector.stream(paths, **settings), "Evaluating", total=len(paths)):
        yield replace(found, label=numbers[found.label], names=annotations.labels.names)


def label_numbers(model: WordTree, data: WordTree) -> np.ndarray:
    """(K,) the number in the data set of each of the model's labels.

    The same labels in another order are matched by their ids. Raises `ConfigError` naming those that differ.
    """
    if set(model.ids) == set(data.ids):
        numbers = {key: number for number, key in enumerate(data.ids)}
        return np.array([numbers[key] for key in model.ids])
    differences = [
        f"only the {owner} has {describe([key for key in own.ids if key not in set(other.ids)])}"
        for owner, own, other in (("model", model, data), ("data set", data, model))
        if set(own.ids) - set(other.ids)
    ]
    raise ConfigError(f"the labels of model and data set differ: {'; '.join(differences)}")
