"""Darknet's image operations of training (`image.c`) in numpy float32: place, rotate and crop, flip, distort.

Functions take an image as uint8 (H, W, 3) RGB, which is divided by 255, or as floats in [0, 1]: (3, H, W), or (H, W, 3)
if the first axis is not 3 long. They return a new float32 (3, H, W). Sizes are (width, height) and offsets (x, y), in
pixels.
"""

import numpy as np


def to_chw(image: np.ndarray) -> np.ndarray:
    """Return an image as a new float32 (3, H, W) in [0, 1] (`load_image_stb`)."""
    is_bytes = image.dtype == np.uint8
    channels_last = is_bytes or image.shape[0] != 3
    floats = np.array(image.transpose(2, 0, 1) if channels_last else image, np.float32, order="C")
    return floats / np.float32(255) if is_bytes else floats


def grey_canvas(size_wh: tuple[int, int]) -> np.ndarray:
    """Return a grey canvas (3, H, W): all .5."""
    return np.full((3, size_wh[1], size_wh[0]), 0.5, np.float32)


def place(image: np.ndarray, size_wh: tuple[int, int], offset_xy: tuple[int, int], canvas: np.ndarray) -> np.ndarray:
    """Return a copy of the canvas with the image at `size_wh` pasted at the offset (`place_image`), cropped to fit.

    Bilinear, zero outside the image: an enlarged image fades to black at its right and bottom border. A width or
    height of 0 or less pastes nothing.
    """
    placed, source = to_chw(canvas), to_chw(image)
    _, h, w = source.shape
    (new_w, new_h), (left, top) = size_wh, offset_xy
    columns = np.arange(max(0, -left), min(new_w, placed.shape[2] - left))
    rows = np.arange(max(0, -top), min(new_h, placed.shape[1] - top))
    if len(columns) and len(rows):
        x = columns.astype(np.float32) / np.float32(new_w) * np.float32(w)
        y = rows.astype(np.float32) / np.float32(new_h) * np.float32(h)
        placed[:, rows[0] + top : rows[-1] + top + 1, columns[0] + left : columns[-1] + left + 1] = _interpolate(
            source, x[None, :], y[:, None]
        )
    return placed


def rotate_crop(
    image: np.ndarray,
    radians: float,
    scale: float,
    size_wh: tuple[int, int],
    offset_xy: tuple[float, float],
    aspect: float,
) -> np.ndarray:
    """Return a rotated, scaled and stretched crop of `size_wh` around the centre plus offset (`rotate_crop_image`).

    Bilinear, zero outside the image.
    """
    source = to_chw(image)
    _, h, w = source.shape
    # Darknet's arguments are floats but its constants are doubles: only the offset is computed in float.
    s, stretch = np.float32(scale), np.float32(aspect)
    dx, dy = np.float32(offset_xy[0]) / s * stretch, np.float32(offset_xy[1]) / s
    across = (np.arange(size_wh[0]) - size_wh[0] / 2) / float(s) * float(stretch) + float(dx)
    down = ((np.arange(size_wh[1]) - size_wh[1] / 2) / float(s) + float(dy))[:, None]
    sin, cos = np.sin(float(np.float32(radians))), np.cos(float(np.float32(radians)))
    x = cos * across - sin * down + w / 2
    y = sin * across + cos * down + h / 2
    return _interpolate(source, x.astype(np.float32), y.astype(np.float32))


def _interpolate(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample (3, H, W) at float32 positions that broadcast to (rows, columns) (`bilinear_interpolate`).

    Zero outside the image.
    """
    _, h, w = image.shape
    padded = np.pad(image, ((0, 0), (1, 1), (1, 1))).reshape(3, -1)
    left, top = np.floor(x), np.floor(y)
    dx, dy = x - left, y - top

    def pixel(right: int, down: int) -> np.ndarray:
        column = np.clip(left + right, -1, w).astype(np.intp) + 1
        row = np.clip(top + down, -1, h).astype(np.intp) + 1
        return padded.take(row * (w + 2) + column, axis=1)

    result: np.ndarray = (1 - dy) * (1 - dx) * pixel(0, 0)
    result += dy * (1 - dx) * pixel(0, 1)
    result += (1 - dy) * dx * pixel(1, 0)
    result += dy * dx * pixel(1, 1)
    return result


def flip(image: np.ndarray) -> np.ndarray:
    """Flip an image horizontally (`flip_image`)."""
    return to_chw(image)[:, :, ::-1].copy()


def distort(image: np.ndarray, hue: float, saturation: float, exposure: float) -> np.ndarray:
    """Shift the hue (1 is a full turn), multiply saturation and value (`distort_image`).

    The saturation may exceed 1 in between; the result is clipped to [0, 1] at the end.
    """
    h, s, v = _rgb_to_hsv(to_chw(image))
    h = h + np.float32(hue)
    h = np.where(h > 1, h - 1, h)  # wraps once, and 1 itself stays
    h = np.where(h < 0, h + 1, h)
    return np.clip(_hsv_to_rgb(h, s * np.float32(saturation), v * np.float32(exposure)), 0, 1)


def _rgb_to_hsv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hue, saturation and value in [0, 1] (`rgb_to_hsv`); the hue of grey is 0 (0/0 in Darknet)."""
    r, g, b = rgb
    value = rgb.max(axis=0)
    delta = value - rgb.min(axis=0)
    range_ = np.where(delta > 0, delta, np.float32(1))
    hue = np.where(r == value, (g - b) / range_, np.where(g == value, 2 + (b - r) / range_, 4 + (r - g) / range_))
    hue = np.where(hue < 0, hue + 6, hue) / 6
    return hue, delta / np.where(value > 0, value, np.float32(1)), value


def _hsv_to_rgb(hue: np.ndarray, s: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Invert `_rgb_to_hsv`, to (3, H, W) (`hsv_to_rgb`)."""
    sixth = 6 * hue
    index = np.floor(sixth)
    part = sixth - index
    p, q, t = v * (1 - s), v * (1 - s * part), v * (1 - s * (1 - part))
    sector = np.where((index < 0) | (index > 5), 5, index).astype(np.intp)  # Darknet's last branch takes all others
    columns = ((v, q, p, p, t, v), (t, v, v, q, p, p), (p, p, t, v, v, q))
    return np.stack([np.choose(sector, column) for column in columns])
