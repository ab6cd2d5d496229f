"""Read image files as RGB, and letterbox, crop or place images on a canvas with their boxes.

An image is uint8 (H, W, 3) RGB. `Placement` is the one mapping from pixels of an image to pixels of a canvas and back:
letterboxing and Darknet's crop and place augmentations are all placements.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from yolo9k.errors import DataError

GREY = 128  # Darknet fills its canvas with .5
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes
EXACT = 1e-6  # pixels: tolerance for a whole number in floating point
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

ResizeMode = Literal["letterbox", "stretch"]

cv2.setNumThreads(0)  # workers run in parallel; OpenCV's own threads would compete with them for the cores


def is_image_file(path: Path) -> bool:
    """Return whether a path has the suffix of an image."""
    return is_image_name(path.name)


def is_image_name(name: str) -> bool:
    """Return whether a file name has the suffix of an image; for millions of files a `Path` is slow."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


@dataclass(frozen=True)
class FilePart:
    """An image inside a larger file such as a tar file: `size` bytes from byte `offset`.

    Each read opens the file anew, so nothing is shared between threads or processes.
    """

    path: Path
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"

    def read_bytes(self) -> bytes:
        """Return its bytes. Raises `OSError` if the file cannot be read or has become shorter."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError(f"the file ends {self.size - len(content)} bytes before the image does")
        return content


ImageSource = Path | FilePart


def read_image(source: str | ImageSource) -> np.ndarray:
    """Read an image as uint8 (H, W, 3) RGB, with its EXIF orientation applied.

    Grey, palette, CMYK and 16-bit images are converted; transparency is blended with grey. Raises `DataError` naming
    the file if it is missing, not an image, or truncated.
    """
    with _opened(source) as image:
        return to_rgb(image)


def read_size_wh(source: str | ImageSource) -> tuple[int, int]:
    """Return width and height of an image as `read_image` would return it, from its header alone.

    Raises `DataError` as `read_image` does.
    """
    with _opened(source) as image:
        width, height = image.size
        is_rotated = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (height, width) if is_rotated else (width, height)


@contextmanager
def _opened(source: str | ImageSource) -> Iterator[Image.Image]:
    """Open an image with Pillow; any error in the block becomes a `DataError` naming it."""
    try:
        with Image.open(io.BytesIO(source.read_bytes()) if isinstance(source, FilePart) else source) as image:
            yield image
    except UnidentifiedImageError as error:
        raise DataError(f"{source}: not a readable image") from error
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such image") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{source}: cannot be read as an image: {error}") from error


def to_rgb(image: Image.Image) -> np.ndarray:
    """Convert a Pillow image of any mode to uint8 (H, W, 3) RGB, with its EXIF orientation applied."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode in (*SIXTEEN_BITS, "I", "F"):
        return np.repeat(_eight_bits(turned)[..., None], 3, axis=2)
    if turned.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in turned.info:
        rgba = turned.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (GREY, GREY, GREY, 255))
        turned = Image.alpha_composite(canvas, rgba)
    return np.asarray(turned.convert("RGB"))


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Convert deep grey values to uint8: 16-bit by their upper byte, others (of unknown range) by their maximum."""
    grey = np.asarray(image)
    if image.mode in SIXTEEN_BITS:
        return (grey >> 8).astype(np.uint8)
    top = grey.max(initial=0)
    full = next((full for full in (1, 255, 65535) if top <= full), top)
    return np.clip(np.rint(grey * (255 / full)), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Placement:
    """The position of an image on a canvas: x' = x * `scale_xy`[0] + `offset_xy`[0], y likewise, in pixels."""

    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]

    def to_canvas(self, xyxy: np.ndarray) -> np.ndarray:
        """Map boxes (N, 4) from the image to the canvas."""
        return (xyxy * np.array(self.scale_xy * 2) + np.array(self.offset_xy * 2)).astype(np.float32)

    def to_image(self, xyxy: np.ndarray) -> np.ndarray:
        """Map boxes (N, 4) from the canvas to the image: the inverse of `to_canvas`."""
        return ((xyxy - np.array(self.offset_xy * 2)) / np.array(self.scale_xy * 2)).astype(np.float32)


