"""Run a detector on the images of a data set, then evaluate its detections (`evaluate.py`, `tree.py`)."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from yolo9k.config.schema import EvalConfig
from yolo9k.datasets.readers.records import Annotations
from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import DataError, MachineError
from yolo9k.evaluation.class_selection import ALL_CLASSES, ClassSelection, select_classes
from yolo9k.evaluation.evaluate import Evaluation
from yolo9k.evaluation.tree import evaluate_tree
from yolo9k.hardware import free_memory
from yolo9k.progress import Track, silent
from yolo9k.samples import Detections

if TYPE_CHECKING:
    from yolo9k.detection.class_decoder import ClassDecoder
    from yolo9k.evaluation.eval_classes import EvalClasses
    from yolo9k.inference.detector import Detector

log = logging.getLogger(__name__)

BYTES_PER_PIXEL = 300  # of the input, at inference: YOLOv2's first maps have 32 channels at full resolution
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
    classes. `batch`: batch size, lowered if the memory is too small (`fitting_batch`). `descent`: decoder of a second
    pass over the images for the depth report, with a label tree; `None`: no depth report. Raises `ConfigError` if the
    detector lacks labels of the data set, and `DataError` for an unreadable image. If `on_unreadable` is given, it
    receives that error, and the image has no detections. COCO's metrics: see `add_coco_metrics`.
    """
    classes = select_classes(detector.labels, annotations, selection)
    paths = [record.path for record in annotations.records]
    optional: dict[str, Any] = {} if on_unreadable is None else {"on_unreadable": on_unreadable}

    batch = fitting_batch(batch, detector.size_wh, free_memory() if detector.device.type == "cpu" else None)

    def detect(title: str, max_detections: int, **decoder: Any) -> list[Detections]:
        limited = replace(thresholds, max_detections=max_detections)
        stream = detector.stream(paths, thresholds=limited, batch=batch, **optional, **decoder)
        return list(track(stream, title, total=len(paths)))

    max_rows = thresholds.max_detections * classes.max_classes_per_box
    multi_label = detect("Evaluating", max_rows, **_multi_label_decoder(detector, classes))
    descended = None
    if descent is not None and not detector.labels.is_flat:
        descended = detect("Descending the tree", thresholds.max_detections, class_decoder=descent)
    return evaluate_tree(multi_label, descended, annotations.records, classes, detector.supervision)


def fitting_batch(batch: int, size_wh: tuple[int, int], free: int | None) -> int:
    """Return the batch size, lowered with a warning to what `free` bytes of memory bear; `None`: unknown, unchanged.

    Raises `MachineError` if one image of `size_wh` pixels is too large.
    """
    if free is None:
        return batch
    w, h = size_wh
    needed = w * h * BYTES_PER_PIXEL
    if needed > free * 4 // 5:
        raise MachineError(
            f"size {w}x{h}: one image needs about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; "
            "use a smaller size"
        )
    fitting = min(batch, max(1, free * 4 // 5 // needed))  # what else runs needs memory, too
    if fitting < batch:
        log.warning("batch %d instead of %d: %dx%d images need %.1f GB each", fitting, batch, w, h, needed / 1e9)
    return fitting


def _multi_label_decoder(detector: "Detector", classes: "EvalClasses") -> dict[str, Any]:
    """Return the decoder argument of `Detector.stream`; none if the default decodes exactly these classes."""
    if detector.labels.is_flat and len(classes.unique_nodes) == len(detector.labels):
        return {}
    return {"class_decoder": detector.multi_label_decoder(classes.unique_nodes)}
