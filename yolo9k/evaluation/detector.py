"""A detector over a data set: its scores, and what it found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from yolo9k.config.schema import EvalConfig
from yolo9k.datasets.readers.records import Annotations
from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import DataError
from yolo9k.evaluation.class_selection import choose_classes
from yolo9k.evaluation.evaluate import Evaluation
from yolo9k.evaluation.tree import evaluate_tree
from yolo9k.progress import Track, silent
from yolo9k.samples import Detections
from yolo9k.wordtree.supervision import Supervision

if TYPE_CHECKING:
    from yolo9k.detection.class_decoder import ClassDecoder
    from yolo9k.evaluation.scored_classes import ScoredClasses
    from yolo9k.inference.detector import Detector

DEFAULTS = EvalConfig()
DEFAULT_THRESHOLDS = Thresholds.of(DEFAULTS)


def evaluate_detector(
    detector: "Detector",
    annotations: Annotations,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    *,
    batch: int = DEFAULTS.batch,
    nodes: Sequence[int] | None = None,
    only: Sequence[int] | None = None,
    by_ancestry: bool | None = None,
    supervision: Supervision | None = None,
    depth: bool = True,
    descent: "ClassDecoder | None" = None,
    coco: bool = False,
    coco_ground_truth: Mapping[str, Any] | None = None,
    on_bad: Callable[[DataError], None] | None = None,
    track: Track = silent,
) -> tuple[Evaluation, list[Detections]]:
    """Run a detector over the images and score what it finds; detections have the labels of the scores.

    `nodes`, `only` and `by_ancestry` choose the classes (see `choose_classes`); `supervision`, `coco` and
    `coco_ground_truth` as for `evaluate_tree`. Over a tree the images are gone through a second time for the `depth`
    report, by `descent` or else as the detector usually names boxes.
    `thresholds.max_detections` limits the boxes of an image, each of which may have several classes.
    Raises `ConfigError` where the detector lacks labels of the data set, `DataError` for a bad image unless `on_bad`
    takes it: then nothing was found in that image.
    """
    classes = choose_classes(detector.labels, annotations, nodes=nodes, only=only, by_ancestry=by_ancestry)
    paths = [record.path for record in annotations.records]

    taking: dict[str, Any] = {} if on_bad is None else {"on_bad": on_bad}

    def find(title: str, max_detections: int, **options: Any) -> list[Detections]:
        limits = replace(thresholds, max_detections=max_detections)
        stream = detector.stream(paths, thresholds=limits, batch=batch, **taking, **options)
        return list(track(stream, title, total=len(paths)))

    max_rows = thresholds.max_detections * classes.max_classes_per_box
    scored = find("Evaluating", max_rows, **_class_decoder(detector, classes))
    descended = None
    if depth and not detector.labels.is_flat:
        descended = find("Descending the tree", thresholds.max_detections, class_decoder=descent)
    return evaluate_tree(
        scored,
        descended,
        annotations.records,
        classes,
        supervision=supervision or detector.supervision,
        coco=coco,
        coco_ground_truth=coco_ground_truth,
    )


def _class_decoder(detector: "Detector", classes: "ScoredClasses") -> dict[str, Any]:
    """Nothing where the classes are all labels of a flat set, which is how a detector names boxes anyway."""
    if detector.labels.is_flat and len(classes.asked) == len(detector.labels):
        return {}
    return {"class_decoder": detector.multi_label_decoder(classes.asked)}
