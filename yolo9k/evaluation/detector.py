"""Run a detector on the images of a data set, then evaluate its detections (`evaluate.py`, `tree.py`)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from yolo9k import processes
from yolo9k.config.schema import EvalConfig
from yolo9k.datasets.readers.records import Annotations
from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import DataError
from yolo9k.evaluation.class_selection import ALL_CLASSES, ClassSelection, select_classes
from yolo9k.evaluation.evaluate import Evaluation
from yolo9k.evaluation.tree import evaluate_tree
from yolo9k.inference.detector import Decoding
from yolo9k.inference.sources import stream_results
from yolo9k.progress import Track, silent
from yolo9k.samples import Detections

if TYPE_CHECKING:
    from yolo9k.detection.class_decoder import ClassDecoder
    from yolo9k.evaluation.eval_classes import EvalClasses
    from yolo9k.inference.detector import Detector
    from yolo9k.inference.sources import ImageInput

DEFAULTS = EvalConfig()
DEFAULT_THRESHOLDS = Thresholds.of(DEFAULTS)


def evaluate_detector(
    detector: "Detector",
    annotations: Annotations,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    *,
    batch: int = DEFAULTS.batch,
    selection: ClassSelection = ALL_CLASSES,
    descent: "ClassDecoder | None" = None,
    on_unreadable: Callable[[DataError], None] | None = None,
    track: Track = silent,
) -> tuple[Evaluation, list[Detections]]:
    """Run a detector on the images of a data set; return the scores, and the detections with the labels of the scores.

    `thresholds` default to those of `EvalConfig`; its `max_detections` limits boxes, each of which may have several
    classes. `batch`: batch size, lowered if the memory is too small. `descent`: decoder for the depth report, with a
    label tree; `None`: no depth report. Raises `ConfigError` if the detector lacks labels of the data set, and
    `DataError` as `EvalClasses.check_size` and for an unreadable image. If `on_unreadable` is given, it receives that
    last error, and the image has no detections. If `track` ends early, the scores are those of the images before.
    COCO's metrics: see `add_coco_metrics`.
    """
    classes = select_classes(detector.labels, annotations, selection)
    classes.check_size(annotations.records)
    paths = [record.path for record in annotations.records]

    max_rows = thresholds.max_detections * classes.max_classes_per_box
    decodings = [Decoding(replace(thresholds, max_detections=max_rows), _multi_label_decoder(detector, classes))]
    if descent is not None and not detector.labels.is_flat:
        decodings.append(Decoding(thresholds, descent))
    multi_label, *others = detect_together(
        detector, paths, decodings, title="Evaluating", batch=batch, track=track, on_unreadable=on_unreadable
    )
    descended = others[0] if others else None
    records = annotations.records[: len(multi_label)]
    return evaluate_tree(multi_label, descended, records, classes, detector.supervision)


def detect_together(
    detector: "Detector",
    images: "Sequence[ImageInput]",
    decodings: Sequence[Decoding],
    *,
    title: str,
    batch: int,
    track: Track = silent,
    on_unreadable: Callable[[DataError], None] | None = None,
) -> list[list[Detections]]:
    """Run a detector on images, which several processes share out; return the detections of all, in each process.

    Returns for each decoding the detections of all images, in order. Errors are those of `Detector.stream`;
    `on_unreadable` receives the errors of all processes.
    """

    def detect_share() -> list[tuple[tuple[Detections, ...], DataError | None]]:
        share, options = processes.share(images), {"decodings": decodings, "batch": batch}
        results = []
        for detections, error in stream_results(detector.stream_each, share, track, title, count=_count, **options):
            if error is not None and on_unreadable is None:
                raise error
            results.append((detections, error))
        return results

    results = processes.collect(detect_share)
    for _, error in results:
        if error is not None and on_unreadable is not None:
            on_unreadable(error)
    return [[detections[index] for detections, _ in results] for index in range(len(decodings))]


def _count(detections: tuple[Detections, ...]) -> int:
    return sum(map(len, detections))


def _multi_label_decoder(detector: "Detector", classes: "EvalClasses") -> "ClassDecoder | None":
    """Return the decoder of exactly these classes; `None` if it is the default."""
    if detector.labels.is_flat and len(classes.unique_nodes) == len(detector.labels):
        return None
    return detector.multi_label_decoder(classes.unique_nodes)
