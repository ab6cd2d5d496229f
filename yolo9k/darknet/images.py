"""Darknet's own image arithmetic (`image.c`, `data.c`), in float32 and in its order of operations.

**Images.** Every function takes an image either as uint8 (H, W, 3) RGB, which is divided by 255 as
`load_image_color` does, or as floats in [0, 1]: (3, H, W), Darknet's own layout, or (H, W, 3) unless the first
axis is 3 long, too. Every function returns a new float32 (3, H, W), so results can be passed on. Sizes are
(width, height), offsets (x, y), both in pixels.

Random numbers are arguments; `reference.augment` draws them.

All functions raise `ConfigError` for an array that is no such image and for sizes below one pixel.
"""

from typing import Literal

import numpy as np
import torch

from yolo9k.boxes import Array
from yolo9k.errors import ConfigError

LastRow = Literal["right", "darknet"]

GREY = 0.5  # what surrounds a letterboxed or placed image


def to_chw(image: np.ndarray) -> np.ndarray:
    """An image as float32 (3, H, W) in [0, 1] (`load_image_stb`)."""
    return _unit(_planes(image))


def _planes(image: np.ndarray) -> np.ndarray:
    """The image's channels as a view (3, H, W) of bytes or floats."""
    image = np.asarray(image)
    if image.ndim == 3 and image.size:
        if image.dtype == np.uint8 and image.shape[2] == 3:
            return image.transpose(2, 0, 1)
        if np.issubdtype(image.dtype, np.floating) and 3 in (image.shape[0], image.shape[2]):
            return image if image.shape[0] == 3 else image.transpose(2, 0, 1)
    found = f"{image.dtype} {image.shape}"
    raise ConfigError(f"an image is uint8 (H, W, 3) RGB or floats (3, H, W) of at least one pixel, not {found}")


def _unit(values: np.ndarray) -> np.ndarray:
    """Bytes or floats of an image as a new array, float32 in [0, 1]."""
    floats = np.array(values, np.float32, order="C")
    return np.divide(floats, np.float32(255), out=floats) if values.dtype == np.uint8 else floats


def _check_size(size_wh: tuple[int, int]) -> None:
    if min(size_wh) < 1:
        raise ConfigError(f"an image is at least 1 pixel wide and high, not {size_wh[0]}x{size_wh[1]}")


def resize(image: np.ndarray, size_wh: tuple[int, int], *, last_row: LastRow = "right") -> np.ndarray:
    """The image at another size (`resize_image`): linear between pixels, corners on corners, no antialiasing.

    Where Darknet's float32 position of the last row falls just short of the image's last row, it leaves out
    nearly all of it and the row is nearly black. `last_row`: "darknet" does the same; "right" adds what is missing.
    A height of 1, with which Darknet reads outside its memory, gives the first row.
    """
    return _resize(_planes(image), size_wh, last_row)


def _resize(planes: np.ndarray, size_wh: tuple[int, int], last_row: LastRow) -> np.ndarray:
    _check_size(size_wh)
    h, (width, height) = planes.shape[1], size_wh
    upper, share = _positions(h, height)
    lower = np.minimum(upper + 1, h - 1)
    lower_share = np.where(upper + 1 < h, share, np.float32(0))
    if last_row == "darknet":
        lower_share[-1] = 0
    rows, number = np.unique(np.stack([upper, lower]), return_inverse=True)  # a small target skips most rows
    upper, lower = number.reshape(2, height)
    part = _resize_across(planes[:, rows], width)
    return (1 - share)[:, None] * part[:, upper] + lower_share[:, None] * part[:, lower]


def _resize_across(planes: np.ndarray, width: int) -> np.ndarray:
    w = planes.shape[2]
    left, share = _positions(w, width)
    right = np.minimum(left + 1, w - 1)
    part: np.ndarray = (1 - share) * _unit(planes[:, :, left]) + share * _unit(planes[:, :, right])
    part[:, :, -1] = _unit(planes[:, :, -1])  # Darknet copies the last column; so a width of 1 gives it, too
    return part