def letterbox_placement(image_wh: tuple[int, int], canvas_wh: tuple[int, int]) -> Placement:
    """Return the largest centred placement that keeps the aspect ratio (Darknet `letterbox_image`, truncated)."""
    (w, h), (canvas_w, canvas_h) = image_wh, canvas_wh
    if canvas_w * h < canvas_h * w:
        new_w, new_h = canvas_w, max(1, h * canvas_w // w)
    else:
        new_w, new_h = max(1, w * canvas_h // h), canvas_h
    return Placement((new_w / w, new_h / h), ((canvas_w - new_w) // 2, (canvas_h - new_h) // 2))


def fit_placement(image_wh: tuple[int, int], canvas_wh: tuple[int, int], mode: ResizeMode = "letterbox") -> Placement:
    """Return the placement of the whole image on the canvas: letterboxed, or stretched over the canvas."""
    if mode == "letterbox":
        return letterbox_placement(image_wh, canvas_wh)
    return crop_placement((0, 0, *image_wh), canvas_wh)


def crop_placement(xywh: tuple[int, int, int, int], canvas_wh: tuple[int, int]) -> Placement:
    """Return the placement that stretches a crop of the image (left, top, width, height) over the canvas."""
    x, y, w, h = xywh
    scale_x, scale_y = canvas_wh[0] / w, canvas_wh[1] / h
    return Placement((scale_x, scale_y), (-x * scale_x, -y * scale_y))


def center_crop_placement(image_wh: tuple[int, int], canvas_wh: tuple[int, int]) -> Placement:
    """Return the placement of the largest centre crop with the canvas's aspect ratio (Darknet `center_crop_image`)."""
    (w, h), (canvas_w, canvas_h) = image_wh, canvas_wh
    part_w = max(1, min(w, round(h * canvas_w / canvas_h)))
    part_h = max(1, min(h, round(w * canvas_h / canvas_w)))
    return crop_placement(((w - part_w) // 2, (h - part_h) // 2, part_w, part_h), canvas_wh)


def resize_center_crop(image: np.ndarray, canvas_wh: tuple[int, int]) -> np.ndarray:
    """Scale the shorter side to the canvas and crop the centre, as classifiers do; (canvas_h, canvas_w, 3)."""
    return apply_placement(image, center_crop_placement((image.shape[1], image.shape[0]), canvas_wh), canvas_wh)


def apply_placement(image: np.ndarray, placement: Placement, canvas_wh: tuple[int, int]) -> np.ndarray:
    """Draw the image on a grey canvas (canvas_h, canvas_w, 3); parts outside the canvas are cut off.

    Shrinking averages areas, enlarging interpolates linearly; edges are rounded to whole pixels.
    """
    h, w = image.shape[:2]
    across = _visible(w, placement.scale_xy[0], placement.offset_xy[0], canvas_wh[0])
    down = _visible(h, placement.scale_xy[1], placement.offset_xy[1], canvas_wh[1])
    canvas = np.full((canvas_wh[1], canvas_wh[0], 3), GREY, np.uint8)
    if not across.length or not down.length:
        return canvas
    shown = resize(image[down.source, across.source], (across.length, down.length))
    cut = shown[down.cut(canvas_wh[1]), across.cut(canvas_wh[0])]
    top, left = max(down.start, 0), max(across.start, 0)
    canvas[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
    return canvas


def resize(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Resize an image: area averaging if it shrinks, linear interpolation if it grows."""
    h, w = image.shape[:2]
    if (w, h) == size_wh:
        return image
    shrinks = size_wh[0] * size_wh[1] < w * h
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


@dataclass(frozen=True)
class _Span:
    """The visible pixels of one axis: `source` of the image covers `length` pixels of the canvas from `start`.

    Pixels are whole, so an enlarged pixel may extend beyond the canvas.
    """

    source: slice
    start: int
    length: int

    def cut(self, canvas: int) -> slice:
        """Return the part of the `length` pixels that is on the canvas."""
        return slice(max(-self.start, 0), max(canvas - self.start, 0))


def _visible(length: int, scale: float, offset: float, canvas: int) -> _Span:
    first = min(max(int(np.floor(-offset / scale + EXACT)), 0), length)
    last = min(max(int(np.ceil((canvas - offset) / scale - EXACT)), first), length)
    start, stop = (round(edge * scale + offset) for edge in (first, last))
    return _Span(slice(first, last), start, stop - start if last > first else 0)
