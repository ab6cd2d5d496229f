"""`OpenVinoSession`: run an ONNX file or OpenVINO's own format with OpenVINO, on the CPU."""

import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import openvino
from openvino.frontend import FrontEndManager

from yolo9k.errors import ConfigError, WeightsError
from yolo9k.exported import KEY, THRESHOLDS, ExportInfo, check_outputs
from yolo9k.machine import available_cores

HINTS = {"float32": "f32", "bf16": "bf16", "int8": "f32"}  # of an int8 file: its remaining float layers


class OpenVinoSession:
    """See `Session`. `precision` `auto`: bf16 if the CPU multiplies it natively, except for Darknet's weights."""

    name: str = "openvino"

    def __init__(self, path: Path, precision: str = "auto") -> None:
        core, model = shared_core(), read_model(path)
        self.info = _read_info(path, model)
        check_outputs(path, self.info, [each.get_any_name() for each in model.outputs])
        set_threshold_inputs(model)
        able = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = _choose_precision(self.info, precision, able, path)
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": available_cores(),
        }
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self._lock = threading.Lock()
        self._inputs = {each.get_any_name() for each in model.inputs}
        self._path = path

    def run(self, values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """See `Session`."""
        try:
            with self._lock:  # a request serves one thread at a time
                results = self._request.infer({name: values[name] for name in self._inputs})
                return [np.array(results[index]) for index in range(len(results))]
        except RuntimeError as error:
            raise WeightsError(f"{self._path}: OpenVINO cannot run it: {_reason(error)}") from error


@cache
def shared_core() -> openvino.Core:
    """Return the one core of this process, which stays until its end.

    The CPU plugin of a core replaces the stack on which the thread's signal handlers run, and unmaps its own when the
    core is deleted. With several cores, the stack of a deleted one could stay in use: the next Ctrl-C would be a crash.
    """
    return openvino.Core()


def read_model(path: Path) -> openvino.Model:
    """Read a file with the reader of its suffix, not with all that OpenVINO has. Raises `WeightsError`."""
    try:
        reader = FrontEndManager().load_by_framework("onnx" if path.suffix.lower() == ".onnx" else "ir")
        return reader.convert(reader.load(str(path)))
    except Exception as error:  # the readers' errors have no common base
        raise WeightsError(f"{path}: not a file that OpenVINO can read: {_reason(error)}") from error


def _read_info(path: Path, model: openvino.Model) -> ExportInfo:
    try:
        text = model.get_rt_info(["framework", KEY]).astype(str)
    except RuntimeError as error:
        raise WeightsError(f"{path}: not exported by yolo9k: its metadata has no {KEY!r}") from error
    return ExportInfo.from_json(text, path)


def set_threshold_inputs(model: openvino.Model) -> None:
    """Make inputs of the thresholds, which OpenVINO takes for constants when it reads an ONNX file with defaults."""
    found = [op for op in model.get_ops() if op.get_type_name() == "Constant" and op.get_friendly_name() in THRESHOLDS]
    for constant in found:
        parameter = openvino.opset13.parameter([], constant.get_element_type(), name=constant.get_friendly_name())
        parameter.output(0).get_tensor().set_names({constant.get_friendly_name()})
        constant.output(0).replace(parameter.output(0))
        model.add_parameters([parameter])
    model.validate_nodes_and_infer_types()


def _choose_precision(info: ExportInfo, requested: str, able: bool, path: Path) -> str:
    possible = (info.precision,) if info.precision == "int8" else ("float32", "bf16")
    if requested == "auto":
        return "bf16" if able and "bf16" in possible and not info.from_darknet else info.precision
    if requested not in possible:
        raise ConfigError(f"--precision {requested}: OpenVINO runs {path} in {' or '.join(possible)}")
    return requested


def _reason(error: Exception) -> str:
    """Return the last line of the runtime's message that says something: places in its source come first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
