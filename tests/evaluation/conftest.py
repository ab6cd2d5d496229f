"""A small data set on disk and a detector that knows it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from yolo9k.datasets.records import Annotations, Record
from yolo9k.samples import BoxLabels, Detections
from yolo9k.wordtree import WordTree

LABELS = WordTree.flat(["cat", "dog", "eel"])


@dataclass
class FixedDetector:
    """Gives detections by the name of the picture, and remembers how it was called."""

    found: dict[str, Detections]
    labels: WordTree = LABELS
    calls: list[dict[str, Any]] = field(default_factory=list)

    def stream(self, paths: list[Path], **settings: Any) -> Iterator[Detections]:
        self.calls.append(settings)
        for path in paths:
            yield self.found[path.name]


def found(rows: list[tuple[list[float], float, int]]) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels), LABELS.names)


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    """Two pictures of 80x60: a cat and a dog; a cat and a difficult dog. No eels."""
    boxes = (
        BoxLabels.of([[0, 0, 20, 20], [40, 20, 70, 50]], [0, 1]),
        BoxLabels.of([[10, 10, 40, 40], [50, 0, 79, 29]], [0, 1], [False, True]),
    )
    records = []
    for number, labelled in enumerate(boxes):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (80, 60), (90, 120, 90)).save(path)
        records.append(Record(path, (80, 60), labelled, path.stem))
    return Annotations(tuple(records), LABELS)


@pytest.fixture
def detector() -> FixedDetector:
    """Finds both cats, calls a piece of background a cat, misses the dog, and sees the difficult one."""
    return FixedDetector(
        {
            "0.png": found([([0, 0, 20, 20], 0.9, 0), ([40, 0, 60, 15], 0.8, 0)]),
            "1.png": found([([10, 10, 40, 40], 0.7, 0), ([50, 0, 79, 29], 0.6, 1)]),
        }
    )
