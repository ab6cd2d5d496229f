"""Measure detection with every installed engine and precision: time, parity, and the rate beside a matrix product."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from yolo9k.checkpoint import Checkpoint
from yolo9k.detection.thresholds import Thresholds
from yolo9k.hardware import DTYPES, choose_precision
from yolo9k.inference.detector import Detector
from yolo9k.inference.engines import DecoderOptions, Request
from yolo9k.inference.engines.session import Runtime
from yolo9k.models.layers import count_operations
from yolo9k.models.norms import fold_norms
from yolo9k.pretrained import build_detector
from yolo9k.progress import Track, silent
from yolo9k.samples import Detections

RUNTIMES: dict[Runtime, str] = {"onnxruntime": "onnx", "openvino": "openvino"}  # and the format that each is given
MATRIX_SIDE = 2048  # of the products that measure the machine's rate
PARITY_CONF = 0.05


@dataclass(frozen=True)
class EngineSpeed:
    """The speed of a detector with one engine and precision; times in seconds, medians of the rounds.

    `image`: from pixels to detections, one image per call; `engine_alone`: the network with decoding and NMS alone, on
    inputs that are prepared; `batched`: an image of a batch. `of_matmul`: operations per second of
    `engine_alone`, as a fraction of those of a large matrix product in this precision. `score_difference`: the largest
    from PyTorch in float32; `unmatched`: detections that only one of both has, of `compared`.
    """

    engine: str
    precision: str
    image: float
    engine_alone: float
    batched: float
    of_matmul: float
    score_difference: float
    unmatched: int
    compared: int


def compare_engines(
    stored: Checkpoint,
    source: str | Path,
    images: Sequence[np.ndarray],
    *,
    size_wh: tuple[int, int] | None = None,
    batch: int = 8,
    rounds: int = 10,
    track: Track = silent,
) -> list[EngineSpeed]:
    """Measure all engines on images (H, W, 3), alternately in each round, on the CPU.

    Raises `WeightsError` for weights of a classifier and `ConfigError` for a size that the network cannot take.
    """
    network, _ = build_detector(stored, source)
    with tempfile.TemporaryDirectory() as folder:
        detectors = list(_detectors(stored, source, Path(folder), images, size_wh))
        measured = [(detector, _calls(detector, images, batch)) for detector in detectors]
        times: list[list[list[float]]] = [[[] for _ in calls] for _, calls in measured]
        for _ in track(range(rounds), "Measuring", rounds):
            for row, (_, calls) in zip(times, measured, strict=True):
                for column, call in zip(row, calls, strict=True):
                    column.append(_seconds(call))
        operations = count_operations(fold_norms(network.eval()), detectors[0].size_wh)
        rates = {name: matrix_rate(name) for name in dict.fromkeys(each.engine.precision for each in detectors)}
        reference = _detections(detectors[0], images)
        return [
            _summary(detector, columns, operations, rates, reference, _detections(detector, images), batch)
            for detector, columns in zip(detectors, times, strict=True)
        ]


def _detectors(
    stored: Checkpoint, source: str | Path, folder: Path, images: Sequence[np.ndarray], size_wh: tuple[int, int] | None
) -> Iterator[Detector]:
    """Yield a detector for each engine and precision, PyTorch in float32 first."""
    from yolo9k.export.export import FORMATS, export_weights

    precisions: dict[str, None] = dict.fromkeys(["float32", choose_precision("auto", torch.device("cpu"))])
    for precision in precisions:
        network, config = build_detector(stored, source)
        yield Detector.of_network(
            fold_norms(network.eval()), stored.labels, config,
            size_wh=size_wh, device="cpu", precision=precision, is_owned=True,
        )  # fmt: skip
    for runtime, name in RUNTIMES.items():
        if all(find_spec(package) for package in FORMATS[name].packages):
            target = folder / f"model{FORMATS[name].suffix}"
            path = export_weights(stored, source, target, name, size_wh=size_wh, images=images).path
            for precision in precisions if runtime == "openvino" else ("float32",):
                yield Detector.load(path, engine=runtime, precision=precision)


def _calls(detector: Detector, images: Sequence[np.ndarray], batch: int) -> list[Callable[[], object]]:
    """Return what is timed: an image, its prepared input, and a prepared batch."""
    image = images[0]
    single = detector.prepare(image, (image.shape[1], image.shape[0]))[0][None]
    several = np.repeat(single, batch, axis=0)
    request = [Request(Thresholds(), detector.engine.class_decoder(DecoderOptions()))]
    return [
        lambda: detector(image),
        lambda: detector.engine.detect(single, request),
        lambda: detector.engine.detect(several, request),
    ]


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _detections(detector: Detector, images: Sequence[np.ndarray]) -> list[Detections]:
    return [detector(image, conf=PARITY_CONF) for image in images]


def matrix_rate(precision: str, runs: int = 5) -> float:
    """Return the operations per second of a large matrix product of this machine's CPU, the best of some runs."""
    a = torch.randn(MATRIX_SIDE, MATRIX_SIDE).to(DTYPES.get(precision, torch.float32))
    return 2 * MATRIX_SIDE**3 / min(_seconds(lambda: a @ a) for _ in range(runs))


def _summary(
    detector: Detector,
    columns: list[list[float]],
    operations: int,
    rates: dict[str, float],
    reference: list[Detections],
    found: list[Detections],
    batch: int,
) -> EngineSpeed:
    image, alone, batched = (statistics.median(column[1:] or column) for column in columns)  # the first warms up
    precision = detector.engine.precision
    difference, unmatched = _difference(reference, found)
    return EngineSpeed(
        detector.engine.name, precision, image, alone, batched / batch, operations / alone / rates[precision],
        difference, unmatched, sum(map(len, reference)),
    )  # fmt: skip


def _difference(reference: list[Detections], found: list[Detections]) -> tuple[float, int]:
    """Return the largest difference of scores of matching detections, and how many match no other."""
    largest, unmatched = 0.0, 0
    for expected, other in zip(reference, found, strict=True):
        rest = list(range(len(other)))
        for row in range(len(expected)):
            same = [index for index in rest if other.label[index] == expected.label[row]]
            if not same:
                unmatched += 1
                continue
            nearest = min(same, key=lambda index: float(np.abs(other.xyxy[index] - expected.xyxy[row]).max()))
            rest.remove(nearest)
            largest = max(largest, float(abs(other.score[nearest] - expected.score[row])))
        unmatched += len(rest)
    return largest, unmatched
