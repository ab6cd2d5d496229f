"""`OnnxRuntimeSession`: run an ONNX file with ONNX Runtime, on the CPU."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from yolo9k.errors import ConfigError, WeightsError
from yolo9k.exported import KEY, ExportInfo, check_outputs
from yolo9k.machine import available_cores

ERRORS_ONLY = 3  # severity of what the runtime may print

onnxruntime.disable_telemetry_events()


class OnnxRuntimeSession:
    """See `Session`."""

    name: str = "onnxruntime"

    def __init__(self, path: Path, precision: str = "auto") -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.intra_op_num_threads = available_cores()
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its classes have no common base
            raise WeightsError(f"{path}: not an ONNX file that ONNX Runtime can run: {_reason(error)}") from error
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            raise WeightsError(f"{path}: not exported by yolo9k: its metadata has no {KEY!r}")
        self.info = ExportInfo.from_json(text, path)
        check_outputs(path, self.info, [each.name for each in self._session.get_outputs()])
        if precision not in ("auto", self.info.precision):
            raise ConfigError(f"--precision {precision}: ONNX Runtime runs {path} in {self.info.precision}")
        self.precision: str = self.info.precision
        self._path = path

    def run(self, values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """See `Session`."""
        try:
            return self._session.run(None, dict(values))
        except Exception as error:
            raise WeightsError(f"{self._path}: ONNX Runtime cannot run it: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Return the last part of the runtime's message: its class and code come first."""
    return " ".join(str(error).split()).rpartition(" : ")[2] or type(error).__name__
