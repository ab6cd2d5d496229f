"""Read image files as RGB, and letterbox, crop or place images on a canvas with their boxes.

An image is uint8 (H, W, 3) RGB. `Placement` is the one mapping from pixels of an image to pixels of a canvas and back:
letterboxing and Darknet's crop and place augmentations are all placements.

Files may come from strangers. Only regular files of the raster formats of `FORMATS` are opened: Pillow knows others,
such as EPS, for which it starts programs. Sizes are limited, and so are the pixels that threads decode at once.
"""

import io
import logging
import os
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Literal

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError, features

from yolo9k.errors import ConfigError, DataError, MachineError, Yolo9kError
from yolo9k.io import check_regular, exists, is_file, is_hidden
from yolo9k.pixel_formats import GREY, find_orientation, to_rgb, upright_size_wh

FORMATS = {  # what is opened, by Pillow's name of the format
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "TGA": (".tga",),
    "DIB": (".dib",),
}
WITHOUT_SIGNATURE = ("TGA", "DIB")  # other files may look like them: only opened by their suffixes
FEATURES = {"WEBP": "webp", "JPEG2000": "jpg_2000", "AVIF": "avif"}  # parts of Pillow that a build may lack
HEIF_PLUGIN = "pillow_heif"
HINTS = {  # of formats that may not be readable here
    "WEBP": "install a Pillow with WebP",
    "JPEG2000": "install a Pillow with JPEG 2000",
    "AVIF": "install Pillow 11.3 or newer",
    "HEIF": "install pillow-heif",
}
OTHER_SUFFIXES = (  # images in formats that are never opened
    ".3fr", ".ai", ".arw", ".bpg", ".cr2", ".cr3", ".crw", ".cur", ".dcm", ".dds", ".dng", ".emf", ".eps", ".erf",
    ".exr", ".fits", ".hdr", ".icns", ".ico", ".iiq", ".jls", ".jng", ".jp3", ".jxl", ".jxr", ".kdc", ".mrw", ".nef",
    ".nrw", ".orf", ".pbf", ".pcx", ".pdf", ".pef", ".pfm", ".ps", ".psb", ".psd", ".qoi", ".raf", ".raw", ".rw2",
    ".sgi", ".sr2", ".srf", ".srw", ".svg", ".svgz", ".wdp", ".wmf", ".x3f", ".xbm", ".xcf", ".xpm",
)  # fmt: skip
CONVERT = "convert them to JPEG, PNG or TIFF"
MAX_PIXELS = 178_956_970  # of one image, Pillow's own limit
MAX_PIXELS_VARIABLE = "YOLO9K_MAX_PIXELS"
MAX_PIXELS_IN_FLIGHT = 1 << 27  # decoded at once by all threads; decoding takes 7 to 14 bytes a pixel
EXACT = 1e-6  # pixels: tolerance for a whole number in floating point

ResizeMode = Literal["letterbox", "stretch"]

cv2.setNumThreads(0)  # workers run in parallel; OpenCV's own threads would compete with them for the cores
# What Pillow warns of in odd files (broken EXIF, sizes) is either an error here or does not matter.
warnings.filterwarnings("ignore", module=r"PIL\b")
logging.getLogger("PIL").setLevel(logging.ERROR)


# --- formats


@cache
def readable_formats() -> tuple[str, ...]:
    """Return the formats of `FORMATS` that this installation reads."""
    return tuple(name for name in FORMATS if _can_read(name))


def _can_read(name: str) -> bool:
    if name == "HEIF":
        return _register_heif()
    feature = FEATURES.get(name)
    return feature is None or (feature in {**features.modules, **features.codecs} and bool(features.check(feature)))


def _register_heif() -> bool:
    """Let Pillow read HEIF if its plugin is installed; return whether it can."""
    if find_spec(HEIF_PLUGIN) is None:
        return False
    try:
        import_module(HEIF_PLUGIN).register_heif_opener()
    except (ImportError, OSError):  # a library that it needs is missing
        return False
    return True


@cache
def readable_suffixes() -> tuple[str, ...]:
    """Return the suffixes of images that can be read here, in lower case."""
    return tuple(suffix for name in readable_formats() for suffix in FORMATS[name])


