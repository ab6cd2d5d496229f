"""Compute box sizes in grid cells of the network input, from which anchors are clustered."""

from collections.abc import Sequence

import numpy as np

from yolo9k.datasets.readers.records import Record
from yolo9k.errors import DataError
from yolo9k.placements import ResizeMode, fit_placement


def fitted_sizes(
    records: Sequence[Record], canvas_wh: tuple[int, int], stride: int, mode: ResizeMode = "letterbox"
) -> np.ndarray:
    """Return widths and heights (N, 2), in cells of `stride`, of all boxes in images resized to `canvas_wh` pixels.

    `mode`: images are letterboxed or stretched. Ignored boxes are excluded. Raises `DataError` if there is no box.
    """
    sizes = [_sizes(record, canvas_wh, mode) for record in records]
    joined = np.concatenate(sizes) if sizes else np.zeros((0, 2))
    if not len(joined):
        raise DataError(f"no box in {len(records)} images; clustering anchors needs boxes")
    return joined / stride


def _sizes(record: Record, canvas_wh: tuple[int, int], mode: ResizeMode) -> np.ndarray:
    xyxy = record.boxes.xyxy[~record.boxes.ignore].astype(np.float64)
    return (xyxy[:, 2:] - xyxy[:, :2]) * fit_placement(record.size_wh, canvas_wh, mode).scale_xy
