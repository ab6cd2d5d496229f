"""The steps of `yolo9k demo` around training: choose its config, score its classes and draw example images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yolo9k.anchors import Anchors, cluster
from yolo9k.config import Config, JointConfig, load_config, updated
from yolo9k.config.section import STRIDE
from yolo9k.datasets.box_sizes import fitted_sizes
from yolo9k.datasets.readers.records import Annotations, Record
from yolo9k.demo.toy_joint import COARSE_CLASSES
from yolo9k.drawing import colour, draw_boxes, mosaic, save_image
from yolo9k.evaluation import ClassSelection, Evaluation, evaluate_detector
from yolo9k.images import read_image
from yolo9k.progress import Track, silent
from yolo9k.samples import Detections

if TYPE_CHECKING:
    from yolo9k.inference.detector import Detector

MAX_IMAGES = 8  # test images with drawn detections


@dataclass(frozen=True)
class SupervisionScores:
    """Mean AP50 of the labels with boxes in training, and of those with image-level labels only."""

    box_supervised: float
    weakly_supervised: float


# Upper bound from `yolo9k demo --all-boxes`: same network and steps, boxes with fine labels; see docs/RESULTS.md
ALL_BOXES_SCORES = SupervisionScores(box_supervised=0.936, weakly_supervised=0.876)


def configure(
    dataset: JointConfig, records: Sequence[Record], overrides: Sequence[str] = (), seed: int = 0
) -> tuple[Config, Anchors]:
    """Return the demo's config for a data set, and the anchors clustered from its training records.

    `overrides`: as in `load_config`. Raises `ConfigError` for an invalid override, `DataError` if anchors cannot be
    clustered from the records.
    """
    config = load_config("demo", [*overrides, f"train.seed={seed}"])
    sizes_wh = fitted_sizes(records, config.data.size, STRIDE, config.data.resize_mode)
    anchors = cluster(sizes_wh, config.model.num_anchors, seed)
    changes = {"model.anchors": tuple(map(tuple, anchors.rounded())), "data.dataset": dataset}
    return updated(config, changes), anchors


def evaluate(
    detector: "Detector", test: Annotations, track: Track = silent
) -> tuple[Evaluation, list[Detections], SupervisionScores]:
    """Evaluate all nodes of the tree on the test images; return the scores, the detections and the means."""
    tree = test.labels
    scores, detections = evaluate_detector(
        detector, test, selection=ClassSelection(only=range(len(tree))), descent=detector.default_decoder, track=track
    )
    ap50 = {row.name: row.ap50 for row in scores.classes}
    coarse = [ap50[name] for name in COARSE_CLASSES]
    others = [value for name, value in ap50.items() if name not in COARSE_CLASSES]
    return scores, detections, SupervisionScores(float(np.mean(coarse)), float(np.mean(others)))


def write_detections(detector: "Detector", records: Sequence[Record], folder: Path) -> list[Path]:
    """Detect on up to `MAX_IMAGES` images; write a mosaic and each image with its boxes, and return their paths.

    Raises `MachineError` if the folder cannot be written.
    """
    chosen = [records[i] for i in np.linspace(0, len(records) - 1, min(MAX_IMAGES, len(records))).astype(int)]
    drawn = [_draw_detections(detector, record.path) for record in chosen]
    paths = [folder / record.path.with_suffix(".png").name for record in chosen]
    overview = folder / "detections.png"
    save_image(overview, mosaic(drawn, columns=4, cell_wh=(320, 320)))
    for path, image in zip(paths, drawn, strict=True):
        save_image(path, image)
    return [overview, *paths]


def _draw_detections(detector: "Detector", path: Path) -> np.ndarray:
    image = read_image(path)
    detections = detector(image)
    texts = [f"{name} {score:.2f}" for _, score, name in detections]
    return draw_boxes(image, detections.xyxy, texts, [colour(int(label)) for label in detections.label])
