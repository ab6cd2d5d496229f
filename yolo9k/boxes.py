"""Convert box formats and compute overlaps.

Names state the format: `xyxy` is (left, top, right, bottom), `xywh` (left, top, width, height), `cxcywh` (centre x,
centre y, width, height). All functions take torch tensors or numpy arrays of shape (..., 4), keep their unit, and
return new arrays.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch
    from typing_extensions import TypeIs

Array = TypeVar("Array", np.ndarray, "torch.Tensor")

MAX_PAIRS = 1 << 20  # pairs of boxes compared at once: an image of 100,000 boxes has 10 billion


def is_tensor(values: Any) -> "TypeIs[torch.Tensor]":
    """Return whether values are a torch tensor, without importing torch."""
    return type(values).__module__.partition(".")[0] == "torch"


def _stack(like: Array, *columns: Array) -> Array:
    """Stack columns of shape (...) to (..., len(columns)), with the library that `like` belongs to."""
    if is_tensor(like):
        import torch

        return torch.stack(columns, dim=-1)
    return np.stack(columns, axis=-1)


def _maximum(a: Array, b: Array) -> Array:
    if is_tensor(a):
        return a.maximum(b)
    return np.maximum(a, b)


def _minimum(a: Array, b: Array) -> Array:
    if is_tensor(a):
        return a.minimum(b)
    return np.minimum(a, b)


def xywh_to_xyxy(xywh: Array) -> Array:
    """Convert (left, top, width, height) to corners."""
    x, y, w, h = (xywh[..., i] for i in range(4))
    return _stack(xywh, x, y, x + w, y + h)


def xyxy_to_xywh(xyxy: Array) -> Array:
    """Convert corners to (left, top, width, height)."""
    x1, y1, x2, y2 = (xyxy[..., i] for i in range(4))
    return _stack(xyxy, x1, y1, x2 - x1, y2 - y1)


def cxcywh_to_xyxy(cxcywh: Array) -> Array:
    """Convert (centre x, centre y, width, height) to corners."""
    cx, cy, w, h = (cxcywh[..., i] for i in range(4))
    return _stack(cxcywh, cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)


def xyxy_to_cxcywh(xyxy: Array) -> Array:
    """Convert corners to (centre x, centre y, width, height)."""
    x1, y1, x2, y2 = (xyxy[..., i] for i in range(4))
    return _stack(xyxy, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)


def area(xyxy: Array) -> Array:
    """Return areas of shape (...); a box with crossed corners has area 0."""
    size = xyxy[..., 2:] - xyxy[..., :2]
    positive = size * (size > 0)
    return positive[..., 0] * positive[..., 1]


def clip(xyxy: Array, size_wh: tuple[float, float]) -> Array:
    """Clip boxes to an image of `size_wh`."""
    w, h = size_wh
    x1, y1, x2, y2 = (xyxy[..., i] for i in range(4))
    return _stack(xyxy, x1.clip(0, w), y1.clip(0, h), x2.clip(0, w), y2.clip(0, h))


def intersection(a_xyxy: Array, b_xyxy: Array) -> Array:
    """Return intersection areas of boxes that broadcast: (..., 4) and (..., 4) to (...)."""
    corners = _stack(
        a_xyxy,
        _maximum(a_xyxy[..., 0], b_xyxy[..., 0]),
        _maximum(a_xyxy[..., 1], b_xyxy[..., 1]),
        _minimum(a_xyxy[..., 2], b_xyxy[..., 2]),
        _minimum(a_xyxy[..., 3], b_xyxy[..., 3]),
    )
    return area(corners)


def iou(a_xyxy: Array, b_xyxy: Array) -> Array:
    """Return the intersection over union of boxes that broadcast; 0 if both boxes are empty.

    For all pairs, write `iou(a[:, None], b[None])`: (N, 1, 4) and (1, M, 4) to (N, M).
    """
    shared = intersection(a_xyxy, b_xyxy)
    union = area(a_xyxy) + area(b_xyxy) - shared
    tiny = 1e-12  # makes 0/0 zero and leaves every other quotient unchanged
    return shared / (union + tiny * (union <= 0))


def shape_iou(a_wh: Array, b_wh: Array) -> Array:
    """Return the IoU of boxes with the same centre, from sizes alone: (..., 2) and (..., 2) to (...)."""
    shared = _minimum(a_wh[..., 0], b_wh[..., 0]) * _minimum(a_wh[..., 1], b_wh[..., 1])
    return shared / (a_wh[..., 0] * a_wh[..., 1] + b_wh[..., 0] * b_wh[..., 1] - shared)


def expand_ranges(first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Concatenate N ranges of integers, given by start and length: the index of the range and the value, both (M,)."""
    index = np.repeat(np.arange(len(count)), count)
    begin = np.cumsum(count) - count
    return index, first[index] + np.arange(len(index)) - begin[index]


def range_chunks(first: np.ndarray, count: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield `expand_ranges` in parts of at most `MAX_PAIRS` pairs (more only if one range is longer)."""
    ends = np.cumsum(count)
    start = 0
    while start < len(count):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + MAX_PAIRS, side="right")))
        index, value = expand_ranges(first[start:stop], count[start:stop])
        if len(index):
            yield index + start, value
        start = stop
