"""The steps of the demo that are its own; the others are those that every user takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from yolo9k.anchors import Anchors, cluster
from yolo9k.config import Config, JointConfig, load_config, updated
from yolo9k.config.section import STRIDE
from yolo9k.datasets.box_sizes import letterboxed_sizes
from yolo9k.datasets.readers.records import Annotations, Record
from yolo9k.demo.toy_joint import COARSE, ToyJoint, write_toy_joint
from yolo9k.drawing import colour, draw_boxes, mosaic, save_image
from yolo9k.evaluation import Evaluation, evaluate_detector
from yolo9k.images import read_image
from yolo9k.progress import Track, silent
from yolo9k.samples import Detections

if TYPE_CHECKING:
    from yolo9k.inference.detector import Detector

SHOWN = 8  # images of the mosaic, of which each is written by itself, too


@dataclass(frozen=True)
class Story:
    """Mean AP50 of the labels that had boxes in training, and of those that images of single things told alone."""

    box_supervised: float
    weakly_supervised: float


# `yolo9k demo --all-boxes`: the same network and steps, trained on boxes labelled by kind; see docs/RESULTS.md
ALL_BOXES = Story(box_supervised=0.936, weakly_supervised=0.876)


def make_dataset(folder: Path, seed: int = 0, *, all_boxes: bool = False, track: Track = silent) -> ToyJoint:
    """Draw the demo's images into `folder`; `all_boxes`: only those with boxes, labelled by kind."""
    return write_toy_joint(folder, seed=seed, all_boxes=all_boxes, track=track)


def configure(
    dataset: JointConfig, records: Sequence[Record], overrides: Sequence[str] = (), seed: int = 0
) -> tuple[Config, Anchors]:
    """The demo's config for a data set, with anchors clustered from its training records.

    `overrides` as in `load_config`. Raises `ConfigError`, `DataError`.
    """
    config = load_config("demo", [*overrides, f"train.seed={seed}"])
    sizes_wh = letterboxed_sizes(records, config.data.size, STRIDE)
    anchors = cluster(sizes_wh, config.model.num_anchors, seed)
    changes = {"model.anchors": tuple(map(tuple, anchors.rounded())), "data.dataset": dataset}
    return updated(config, changes), anchors


def score(detector: "Detector", test: Annotations, track: Track = silent) -> tuple[Evaluation, list[Detections], Story]:
    """Score all nodes of the tree on the test images: the scores, the detections, and the two numbers that count."""
    tree = test.labels
    scores, found = evaluate_detector(detector, test, only=range(len(tree)), track=track)
    precision = {row.name: row.ap50 for row in scores.classes}
    coarse = [precision[name] for name in COARSE]
    others = [value for name, value in precision.items() if name not in COARSE]
    return scores, found, Story(float(np.mean(coarse)), float(np.mean(others)))


def detect_some(detector: "Detector", records: Sequence[Record], folder: Path) -> list[Path]:
    """Detect on a few of the images and write them with their boxes; first comes a mosaic of all.

    Raises `MachineError` where the folder cannot be written.
    """
    chosen = [records[i] for i in np.linspace(0, len(records) - 1, min(SHOWN, len(records))).astype(int)]
    drawn = [_with_detections(detector, record.path) for record in chosen]
    paths = [folder / record.path.with_suffix(".png").name for record in chosen]
    overview = folder / "detections.png"
    save_image(overview, mosaic(drawn, columns=4, cell_wh=(320, 320)))
    for path, image in zip(paths, drawn, strict=True):
        save_image(path, image)
    return [overview, *paths]


def _with_detections(detector: "Detector", path: Path) -> np.ndarray:
    image = read_image(path)
    found = detector(image)
    texts = [f"{name} {score:.2f}" for _, score, name in found]
    return draw_boxes(image, found.xyxy, texts, [colour(int(label)) for label in found.label])
