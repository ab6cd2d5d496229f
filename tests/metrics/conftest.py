import numpy as np
import pytest

from yolo9k.samples import BoxLabels, Detections


@pytest.fixture
def crowded_image():
    """The detections and boxes of one image in which many overlap, some boxes ignored."""
    rng = np.random.default_rng(1)
    xyxy = rng.integers(0, 40, (80, 2))
    xyxy = np.concatenate([xyxy, xyxy + rng.integers(5, 30, (80, 2))], axis=1)
    boxes = BoxLabels.of(xyxy[:50], rng.integers(0, 3, 50), rng.random(50) < 0.2)
    found = Detections(xyxy[50:].astype(np.float32), rng.random(30).astype(np.float32), rng.integers(0, 3, 30))
    return found, boxes
