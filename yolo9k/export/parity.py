"""Does an exported file compute what PyTorch computes? Compare both on images."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import WeightsError
from yolo9k.inference.engines import DecoderOptions, DetectedRows, Engine, Request
from yolo9k.inference.engines.graph_engine import GraphEngine, to_input
from yolo9k.inference.engines.session import Session

MAX_VALUE = 1e-3  # largest difference of a raw value, relative to the largest value if that is above 1
MAX_PROBABILITY = 1e-4
MAX_SCORE = 1e-3  # of a detection
MAX_SIDE = 1e-3  # of a box, relative to its longer side; at least a tenth of a pixel
MAX_UNMATCHED = 0.01  # of the detections: those whose overlap with another is at the NMS threshold may differ
COMPARED = 100  # detections per image, at most
LOWEST = 1e-5  # scores below are not compared: sigmoids of some runtimes are inexact there


@dataclass(frozen=True)
class Parity:
    """The largest differences of a file from PyTorch, by name, on `images` images.

    `compared`: number of detections or values; `unmatched`: detections that only one of both has.
    """

    images: int
    compared: int
    differences: dict[str, float]
    unmatched: int = 0

    def describe(self) -> str:
        """Return one line for people."""
        if not self.compared:
            return f"no detection on {self.images} images: nothing could be compared with PyTorch"
        values = ", ".join(f"{name} {value:.2g}" for name, value in self.differences.items())
        missing = f"; {self.unmatched} of {self.compared} detections differ" if self.unmatched else ""
        return f"largest difference from PyTorch on {self.images} images: {values}{missing}"


def compare_outputs(session: Session, network: nn.Module, images: np.ndarray, source: Path) -> Parity:
    """Compare raw maps, logits or probabilities on images (B, C, H, W), uint8 or floats.

    `network`: returns the same output in PyTorch. Raises `WeightsError` beyond the tolerance.
    """
    with torch.inference_mode():
        expected = network(torch.from_numpy(to_input(images))).numpy()
    parts = _parts(session, images)
    found = [session.run({"image": to_input(part, session.info.batch)})[0][: len(part)] for part in parts]
    difference = float(np.abs(np.concatenate(found) - expected).max())
    is_probability = session.info.form == "probabilities"
    allowed = MAX_PROBABILITY if is_probability else MAX_VALUE * max(1.0, float(np.abs(expected).max()))
    name = "probability" if is_probability else "value"
    parity = Parity(len(images), expected.size, {name: difference})
    if not difference <= allowed:
        raise WeightsError(f"{source}: {parity.describe()}; allowed: {allowed:.2g}")
    return parity


def compare_detections(session: Session, reference: Engine, images: np.ndarray, source: Path) -> Parity:
    """Compare detections on images (B, C, H, W), uint8 or floats; `reference`: in PyTorch.

    The confidence threshold is the one that leaves about a hundred detections per image, in the widest gap between
    scores, so that no detection is close to it. Raises `WeightsError` beyond the tolerance.
    """
    conf = _choose_conf(_detect(reference, session, images, Thresholds(conf=0, max_detections=COMPARED)))
    thresholds = Thresholds(conf=conf)
    expected, found = (_detect(engine, session, images, thresholds) for engine in (reference, GraphEngine(session)))
    scores, sides, unmatched = [0.0], [0.0], 0
    for rows, others in ((expected, found), (found, expected)):
        for index in range(len(rows.score)):
            match = _find(rows, index, others)
            if match is None:
                unmatched += 1
                continue
            scores.append(float(abs(rows.score[index] - others.score[match])))
            sides.append(float(np.abs(rows.xyxy[index] - others.xyxy[match]).max()))
    compared = max(len(expected.score), len(found.score))
    parity = Parity(len(images), compared, {"score": max(scores), "box side (px)": max(sides)}, unmatched)
    if unmatched > MAX_UNMATCHED * compared or max(scores) > MAX_SCORE:
        raise WeightsError(f"{source}: {parity.describe()}; allowed: score {MAX_SCORE:g}")
    return parity


def _parts(session: Session, images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images in batches that the file takes."""
    size = session.info.batch or len(images)
    for start in range(0, len(images), size):
        yield images[start : start + size]


def _detect(engine: Engine, session: Session, images: np.ndarray, thresholds: Thresholds) -> DetectedRows:
    """Return the detections in all images; `image_index` counts all of them."""
    decoder, found, start = engine.class_decoder(DecoderOptions()), [], 0
    for part in _parts(session, images):
        (rows,) = engine.detect(part, [Request(thresholds, decoder)])
        found.append((rows.image_index + start, rows.xyxy, rows.score, rows.label))
        start += len(part)
    return DetectedRows(*map(np.concatenate, zip(*found, strict=True)))


def _choose_conf(rows: DetectedRows) -> float:
    """Return the middle of the widest gap between scores in the lower half of the detections."""
    scores = np.sort(rows.score[rows.score > LOWEST])
    lower = scores[: max(2, len(scores) // 2)]
    if len(lower) < 2:
        return LOWEST
    widest = int(np.diff(lower).argmax())
    return float(lower[widest : widest + 2].mean())


def _find(rows: DetectedRows, index: int, others: DetectedRows) -> int | None:
    """Return the index of the same detection in other rows: same image and label, and nearly the same box."""
    same = (others.image_index == rows.image_index[index]) & (others.label == rows.label[index])
    candidates = np.flatnonzero(same)
    if not len(candidates):
        return None
    box = rows.xyxy[index]
    distances = np.abs(others.xyxy[candidates] - box).max(1)
    nearest = int(distances.argmin())
    allowed = max(0.1, MAX_SIDE * float(max(box[2] - box[0], box[3] - box[1])))
    return int(candidates[nearest]) if distances[nearest] <= allowed else None


def sample_images(files: Sequence[Path], limit: int = 8) -> list[np.ndarray]:
    """Return images (H, W, 3) for the comparison: the first of the files, else views of a photo of matplotlib's."""
    from yolo9k.images import read_image

    if files:
        return [read_image(path) for path in islice(files, limit)]
    import matplotlib

    photo = read_image(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    return [photo, np.ascontiguousarray(photo[:, ::-1]), photo[:300], photo[100:, :256]]
