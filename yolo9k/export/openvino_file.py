"""Write a graph in OpenVINO's format: NAME.xml with NAME.bin, and its facts in NAME.json."""

import io
from pathlib import Path

import openvino
from torch import nn

from yolo9k.export.onnx_file import to_onnx
from yolo9k.exported import ExportInfo
from yolo9k.inference.engines.openvino_session import set_threshold_inputs, shared_core
from yolo9k.io import write_text


def write_openvino(graph: nn.Module, info: ExportInfo, target: Path) -> None:
    """Trace a graph and write it in float32."""
    content = to_onnx(graph, info).SerializeToString()
    model = shared_core().read_model(io.BytesIO(content))  # openvino.convert_model would send usage statistics
    set_threshold_inputs(model)
    openvino.save_model(model, target, compress_to_fp16=False)
    write_text(target.with_suffix(".json"), info.to_json())
