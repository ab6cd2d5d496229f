"""Images: reading any file into RGB, and placing an image on a canvas with its boxes.

An image is uint8 (H, W, 3) RGB. `Placement` is the one rule that maps pixels of an image to pixels of a
canvas and back; letterboxing, Darknet's crops and its placing are all placements.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from yolo9k.errors import DataError

GREY = 128  # Darknet fills its canvas with .5
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes
EXACT = 1e-6  # pixels: what floats make of a whole number
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")

cv2.setNumThreads(0)  # workers are the parallelism; OpenCV's own threads would fight them for the cores


def is_image_file(path: Path) -> bool:
    """Whether a file's name says that it is an image."""
    return is_image_name(path.name)


def is_image_name(name: str) -> bool:
    """Whether a name, without its folder, is that of an image; for millions of files a `Path` is slow."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


@dataclass(frozen=True)
class FilePart:
    """An image that lies in a larger file, such as a tar file: `size` bytes from byte `offset` on.

    The file is opened for each reading: nothing is shared between threads or processes.
    """

    path: Path
    offset: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.path}: {self.name}"

    def read_bytes(self) -> bytes:
        """Its bytes. Raises `OSError` where the file cannot be read or has become shorter."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError(f"the file ends {self.size - len(content)} bytes before the image does")
        return content


ImageSource = Path | FilePart


def read_image(source: str | ImageSource) -> np.ndarray:
    """An image file, or the part of one that is an image, as uint8 (H, W, 3) RGB, turned as its EXIF data say.

    Grey, palette, CMYK and 16-bit images are converted; transparency is laid on grey. Raises `DataError`
    naming the file where it is missing, not an image, or cut off.
    """
    with _opened(source) as image:
        return to_rgb(image)


def read_size_wh(source: str | ImageSource) -> tuple[int, int]:
    """Width and height of an image as `read_image` gives it, from its header alone.

    Raises `DataError` as `read_image` does.
    """
    with _opened(source) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return (height, width) if turned else (width, height)


@contextmanager
def _opened(source: str | ImageSource) -> Iterator[Image.Image]:
    """The image as Pillow opens it; what goes wrong, also later, is a `DataError` naming it."""
    try:
        with Image.open(io.BytesIO(source.read_bytes()) if isinstance(source, FilePart) else source) as image:
            yield image
    except UnidentifiedImageError as error:
        raise DataError(f"{source}: not an image that can be read") from error
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such image") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{source}: cannot be read as an image: {error}") from error


def to_rgb(image: Image.Image) -> np.ndarray:
    """A Pillow image of any mode as uint8 (H, W, 3) RGB, EXIF orientation applied."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode in (*SIXTEEN_BITS, "I", "F"):
        return np.repeat(_eight_bits(turned)[..., None], 3, axis=2)
    if turned.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in turned.info:
        rgba = turned.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (GREY, GREY, GREY, 255))
        turned = Image.alpha_composite(canvas, rgba)
    return np.asarray(turned.convert("RGB"))


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Deep grey values to uint8: 16-bit ones by their upper byte, others (whose range is not told) by their largest."""
    grey = np.asarray(image)
    if image.mode in SIXTEEN_BITS:
        return (grey >> 8).astype(np.uint8)
    top = grey.max(initial=0)
    full = next((full for full in (1, 255, 65535) if top <= full), top)
    return np.clip(np.rint(grey * (255 / full)), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Placement:
    """Where an image lands on a canvas: x' = x * `scale_xy`[0] + `offset_xy`[0], y likewise, in pixels."""

    scale_xy: tuple[float, float]
    offset_xy: tuple[float, float]

    def to_canvas(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes of the image, (N, 4), in pixels of the canvas."""
        return (xyxy * np.array(self.scale_xy * 2) + np.array(self.offset_xy * 2)).astype(np.float32)

    def to_image(self, xyxy: np.ndarray) -> np.ndarray:
        """Boxes on the canvas, (N, 4), in pixels of the image: the inverse of `to_canvas`."""
        return ((xyxy - np.array(self.offset_xy * 2)) / np.array(self.scale_xy * 2)).astype(np.float32)


def letterbox_placement(image_wh: tuple[int, int], canvas_wh: tuple[int, int]) -> Placement:
    """The largest placement without distortion, centred (Darknet `letterbox_image`, integers truncated)."""
    (w, h), (canvas_w, canvas_h) = image_wh, canvas_wh
    if canvas_w * h < canvas_h * w:
        new_w, new_h = canvas_w, max(1, h * canvas_w // w)
    else:
        new_w, new_h = max(1, w * canvas_h // h), canvas_h
    return Placement((new_w / w, new_h / h), ((canvas_w - new_w) // 2, (canvas_h - new_h) // 2))


def crop_placement(xywh: tuple[int, int, int, int], canvas_wh: tuple[int, int]) -> Placement:
    """That which stretches a part of the image (left, top, width, height) over the canvas."""
    x, y, w, h = xywh
    scale_x, scale_y = canvas_wh[0] / w, canvas_wh[1] / h
    return Placement((scale_x, scale_y), (-x * scale_x, -y * scale_y))


def centre_placement(image_wh: tuple[int, int], canvas_wh: tuple[int, int]) -> Placement:
    """That of the largest part in the middle that has the canvas's aspect (Darknet `center_crop_image`)."""
    (w, h), (canvas_w, canvas_h) = image_wh, canvas_wh
    part_w = max(1, min(w, round(h * canvas_w / canvas_h)))
    part_h = max(1, min(h, round(w * canvas_h / canvas_w)))
    return crop_placement(((w - part_w) // 2, (h - part_h) // 2, part_w, part_h), canvas_wh)


def centre(image: np.ndarray, canvas_wh: tuple[int, int]) -> np.ndarray:
    """What a classifier looks at: the middle, the shorter side scaled to the canvas's; (canvas_h, canvas_w, 3)."""
    return place(image, centre_placement((image.shape[1], image.shape[0]), canvas_wh), canvas_wh)


def place(image: np.ndarray, placement: Placement, canvas_wh: tuple[int, int]) -> np.ndarray:
    """The image on a grey canvas (canvas_h, canvas_w, 3); what lies outside the canvas is cut off.

    Shrinking averages over areas, enlarging interpolates; target edges are rounded to whole pixels.
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
    """The image at another size: areas averaged when it shrinks, linear when it grows."""
    h, w = image.shape[:2]
    if (w, h) == size_wh:
        return image
    shrinks = size_wh[0] * size_wh[1] < w * h
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


@dataclass(frozen=True)
class _Span:
    """The pixels of one axis that show: `source` of the image cover `length` pixels of the canvas from `start` on.

    Pixels are whole: an enlarged one may reach over the border of the canvas.
    """

    source: slice
    start: int
    length: int

    def cut(self, canvas: int) -> slice:
        """The part of the `length` pixels that lies on the canvas."""
        return slice(max(-self.start, 0), max(canvas - self.start, 0))


def _visible(length: int, scale: float, offset: float, canvas: int) -> _Span:
    first = min(max(int(np.floor(-offset / scale + EXACT)), 0), length)
    last = min(max(int(np.ceil((canvas - offset) / scale - EXACT)), first), length)
    start, stop = (round(edge * scale + offset) for edge in (first, last))
    return _Span(slice(first, last), start, stop - start if last > first else 0)
