"""A small data set on disk and a detector with fixed detections for it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from yolo9k.datasets.readers.records import Annotations, Record
from yolo9k.inference.detector import Decoding
from yolo9k.samples import BoxLabels, Detections
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision

LABELS = WordTree.flat(["cat", "dog", "eel"])


@dataclass
class FixedDetector:
    """A stand-in for `Detector` with fixed detections per image; it records the arguments of `stream_each`.

    `multi_label`: the detections with a multi-label decoder, if they differ.
    """

    detections: dict[str, Detections]
    labels: WordTree = LABELS
    supervision: Supervision | None = None
    multi_label: dict[str, Detections] = field(default_factory=dict)
    calls: list[dict[str, Any]] = field(default_factory=list)
    default_decoder: str = "default"
    size_wh: tuple[int, int] = (64, 64)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def multi_label_decoder(self, nodes: list[int]) -> tuple[int, ...]:
        return tuple(nodes)

    def stream_each(
        self, paths: list[Path], decodings: list[Decoding], **settings: Any
    ) -> Iterator[tuple[Detections, ...]]:
        self.calls.append({"decodings": decodings, **settings})
        for path in paths:
            yield tuple(self._detections_of(each)[path.name] for each in decodings)

    def _detections_of(self, decoding: Decoding) -> dict[str, Detections]:
        return self.multi_label if isinstance(decoding.class_decoder, tuple) and self.multi_label else self.detections


def make_detections(rows: list[tuple[list[float], float, int]]) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels), LABELS.names)


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    """Two images of 80x60 with a cat and a dog, and with a cat and a difficult dog; no eels."""
    boxes = (
        BoxLabels.of([[0, 0, 20, 20], [40, 20, 70, 50]], [0, 1]),
        BoxLabels.of([[10, 10, 40, 40], [50, 0, 79, 29]], [0, 1], [False, True]),
    )
    records = []
    for index, labelled in enumerate(boxes):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (80, 60), (90, 120, 90)).save(path)
        records.append(Record(path, (80, 60), labelled, path.stem))
    return Annotations(tuple(records), LABELS)


@pytest.fixture
def detector() -> FixedDetector:
    """Detects both cats, a false cat on the background and the difficult dog; misses the other dog."""
    return FixedDetector(
        {
            "0.png": make_detections([([0, 0, 20, 20], 0.9, 0), ([40, 0, 60, 15], 0.8, 0)]),
            "1.png": make_detections([([10, 10, 40, 40], 0.7, 0), ([50, 0, 79, 29], 0.6, 1)]),
        }
    )


IDS = ("animal", "vehicle", "dog", "cat", "terrier", "poodle")
TREE = WordTree(IDS, IDS, (-1, -1, 0, 0, 2, 2))


@pytest.fixture
def tree_annotations(annotations: Annotations) -> Annotations:
    """The same images with labels of a tree: a dog and a terrier; a cat and an ignored vehicle."""
    labels = ([2, 4], [3, 1])
    records = [
        replace(record, boxes=replace(record.boxes, label=np.array(label)))
        for record, label in zip(annotations.records, labels, strict=True)
    ]
    return Annotations(tuple(records), TREE)


@pytest.fixture
def tree_detector() -> FixedDetector:
    """One label per box: dog as poodle, terrier as dog, cat as vehicle. Multi-label: all correct except the cat."""
    dog, terrier, cat = [0, 0, 20, 20], [40, 20, 70, 50], [10, 10, 40, 40]
    return FixedDetector(
        detections={
            "0.png": make_detections([(dog, 0.9, 5), (terrier, 0.8, 2), ([0, 40, 20, 60], 0.5, 3)]),
            "1.png": make_detections([(cat, 0.7, 1)]),
        },
        multi_label={
            "0.png": make_detections([(dog, 0.9, 2), (terrier, 0.8, 2), (terrier, 0.6, 4)]),
            "1.png": make_detections([(cat, 0.2, 4)]),
        },
        labels=TREE,
        supervision=Supervision(boxes=(2,), images=(3, 4)),
    )
