"""Run an exported file with ONNX Runtime or OpenVINO; needs no torch."""

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from yolo9k.errors import ConfigError, MachineError, WeightsError
from yolo9k.exported import ExportInfo
from yolo9k.io import check_regular, exists, is_file, unreachable

LOG = logging.getLogger(__name__)

Runtime = Literal["onnxruntime", "openvino"]
EXTRAS: dict[Runtime, str] = {"onnxruntime": "onnx", "openvino": "openvino"}  # of this package, which install a runtime
READABLE: dict[str, tuple[Runtime, ...]] = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",)}


class Session(Protocol):
    """A file that a runtime has opened. `precision`: of the computation."""

    name: str
    precision: str
    info: ExportInfo

    def run(self, values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Return all outputs for the inputs, by name."""


def open_session(path: Path, engine: str = "auto", precision: str = "auto", device: str = "auto") -> Session:
    """Open an exported file.

    `engine`: onnxruntime or openvino, which also reads ONNX files; `auto`: the first that is installed. `precision`:
    float32 or bf16 for a float32 file. Raises `WeightsError` for a file that was not exported by this package or is
    damaged, `ConfigError` for an engine or precision that cannot run it, `MachineError` if no runtime is installed.
    """
    if not is_file(path):
        if exists(path):
            check_regular(path, WeightsError.at)
        raise WeightsError(f"{path}: {unreachable(path) or 'no such file'}")
    if device not in ("auto", "cpu"):
        raise ConfigError(f"--device {device}: exported files run on the CPU; use cpu or auto")
    runtime = _choose_runtime(path, engine)
    if runtime == "onnxruntime":
        from yolo9k.inference.engines.onnxruntime_session import OnnxRuntimeSession

        return OnnxRuntimeSession(path, precision)
    from yolo9k.inference.engines.openvino_session import OpenVinoSession

    return OpenVinoSession(path, precision)


def _choose_runtime(path: Path, engine: str) -> Runtime:
    able = READABLE[path.suffix.lower()]
    if engine not in ("auto", *able):
        raise ConfigError(f"--engine {engine}: {path} can be run by {' or '.join(able)}")
    wanted = [runtime for runtime in able if engine in ("auto", runtime)]
    for runtime in wanted:
        if find_spec(runtime):
            return runtime
    missing, extra = wanted[0], EXTRAS[wanted[0]]
    raise MachineError(f"{path}: {missing} is not installed; run: pip install 'yolo9k[{extra}]'")


def check_exported_size(info: ExportInfo, source: object, size_wh: tuple[int, int] | None) -> None:
    """Raise `ConfigError` if another size is requested than that of an exported file."""
    if size_wh not in (None, info.size_wh):
        (w, h), (own_w, own_h) = size_wh, info.size_wh
        raise ConfigError(f"size {w}x{h}: {source} was exported for {own_w}x{own_h}; export it again with --size")


def refuse_runtime(engine: str, source: object) -> None:
    """Raise `ConfigError` if a runtime is requested for weights that are not exported."""
    if engine not in ("auto", "torch"):
        raise ConfigError(f"--engine {engine}: {source} is not an exported file; write one with yolo9k export")


def say_batch(requested: int, used: int, reason: str) -> int:
    """Return the batch size that is used; log the reason if it is not the one requested for many images."""
    if used != requested > 1:
        LOG.info("batch %d instead of %d: %s", used, requested, reason)
    return used
