"""Darknet's resize, letterbox, centre crop and letterbox correction of boxes, number for number (`image.c`).

All arithmetic is float32 in Darknet's order of operations. Functions take an image as uint8 (H, W, 3) RGB, which is
divided by 255 as in `load_image_color`, or as floats in [0, 1]: (3, H, W), Darknet's own layout, or (H, W, 3) if the
first axis is not 3 long. They return a new float32 (3, H, W). Sizes are (width, height) in pixels.

All functions raise `ConfigError` for an array that is not such an image and for a size below 1 pixel.
"""

from typing import Literal

import cv2
import numpy as np

from yolo9k.boxes import Array, is_tensor
from yolo9k.errors import ConfigError

LastRow = Literal["correct", "darknet"]

GREY = 0.5  # padding of a letterboxed image


def resize(image: np.ndarray, size_wh: tuple[int, int], *, last_row: LastRow = "correct") -> np.ndarray:
    """Resize an image (`resize_image`): bilinear, aligned corners, no antialiasing.

    If Darknet's float32 position of the last row rounds below the image's last row, Darknet omits most of that row's
    weight and the row is nearly black. `last_row`: "darknet" reproduces this, "correct" does not. A height of 1, for
    which Darknet reads out of bounds, returns the first row.
    """
    return _resize(_channels_first(image), size_wh, last_row)


