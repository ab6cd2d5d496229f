"""NMS as operators that can be traced, each with its translation to ONNX."""

from collections.abc import Callable
from typing import Any

import onnx
import onnxscript
import torch
from onnxscript import BOOL, FLOAT, INT64, opset18
from torch import Tensor

from yolo9k.detection.postprocess import nms

NO_LIMIT = 1 << 30

op: Any = opset18  # its stubs know the types of the operators better than the tracer needs


@torch.library.custom_op("yolo9k::nms_per_label", mutates_args=())
def nms_per_label(xyxy: Tensor, score: Tensor, iou: Tensor, conf: Tensor) -> Tensor:
    """Return image, label and box index (R, 3) of what NMS per image and label keeps.

    `xyxy` (B, N, 4); `score` (B, K, N), of which only those above `conf` take part; `iou`: NMS IoU threshold.
    """
    found = (score > conf).nonzero()
    image, label, box = found.unbind(1)
    kept = nms(xyxy[image, box], score[image, label, box], image * score.shape[1] + label, float(iou))
    return found[kept]


@nms_per_label.register_fake
def _(xyxy: Tensor, score: Tensor, iou: Tensor, conf: Tensor) -> Tensor:
    rows = torch.library.get_ctx().new_dynamic_size()
    return score.new_empty((rows, 3), dtype=torch.int64)


@onnxscript.script()
def nms_per_label_in_onnx(xyxy: FLOAT, score: FLOAT, iou: FLOAT, conf: FLOAT) -> INT64:
    """Translate `nms_per_label`: the operator counts boxes from their corners, in any order of the axes."""
    return op.NonMaxSuppression(xyxy, score, op.Constant(value_int=NO_LIMIT), iou, conf)


@torch.library.custom_op("yolo9k::greedy_nms", mutates_args=())
def greedy_nms(conflicts: Tensor) -> Tensor:
    """Return which boxes (M,) greedy NMS keeps, the best first.

    `conflicts` (M, M): whether box i would suppress box j > i, and false elsewhere.
    """
    kept = torch.ones(len(conflicts), dtype=torch.bool, device=conflicts.device)
    for row in range(len(conflicts)):
        if kept[row]:
            kept &= ~conflicts[row]
    return kept


@greedy_nms.register_fake
def _(conflicts: Tensor) -> Tensor:
    return conflicts.new_empty(conflicts.shape[0], dtype=torch.bool)


TRUE = onnx.helper.make_tensor("true", onnx.TensorProto.BOOL, [], [True])


@onnxscript.script()
def greedy_nms_in_onnx(conflicts: BOOL) -> BOOL:
    """Translate `greedy_nms`: repeat "kept if no kept box suppresses it" until nothing changes.

    After n rounds the first n boxes are decided, since each depends on those before it; usually a few rounds suffice.
    """
    suppresses = op.Cast(conflicts, to=onnx.TensorProto.FLOAT)
    kept = op.Expand(op.Constant(value_float=1.0), op.Slice(op.Shape(conflicts), [0], [1]))
    changes = op.Constant(value=TRUE)
    while changes:
        now = op.Cast(op.Equal(op.MatMul(kept, suppresses), op.Constant(value_float=0.0)), to=onnx.TensorProto.FLOAT)
        changes = op.Greater(op.ReduceSum(op.Abs(op.Sub(now, kept)), keepdims=0), op.Constant(value_float=0.0))
        kept = now
    return op.Cast(kept, to=onnx.TensorProto.BOOL)


TRANSLATIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.yolo9k.nms_per_label.default: nms_per_label_in_onnx,
    torch.ops.yolo9k.greedy_nms.default: greedy_nms_in_onnx,
}