def _positions(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Of `target` pixels, the `source` pixel at or before each, and how far each lies beyond it (float32)."""
    scale = np.float32(source - 1) / np.float32(max(target - 1, 1))
    position = np.arange(target, dtype=np.float32) * scale
    first = position.astype(np.intp)
    return first, position - first.astype(np.float32)


def letterbox_wh(image_wh: tuple[int, int], canvas_wh: tuple[int, int]) -> tuple[int, int]:
    """The size of an image letterboxed into a canvas (`letterbox_image`, `correct_region_boxes`): truncated integers.

    At least 1 pixel, where Darknet can come to 0 (and leaves out the image, or divides by 0).
    """
    _check_size(image_wh)
    _check_size(canvas_wh)
    (w, h), (canvas_w, canvas_h) = image_wh, canvas_wh
    if np.float32(canvas_w) / np.float32(w) < np.float32(canvas_h) / np.float32(h):
        return canvas_w, max(1, h * canvas_w // w)
    return max(1, w * canvas_h // h), canvas_h


def letterbox(image: np.ndarray, size_wh: tuple[int, int], *, last_row: LastRow = "right") -> np.ndarray:
    """The image in the middle of a grey canvas of `size_wh`, its aspect kept (`letterbox_image`).

    `last_row` as in `resize`.
    """
    _, h, w = _planes(image).shape
    new_w, new_h = letterbox_wh((w, h), size_wh)
    left, top = (size_wh[0] - new_w) // 2, (size_wh[1] - new_h) // 2
    canvas = grey(size_wh)
    canvas[:, top : top + new_h, left : left + new_w] = resize(image, (new_w, new_h), last_row=last_row)
    return canvas


def grey(size_wh: tuple[int, int]) -> np.ndarray:
    """An empty canvas, all .5."""
    _check_size(size_wh)
    return np.full((3, size_wh[1], size_wh[0]), GREY, np.float32)


def center_crop(image: np.ndarray, size_wh: tuple[int, int], *, last_row: LastRow = "right") -> np.ndarray:
    """The largest square in the middle, resized (`center_crop_image`); `last_row` as in `resize`."""
    planes = _planes(image)
    _, h, w = planes.shape
    side = min(w, h)
    left, top = (w - side) // 2, (h - side) // 2
    return _resize(planes[:, top : top + side, left : left + side], size_wh, last_row)


def place(image: np.ndarray, size_wh: tuple[int, int], offset_xy: tuple[int, int], canvas: np.ndarray) -> np.ndarray:
    """A copy of the canvas with the image at `size_wh` laid on it (`place_image`); what reaches over is cut off.

    Linear between pixels, zero outside the image: an enlarged one fades to black at its right and lower border.
    A width or height of 0 or less lays down nothing.
    """
    placed, planes = to_chw(canvas), _planes(image)
    _, h, w = planes.shape
    (new_w, new_h), (left, top) = size_wh, offset_xy
    columns = np.arange(max(0, -left), min(new_w, placed.shape[2] - left))
    rows = np.arange(max(0, -top), min(new_h, placed.shape[1] - top))
    if len(columns) and len(rows):
        x = columns.astype(np.float32) / np.float32(new_w) * np.float32(w)
        y = rows.astype(np.float32) / np.float32(new_h) * np.float32(h)
        placed[:, rows[0] + top : rows[-1] + top + 1, columns[0] + left : columns[-1] + left + 1] = _interpolate(
            planes, x[None, :], y[:, None]
        )
    return placed


def _interpolate(planes: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Values at float32 places that broadcast to (rows, columns) (`bilinear_interpolate`): zero outside."""
    _, h, w = planes.shape
    framed = np.pad(planes, ((0, 0), (1, 1), (1, 1))).reshape(3, -1)
    left, top = np.floor(x), np.floor(y)
    dx, dy = x - left, y - top

    def pixel(right: int, down: int) -> np.ndarray:
        column = np.clip(left + right, -1, w).astype(np.intp) + 1
        row = np.clip(top + down, -1, h).astype(np.intp) + 1
        return _unit(framed.take(row * (w + 2) + column, axis=1))

    result: np.ndarray = (1 - dy) * (1 - dx) * pixel(0, 0)
    result += dy * (1 - dx) * pixel(0, 1)
    result += (1 - dy) * dx * pixel(1, 0)
    result += dy * dx * pixel(1, 1)
    return result


def rotate_crop(
    image: np.ndarray,
    radians: float,
    scale: float,
    size_wh: tuple[int, int],
    offset_xy: tuple[float, float],
    aspect: float,
) -> np.ndarray:
    """A turned, scaled and stretched cut-out around the image's middle, moved by the offset (`rotate_crop_image`).

    Linear between pixels, zero outside. `scale` and `aspect` are above 0, else `ConfigError`.
    """
    _check_size(size_wh)
    if not (scale > 0 and aspect > 0):
        raise ConfigError(f"scale and aspect are above 0, not {scale} and {aspect}")
    planes = _planes(image)
    _, h, w = planes.shape
    # Darknet's arguments are floats, but its constants doubles: all but the offset's part is computed in double.
    s, stretch = np.float32(scale), np.float32(aspect)
    dx, dy = np.float32(offset_xy[0]) / s * stretch, np.float32(offset_xy[1]) / s
    across = (np.arange(size_wh[0]) - size_wh[0] / 2) / float(s) * float(stretch) + float(dx)
    down = ((np.arange(size_wh[1]) - size_wh[1] / 2) / float(s) + float(dy))[:, None]
    sin, cos = np.sin(float(np.float32(radians))), np.cos(float(np.float32(radians)))
    x = cos * across - sin * down + w / 2
    y = sin * across + cos * down + h / 2
    return _interpolate(planes, x.astype(np.float32), y.astype(np.float32))


def flip(image: np.ndarray) -> np.ndarray:
    """Left and right swapped (`flip_image`)."""
    return _unit(_planes(image)[:, :, ::-1])


def distort(image: np.ndarray, hue: float, saturation: float, exposure: float) -> np.ndarray:
    """Shift the hue (1 is the whole circle), multiply saturation and value (`distort_image`).

    The saturation may exceed 1 on the way; the result is cut to [0, 1] at the end.
    """
    h, s, v = _rgb_to_hsv(_unit(_planes(image)))
    h = h + np.float32(hue)
    h = np.where(h > 1, h - 1, h)  # once, not a remainder: 1 itself stays
    h = np.where(h < 0, h + 1, h)
    return np.clip(_hsv_to_rgb(h, s * np.float32(saturation), v * np.float32(exposure)), 0, 1)


def _rgb_to_hsv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue, saturation and value in [0, 1] (`rgb_to_hsv`); the hue of grey, which is 0/0 in Darknet, is 0."""
    r, g, b = rgb
    value = rgb.max(axis=0)
    delta = value - rgb.min(axis=0)
    range_ = np.where(delta > 0, delta, np.float32(1))
    hue = np.where(r == value, (g - b) / range_, np.where(g == value, 2 + (b - r) / range_, 4 + (r - g) / range_))
    hue = np.where(hue < 0, hue + 6, hue) / 6
    return hue, delta / np.where(value > 0, value, np.float32(1)), value


def _hsv_to_rgb(hue: np.ndarray, s: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The inverse, (3, H, W) (`hsv_to_rgb`)."""
    sixth = 6 * hue
    index = np.floor(sixth)
    part = sixth - index
    p, q, t = v * (1 - s), v * (1 - s * part), v * (1 - s * (1 - part))
    sector = np.where((index < 0) | (index > 5), 5, index).astype(np.intp)  # Darknet's last branch takes all others
    columns = ((v, q, p, p, t, v), (t, v, v, q, p, p), (p, p, t, v, v, q))
    return np.stack([np.choose(sector, column) for column in columns])


def correct_boxes(cxcywh: Array, image_wh: tuple[int, int], net_wh: tuple[int, int], *, relative: bool = True) -> Array:
    """Boxes (..., 4) relative to a letterboxed network input as boxes of the image (`correct_region_boxes`).

    Centre and size, relative to the image or, with `relative=False`, in its pixels. The border is taken as exactly
    half the rest, while `letterbox` pads by whole pixels: half a pixel of the network off where the rest is odd.
    """
    new_wh = letterbox_wh(image_wh, net_wh)
    border = [(net - new) / 2 / net for net, new in zip(net_wh, new_wh, strict=True)]
    shown = [np.float32(new) / np.float32(net) for net, new in zip(net_wh, new_wh, strict=True)]
    growth = [np.float32(net) / np.float32(new) for net, new in zip(net_wh, new_wh, strict=True)]
    # Darknet computes the centre in double, all the rest in float.
    moved = (cxcywh - _row(cxcywh, *border, 0, 0, double=True)) / _row(cxcywh, *shown, 1, 1, double=True)
    boxes = _as_type(cxcywh, moved) * _row(cxcywh, 1, 1, *growth)
    return boxes if relative else boxes * _row(cxcywh, *image_wh, *image_wh)


def _row(like: Array, *values: float | np.float32, double: bool = False) -> Array:
    """Four numbers in the library and type of `like`, or as doubles."""
    numbers = [float(value) for value in values]
    if isinstance(like, torch.Tensor):
        return like.new_tensor(numbers, dtype=torch.float64 if double else like.dtype)
    return np.array(numbers, np.float64 if double else like.dtype)


def _as_type(like: Array, values: Array) -> Array:
    """Values rounded to the type of `like`."""
    return values.to(like.dtype) if isinstance(like, torch.Tensor) else values.astype(like.dtype)