def letterbox_wh(image_wh: tuple[int, int], canvas_wh: tuple[int, int]) -> tuple[int, int]:
    """Return the size of an image letterboxed into a canvas (`letterbox_image`, `correct_region_boxes`), truncated.

    At least 1 pixel; Darknet may compute 0 and then omit the image or divide by 0.
    """
    _check_size(image_wh)
    _check_size(canvas_wh)
    (w, h), (canvas_w, canvas_h) = image_wh, canvas_wh
    if np.float32(canvas_w) / np.float32(w) < np.float32(canvas_h) / np.float32(h):
        return canvas_w, max(1, h * canvas_w // w)
    return max(1, w * canvas_h // h), canvas_h


def letterbox(image: np.ndarray, size_wh: tuple[int, int], *, last_row: LastRow = "correct") -> np.ndarray:
    """Resize an image to fit into `size_wh` at its aspect ratio, centred on grey (`letterbox_image`).

    `last_row`: as in `resize`.
    """
    channels = _channels_first(image)
    _, h, w = channels.shape
    new_w, new_h = letterbox_wh((w, h), size_wh)
    left, top = (size_wh[0] - new_w) // 2, (size_wh[1] - new_h) // 2
    canvas = np.full((3, size_wh[1], size_wh[0]), GREY, np.float32)
    canvas[:, top : top + new_h, left : left + new_w] = _resize(channels, (new_w, new_h), last_row)
    return canvas


def stretch(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Resize a uint8 image (H, W, 3) to uint8 (3, h, w) as AlexeyAB's fork does without letterbox.

    Bilinear without antialiasing, pixels at half positions: OpenCV's, which the fork trains with
    (`image_opencv.cpp: image_data_augmentation`) and its `darknet.py` and OpenCV's own network module run with. The
    fork's `detector test` uses `resize` instead, which detects less: those pixels are up to half a pixel elsewhere.
    """
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)


def center_crop(image: np.ndarray, size_wh: tuple[int, int], *, last_row: LastRow = "correct") -> np.ndarray:
    """Crop the largest centred square and resize it (`center_crop_image`); `last_row`: as in `resize`."""
    channels = _channels_first(image)
    _, h, w = channels.shape
    side = min(w, h)
    left, top = (w - side) // 2, (h - side) // 2
    return _resize(channels[:, top : top + side, left : left + side], size_wh, last_row)


def correct_boxes(cxcywh: Array, image_wh: tuple[int, int], net_wh: tuple[int, int], *, relative: bool = True) -> Array:
    """Convert boxes (..., 4) from a letterboxed network input to the original image (`correct_region_boxes`).

    Input: centre and size relative to the network input. Output: centre and size relative to the image, or in its
    pixels with `relative=False`. As in Darknet, the padding is exactly half of the remaining space, while `letterbox`
    pads by whole pixels: the two differ by half a network pixel if the remaining space is odd.
    """
    new_wh = letterbox_wh(image_wh, net_wh)
    padding = [(net - new) / 2 / net for net, new in zip(net_wh, new_wh, strict=True)]
    fraction = [np.float32(new) / np.float32(net) for net, new in zip(net_wh, new_wh, strict=True)]
    scale = [np.float32(net) / np.float32(new) for net, new in zip(net_wh, new_wh, strict=True)]
    # Darknet computes the centre in double and everything else in float.
    moved = (cxcywh - _row(cxcywh, *padding, 0, 0, double=True)) / _row(cxcywh, *fraction, 1, 1, double=True)
    boxes = _cast_like(cxcywh, moved) * _row(cxcywh, 1, 1, *scale)
    return boxes if relative else boxes * _row(cxcywh, *image_wh, *image_wh)


def _channels_first(image: np.ndarray) -> np.ndarray:
    """Return an image as a view (3, H, W) of its uint8 or float values."""
    image = np.asarray(image)
    if image.ndim == 3 and image.size:
        if image.dtype == np.uint8 and image.shape[2] == 3:
            return image.transpose(2, 0, 1)
        if np.issubdtype(image.dtype, np.floating) and 3 in (image.shape[0], image.shape[2]):
            return image if image.shape[0] == 3 else image.transpose(2, 0, 1)
    actual = f"{image.dtype} {image.shape}"
    raise ConfigError(f"image: must be uint8 (H, W, 3) RGB or float (3, H, W) with at least one pixel, not {actual}")


def _check_size(size_wh: tuple[int, int]) -> None:
    if min(size_wh) < 1:
        raise ConfigError(f"image size: must be at least 1x1 pixels, not {size_wh[0]}x{size_wh[1]}")


def _resize(channels: np.ndarray, size_wh: tuple[int, int], last_row: LastRow) -> np.ndarray:
    """Resize (3, H, W) to (3, h, w): first horizontally, then vertically, as Darknet does."""
    _check_size(size_wh)
    h, (width, height) = channels.shape[1], size_wh
    upper, weight = _source_positions(h, height)
    lower = np.minimum(upper + 1, h - 1)
    lower_weight = np.where(upper + 1 < h, weight, np.float32(0))
    if last_row == "darknet":
        lower_weight[-1] = 0
    rows, inverse = np.unique(np.stack([upper, lower]), return_inverse=True)  # a small target skips most rows
    upper, lower = inverse.reshape(2, height)
    resized = _resize_width(channels[:, rows], width)
    return (1 - weight)[:, None] * resized[:, upper] + lower_weight[:, None] * resized[:, lower]


def _resize_width(channels: np.ndarray, width: int) -> np.ndarray:
    w = channels.shape[2]
    left, weight = _source_positions(w, width)
    right = np.minimum(left + 1, w - 1)
    resized: np.ndarray = (1 - weight) * _to_unit(channels[:, :, left]) + weight * _to_unit(channels[:, :, right])
    resized[:, :, -1] = _to_unit(channels[:, :, -1])  # Darknet copies the last column, also for a width of 1
    return resized


def _source_positions(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each of `target` pixels, the source pixel at or before it and the float32 weight of the next one."""
    scale = np.float32(source - 1) / np.float32(max(target - 1, 1))
    position = np.arange(target, dtype=np.float32) * scale
    first = position.astype(np.intp)
    return first, position - first.astype(np.float32)


def _to_unit(values: np.ndarray) -> np.ndarray:
    """Return uint8 or float values as a new float32 array in [0, 1]."""
    floats = np.array(values, np.float32, order="C")
    return np.divide(floats, np.float32(255), out=floats) if values.dtype == np.uint8 else floats


def _row(like: Array, *values: float | np.float32, double: bool = False) -> Array:
    """Return four values in the library (torch or numpy) and dtype of `like`, or as doubles."""
    floats = [float(value) for value in values]
    if is_tensor(like):
        import torch

        return like.new_tensor(floats, dtype=torch.float64 if double else like.dtype)
    return np.array(floats, np.float64 if double else like.dtype)


def _cast_like(like: Array, values: Array) -> Array:
    """Cast values to the dtype of `like`."""
    return values.to(like.dtype) if is_tensor(like) else values.astype(like.dtype)
