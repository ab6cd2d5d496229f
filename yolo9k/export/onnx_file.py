"""Write a graph as an ONNX file."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import MachineError
from yolo9k.export.operators import TRANSLATIONS
from yolo9k.exported import KEY, THRESHOLDS, ExportInfo, output_names
from yolo9k.wordtree.tree import HIER_THRESH

OPSET = 18  # of the operators; ONNX Runtime 1.14 and OpenVINO 2023.0 and later read it
TRACED_IMAGES = 2  # a batch of one would be taken for a constant
TRACERS = ("torch.onnx", "torch.export", "torch._dynamo", "onnxscript", "onnx_ir")  # what logs about tracing


def write_onnx(graph: nn.Module, info: ExportInfo, target: Path) -> None:
    """Trace a graph of `graphs.py` and write it with its facts."""
    model = to_onnx(graph, info)
    onnx.save(model, target)


def to_onnx(graph: nn.Module, info: ExportInfo) -> onnx.ModelProto:
    """Trace a graph: the model with default thresholds as initialisers and its facts as metadata."""
    (w, h), channels = info.size_wh, info.config.data.channels
    images = torch.rand(info.batch or TRACED_IMAGES, channels, h, w, generator=torch.Generator().manual_seed(0))
    thresholds = default_thresholds(info) if info.form == "detections" else {}
    values: dict[str, Tensor] = {"image": images, **{name: torch.tensor(v) for name, v in thresholds.items()}}
    batch = {} if info.batch else {0: torch.export.Dim("batch")}
    shapes = (batch, *(None for _ in thresholds))
    with _quiet():
        program = torch.export.export(graph.eval(), tuple(values.values()), dynamic_shapes=shapes, strict=False)
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, custom_translation_table=TRANSLATIONS, verbose=False,
            input_names=list(values), output_names=output_names(info),
        )  # fmt: skip
    assert exported is not None
    model = exported.model_proto
    merge_padding(model.graph)
    _remove_unused(model.graph)
    for name, value in thresholds.items():
        dtype = np.int64 if isinstance(value, int) else np.float32
        model.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype), name))
    versions = {"torch": torch.__version__, "onnx": onnx.__version__}
    helper.set_model_props(model, {KEY: replace(info, versions=versions).to_json()})
    model.producer_name, model.producer_version = KEY, info.to_dict()["versions"]["yolo9k"]
    _clear_traces(model.graph)
    onnx.checker.check_model(model)
    return model


def default_thresholds(info: ExportInfo) -> dict[str, float | int]:
    """Return the threshold inputs of the form detections with their defaults."""
    defaults = Thresholds()
    values = defaults.conf, defaults.iou, defaults.max_detections, HIER_THRESH
    return dict(zip(THRESHOLDS[: 3 if info.labels.is_flat else 4], values, strict=False))


def merge_padding(graph: onnx.GraphProto) -> None:
    """Merge each padding with minus infinity into the max pool after it.

    The tiny networks pad one side of their last pool. As a tensor of its own, the padded map makes the scale of an
    int8 quantisation infinite; a max pool ignores its own padding.
    """
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer if each.ByteSize() < 1 << 10}
    constants |= {
        node.output[0]: numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad"}
    for pool in [node for node in graph.node if node.op_type == "MaxPool" and node.input[0] in pads]:
        pad = pads[pool.input[0]]
        amounts, value = (constants.get(name) for name in pad.input[1:3])
        if amounts is None or value is None or not np.isneginf(value).all():
            continue
        begin, end = amounts.reshape(2, -1)[:, -2:]
        attribute = next(each for each in pool.attribute if each.name == "pads")
        attribute.ints[:] = [int(own) + int(more) for own, more in zip(attribute.ints, [*begin, *end], strict=True)]
        pool.input[0] = pad.input[0]
        if not any(pad.output[0] in node.input for node in graph.node):
            graph.node.remove(pad)


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Remove initialisers that no node reads: the traced network still has its whole head."""
    used = _inputs(graph) | {each.name for each in graph.output}
    kept = [each for each in graph.initializer if each.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _inputs(graph: onnx.GraphProto) -> set[str]:
    """Return the names that the nodes of a graph and of its subgraphs read."""
    parts = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return {name for node in graph.node for name in node.input}.union(*map(_inputs, parts))


def _clear_traces(graph: onnx.GraphProto) -> None:
    """Remove what the tracer notes at each node: the lines of this program, with the paths of this machine."""
    for each in (*graph.node, *graph.value_info, *graph.input, *graph.output):
        each.ClearField("metadata_props")
        each.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _clear_traces(attribute.g)


@contextmanager
def _quiet() -> Iterator[None]:
    """Do not show what the tracer logs about itself."""
    loggers = [logging.getLogger(name) for name in TRACERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MemoryError as error:
        raise MachineError("out of memory while the network was traced; export a smaller size or batch") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
