"""Pictures: reading any file into RGB, and placing a picture on a canvas with its boxes.

A picture is uint8 (H, W, 3) RGB. `Placement` is the one rule that maps pixels of a picture to pixels of a
canvas and back; letterboxing, Darknet's crops and its placing are all placements.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from yolo9k.errors import DataError

GREY = 128  # Darknet fills its canvas with .5
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

cv2.setNumThreads(0)  # workers are the parallelism; OpenCV's own threads would fight them for the cores


def is_picture(path: Path) -> bool:
    """Whether a file's name says that it is a picture."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read_image(path: str | Path) -> np.ndarray:
    """A picture file as uint8 (H, W, 3) RGB, turned as its EXIF orientation says.

    Grey, palette, CMYK and 16-bit pictures are converted; transparency is laid on grey. Raises `DataError`
    naming the file where it is missing, not a picture, or cut off.
    """
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not a picture that can be read") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such picture") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as a picture: {error}") from error


def read_size_wh(path: str | Path) -> tuple[int, int]:
    """Width and height of a picture as `read_image` gives it, from its header alone.

    Raises `DataError` as `read_image` does.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such picture") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a picture that can be read") from error
    return (height, width) if turned else (width, height)


def to_rgb(image: Image.Image) -> np.ndarray:
    """A Pillow image of any mode as uint8 (H, W, 3) RGB, EXIF orientation applied."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        return np.repeat(_eight_bits(np.asarray(turned))[..., None], 3, axis=2)
    if turned.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in turned.info:
        rgba = turned.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (GREY, GREY, GREY, 255))
        turned = Image.alpha_composite(canvas, rgba)
    return np.asarray(turned.convert("RGB"))


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Deep grey values to uint8: 16-bit ones by their upper byte, others by their own range."""
    grey = grey.astype(np.float64)
    top = grey.max(initial=0.0)
    scale = 255 / 65535 if 255 < top <= 65535 else (1.0 if top > 1 else 255.0)
    if top > 65535:
        scale = 255 / top
    return np.clip(np.rint(grey * scale), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Placement:
    """Where a picture lands on a canvas: x' = x * `scale_xy`[0] + `offset_xy`[0], y likewise, in pixels."""

    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]

    def to_canvas(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes of the picture, (N, 4), in pixels of the canvas."""
        return (xyxy * np.array(self.scale_xy * 2) + np.array(self.offset_xy * 2)).astype(np.float32)

    def to_picture(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes on the canvas, (N, 4), in pixels of the picture: the inverse of `to_canvas`."""
        return ((xyxy - np.array(self.offset_xy * 2)) / np.array(self.scale_xy * 2)).astype(np.float32)


def letterbox_placement(picture_wh: tuple[int, int], canvas_wh: tuple[int, int]) -> Placement:
    """The largest placement without distortion, centred (Darknet `letterbox_image`, integers truncated)."""
    (w, h), (canvas_w, canvas_h) = picture_wh, canvas_wh
    if canvas_w * h < canvas_h * w:
        new_w, new_h = canvas_w, max(1, h * canvas_w // w)
    else:
        new_w, new_h = max(1, w * canvas_h // h), canvas_h
    return Placement((new_w / w, new_h / h), ((canvas_w - new_w) // 2, (canvas_h - new_h) // 2))


def place(image: np.ndarray, placement: Placement, canvas_wh: tuple[int, int]) -> np.ndarray:
    """The picture on a grey canvas (canvas_h, canvas_w, 3); what lies outside the canvas is cut off.

    Shrinking averages over areas, enlarging interpolates; target edges are rounded to whole pixels.
    """
    h, w = image.shape[:2]
    left, right = _visible(w, placement.scale_xy[0], placement.offset_xy[0], canvas_wh[0])
    top, bottom = _visible(h, placement.scale_xy[1], placement.offset_xy[1], canvas_wh[1])
    canvas = np.full((canvas_wh[1], canvas_wh[0], 3), GREY, np.uint8)
    if right.canvas <= left.canvas or bottom.canvas <= top.canvas:
        return canvas
    source = image[top.picture : bottom.picture, left.picture : right.picture]
    target_wh = (right.canvas - left.canvas, bottom.canvas - top.canvas)
    canvas[top.canvas : bottom.canvas, left.canvas : right.canvas] = resize(source, target_wh)
    return canvas


def resize(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """The picture at another size: areas averaged when it shrinks, linear when it grows."""
    h, w = image.shape[:2]
    if (w, h) == size_wh:
        return image
    shrinks = size_wh[0] * size_wh[1] < w * h
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


@dataclass(frozen=True)
class _Edge:
    picture: int
    canvas: int


def _visible(length: int, scale: float, offset: float, canvas: int) -> tuple[_Edge, _Edge]:
    """The part of one axis that shows: its first and last edge, in pixels of the picture and of the canvas."""
    first = min(max(int((0 - offset) / scale), 0), length)
    last = min(max(int(np.ceil((canvas - offset) / scale)), 0), length)
    start = min(max(round(first * scale + offset), 0), canvas)
    stop = min(max(round(last * scale + offset), 0), canvas)
    return _Edge(first, start), _Edge(max(last, first + 1) if first < length else last, stop)
