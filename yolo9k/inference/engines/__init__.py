"""What runs a detector: an engine takes images at the network's size and returns detections in their pixels.

- `torch_engine.py`: PyTorch, for networks in memory; another runtime may compute its feature maps
- `graph_engine.py`: a graph that was exported with decoding and NMS (form detections); needs no torch
- `session.py`: runs a file with a runtime, `onnxruntime_session.py` and `openvino_session.py`
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from yolo9k.detection.thresholds import Thresholds
from yolo9k.wordtree.tree import HIER_THRESH

DescentRule = Literal["paper", "darknet"]


@dataclass(frozen=True)
class DecoderOptions:
    """How boxes get their labels in a label tree, see `Detector.class_decoder`; `under`: nodes."""

    hier_thresh: float = HIER_THRESH
    rule: DescentRule = "paper"
    leaves_only: bool = False
    under: tuple[int, ...] = ()


@dataclass(frozen=True)
class DetectedRows:
    """Detections of a batch after NMS, one row per (box, label), best score first.

    `image_index` (N,): which image of the batch; `xyxy` (N, 4) in pixels of the network's input; `score` (N,);
    `label` (N,); `path` (N, D) as in `Detections`.
    """

    image_index: np.ndarray
    xyxy: np.ndarray
    score: np.ndarray
    label: np.ndarray
    path: np.ndarray | None = None


@dataclass(frozen=True)
class Request:
    """Which detections of a batch an engine returns; `nodes`: only these labels, empty: all."""

    thresholds: Thresholds
    class_decoder: Any
    nodes: tuple[int, ...] = ()


class Engine(Protocol):
    """Detects objects in batches of images that have the network's size.

    `name`, `precision` and `device` say what runs: for example openvino, bf16, cpu.
    """

    name: str

    @property
    def precision(self) -> str:
        """Return the number format of the network."""

    @property
    def device(self) -> Any:
        """Return the device on which the engine runs; its text is that of `--device`."""

    def fit_batch(self, batch: int) -> int:
        """Return the batch size, lowered with a warning if the memory or the engine requires it.

        Raises `MachineError` if not even one image fits into the memory.
        """

    def class_decoder(self, options: DecoderOptions) -> Any:
        """Return a class decoder for `detect`. Raises `ConfigError` for options that the engine cannot serve."""

    def multi_label_decoder(self, nodes: Sequence[int]) -> Any:
        """Return a decoder that gives boxes all of these nodes that are above the threshold.

        Raises `ConfigError` if the engine cannot.
        """

    def detect(self, images: np.ndarray, requests: Sequence[Request]) -> list[DetectedRows]:
        """Return the detections in images (B, C, H, W), uint8 or floats in [0, 1], for each request."""