def is_image_file(path: Path) -> bool:
    """Return whether a path has the name of an image; see `is_image_name`."""
    return is_image_name(path.name)


def is_image_name(name: str) -> bool:
    """Return whether a file name is that of a readable image and not hidden; for millions of files a `Path` is slow."""
    return name.lower().endswith(readable_suffixes()) and not is_hidden(name)


def describe_skipped(names: Iterable[str]) -> list[str]:
    """Return a line for each reason for which files with these names are images that cannot be read here, with counts.

    Other files are not counted: "12 .heic files were skipped: install pillow-heif".
    """
    return describe_skipped_suffixes(count_skipped(names))


def count_skipped(names: Iterable[str]) -> "Counter[str]":
    """Count the files with these names that are images that cannot be read here, by suffix."""
    hints = _unreadable_suffixes()
    return Counter(suffix for name in names if (suffix := _suffix(name)) in hints and not is_hidden(name))


def describe_skipped_suffixes(counts: Mapping[str, int]) -> list[str]:
    """Return the lines of `describe_skipped` for the counts of `count_skipped`."""
    by_hint: dict[str, Counter[str]] = {}
    hints = _unreadable_suffixes()
    for suffix, count in counts.items():
        by_hint.setdefault(hints[suffix], Counter())[suffix] += count
    return [_describe(found, hint) for hint, found in sorted(by_hint.items())]


def _describe(found: "Counter[str]", hint: str) -> str:
    parts = [f"{count:,} {suffix}" for suffix, count in sorted(found.items())]
    listed = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    return f"{listed} {'file was' if sum(found.values()) == 1 else 'files were'} skipped: {hint}"


@cache
def _unreadable_suffixes() -> dict[str, str]:
    """Return the suffixes of images that cannot be read here, and what helps."""
    missing = [name for name in FORMATS if name not in readable_formats()]
    return dict.fromkeys(OTHER_SUFFIXES, CONVERT) | {
        suffix: HINTS[name] for name in missing for suffix in FORMATS[name]
    }


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  # for millions of files a `Path` is slow


# --- files


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
    """Read an image as uint8 (H, W, 3) RGB, with its EXIF orientation applied; of several frames the first.

    Grey, palette, CMYK and deep images are converted (see `pixel_formats.py`); transparency is blended with grey.
    Raises `DataError` naming the file if it is missing, not an image, truncated or too large.
    """
    with reading_image(source) as image:
        return image


@contextmanager
def reading_image(source: str | ImageSource) -> Iterator[np.ndarray]:
    """Yield an image as `read_image` returns it; meanwhile it counts among the pixels that threads hold decoded.

    Where many threads read large images, this limits the memory: the next one waits.
    """
    with ExitStack() as held:
        yield _decode(source, held)


def _decode(source: str | ImageSource, held: ExitStack) -> np.ndarray:
    """Decode an image; its pixels are in flight until `held` is closed."""
    with _named_errors(source), _open(source) as image:
        held.enter_context(IN_FLIGHT.holding(image.width * image.height))
        return to_rgb(image, lambda: _open(source))


def read_size_wh(source: str | ImageSource) -> tuple[int, int]:
    """Return width and height of an image as `read_image` would return it, from its header alone.

    Raises `DataError` as `read_image` does.
    """
    with _named_errors(source), _open(source) as image:
        return upright_size_wh(image)


def read_bytes(source: str | ImageSource) -> bytes:
    """Return the bytes of an image file. Raises `DataError` for anything but a regular file."""
    with _named_errors(source):
        return _read_bytes(source)


def _read_bytes(source: str | ImageSource) -> bytes:
    if isinstance(source, FilePart):
        _check_file(source.path)
        return source.read_bytes()
    path = Path(source)
    _check_file(path)
    return path.read_bytes()


def _check_file(path: Path) -> None:
    """Raise an error for anything but a regular file: a pipe or a device would wait for ever."""
    if is_file(path):
        return
    if not exists(path):
        path.stat()  # raises what is wrong
    check_regular(path)


@lru_cache(maxsize=256)
def _formats_of(suffix: str) -> tuple[str, ...]:
    """Return the formats that a file with a suffix may have."""
    return tuple(name for name in readable_formats() if name not in WITHOUT_SIGNATURE or suffix in FORMATS[name])


def read_orientation(source: str | ImageSource) -> int:
    """Return the EXIF orientation of an image file, 1 to 8. Raises `DataError` as `read_image` does."""
    with _named_errors(source), _open(source) as image:
        return find_orientation(image)


@contextmanager
def _open(source: str | ImageSource) -> Iterator[Image.Image]:
    """Open an image with Pillow, by the formats of `FORMATS` alone; its pixels are not decoded yet."""
    Image.MAX_IMAGE_PIXELS = max_pixels() // 2  # Pillow raises an error above twice this number
    # Pillow gets no path: it would map uncompressed files into memory, and scrambles rotated TIFF files when it does.
    with _open_file(source) as file, Image.open(file, formats=_formats_of(_suffix(str(source)))) as image:
        yield image


def _open_file(source: str | ImageSource) -> IO[bytes]:
    if isinstance(source, FilePart):
        return io.BytesIO(_read_bytes(source))
    path = Path(source) if isinstance(source, str) else source
    _check_file(path)
    return path.open("rb")


@contextmanager
def _named_errors(source: str | ImageSource) -> Iterator[None]:
    """Convert whatever opening and decoding raise to a `DataError` that names the image, in one line."""
    try:
        yield
    except Yolo9kError as error:
        named = str(error) if str(source) in str(error) else f"{source}: {error}"
        raise type(error)(named) from error
    except UnidentifiedImageError as error:
        hint = _unreadable_suffixes().get(_suffix(str(source)))
        raise DataError(f"{source}: not a readable image{f'; {hint}' if hint else ''}") from error
    except FileNotFoundError as error:
        raise DataError(f"{source}: no such image") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{source}: {_too_large(error)}") from error
    except MemoryError as error:
        raise MachineError(f"{source}: not enough memory to decode this image") from error
    except OSError as error:
        raise DataError(f"{source}: cannot be read as an image: {error.strerror or error}") from error
    except Exception as error:  # plugins of Pillow raise what the bytes lead them to: struct.error, KeyError, ...
        raise DataError(f"{source}: cannot be read as an image: {error or type(error).__name__}") from error


# --- limits


def max_pixels() -> int:
    """Return how many pixels an image may have: `$YOLO9K_MAX_PIXELS`, by default `MAX_PIXELS`.

    Raises `ConfigError` for anything but a positive whole number.
    """
    text = os.environ.get(MAX_PIXELS_VARIABLE, "").strip()
    if not text:
        return MAX_PIXELS
    if not re.fullmatch(r"[0-9_]{1,18}", text) or not int(text.replace("_", "") or 0):
        raise ConfigError(f"{MAX_PIXELS_VARIABLE}: {text!r} is not a number of pixels, such as 400_000_000")
    return int(text.replace("_", ""))


def allow_pixels(number: int) -> None:
    """Let images have up to `number` pixels in this process and in the processes that it starts."""
    os.environ[MAX_PIXELS_VARIABLE] = str(number)


def _too_large(error: Exception) -> str:
    found = re.search(r"\d+", str(error))  # Pillow's message begins with the number of pixels
    size = f"has {int(found[0]):,} pixels" if found else "is too large"
    return f"{size}, at most {max_pixels():,} are allowed; allow more with --max-pixels or {MAX_PIXELS_VARIABLE}"


class PixelBudget:
    """Limits the pixels that several threads hold at once; an image above the limit waits until it is alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.reset()

    def reset(self) -> None:
        """Forget what is held: the threads of a parent process do not exist in a forked one."""
        self._held = 0
        self._changed = threading.Condition()

    @contextmanager
    def holding(self, pixels: int) -> Iterator[None]:
        """Wait until `pixels` more fit, and hold them during the block."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self._limit)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


IN_FLIGHT = PixelBudget(MAX_PIXELS_IN_FLIGHT)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=IN_FLIGHT.reset)


# --- placements


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
