"""Read image files as RGB: uint8 (H, W, 3).

Files may come from strangers. Only regular files of the formats of `image_formats.py` are opened. Sizes are limited,
and so are the pixels that threads decode at once.

What is shrunk anyway needs no full decoding: `read_reduced` decodes a large JPEG at 1/2, 1/4 or 1/8 of its size.
"""

import ctypes
import io
import logging
import math
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

from yolo9k.errors import ConfigError, DataError, MachineError, Yolo9kError
from yolo9k.image_formats import formats_of, suffix_of, unreadable_suffixes
from yolo9k.io import check_regular, exists, is_file
from yolo9k.pixel_formats import find_orientation, to_rgb, upright_size_wh

MAX_PIXELS = 178_956_970  # of one image, Pillow's own limit
MAX_PIXELS_VARIABLE = "YOLO9K_MAX_PIXELS"
ALLOW_MORE = f"allow more with --max-pixels or {MAX_PIXELS_VARIABLE}"
BYTES_PER_PIXEL = 8  # of the largest files: 16-bit RGBA without compression
REDUCTIONS = (8, 4, 2)  # of a JPEG's sides: what libjpeg can do while it decodes
REDUCIBLE_FORMATS = ("JPEG", "MPO")  # Pillow's names
MIN_REDUCIBLE = 1_000_000  # pixels; a smaller image is decoded in a few milliseconds
OVERSAMPLING = 3  # at least: sides of a reduced image by those that are needed; area averaging does the rest
MAX_PIXELS_IN_FLIGHT = 1 << 27  # decoded at once by all threads; decoding takes 7 to 14 bytes a pixel
# What Pillow warns of in odd files (broken EXIF, sizes) is either an error here or does not matter.
warnings.filterwarnings("ignore", module=r"PIL\b")
logging.getLogger("PIL").setLevel(logging.CRITICAL)


def _silence_libtiff() -> None:
    """Keep libtiff from printing what is wrong with a file on standard error: Pillow's error says it, too."""
    with suppress(OSError, AttributeError):  # another build of Pillow, which does not show the library
        library = ctypes.CDLL(Image.core.__file__)
        for set_handler in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)


_silence_libtiff()


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
SizeWH = tuple[int, int]
NeededSize = Callable[[SizeWH], tuple[float, float] | None]


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


def read_reduced(source: str | ImageSource, needed: NeededSize) -> tuple[np.ndarray, SizeWH]:
    """Read an image as `read_image` does, or a JPEG smaller; return it with the width and height of the whole image.

    `needed`: returns width and height, in pixels, to which an image of some width and height will be shrunk, or `None`
    if all its pixels are needed. A JPEG of at least `MIN_REDUCIBLE` pixels is decoded at the smallest of 1/8, 1/4 and
    1/2 of its size at which both sides have `OVERSAMPLING` times the needed pixels. Each pixel then stands for 8x8, 4x4
    or 2x2 pixels; the last column and row may extend beyond the image. If the EXIF orientation turns the image, its
    sides must be divisible by the 8, 4 or 2, so that no first column or row extends beyond it.
    """
    with reading_reduced(source, needed) as read:
        return read


@contextmanager
def reading_reduced(source: str | ImageSource, needed: NeededSize) -> Iterator[tuple[np.ndarray, SizeWH]]:
    """Yield what `read_reduced` returns; meanwhile it counts among the pixels that threads hold decoded."""
    with ExitStack() as held:
        with _named_errors(source), _open(source) as image:
            image_wh = upright_size_wh(image)
            _reduce(image, image_wh, needed)
            pixels = _decode_opened(image, source, held)
        yield pixels, image_wh


def _reduce(image: Image.Image, image_wh: SizeWH, needed: NeededSize) -> None:
    """Let an image that is not loaded be decoded at the size of `read_reduced`."""
    if image.format not in REDUCIBLE_FORMATS or image_wh[0] * image_wh[1] < MIN_REDUCIBLE:
        return
    needed_wh = needed(image_wh)
    if needed_wh is None:
        return
    enough = [OVERSAMPLING * max(1, math.ceil(side)) for side in needed_wh]
    is_turned = find_orientation(image) != 1
    for reduction in REDUCTIONS:
        is_enough = all(side >= reduction * least for side, least in zip(image_wh, enough, strict=True))
        if is_enough and not (is_turned and any(side % reduction for side in image_wh)):
            image.draft(image.mode, (image.width // reduction, image.height // reduction))
            return


def _decode(source: str | ImageSource, held: ExitStack) -> np.ndarray:
    """Decode an image; its pixels are in flight until `held` is closed."""
    with _named_errors(source), _open(source) as image:
        return _decode_opened(image, source, held)


def _decode_opened(image: Image.Image, source: str | ImageSource, held: ExitStack) -> np.ndarray:
    held.enter_context(IN_FLIGHT.holding(image.width * image.height))
    return to_rgb(image, lambda: _open(source))


def read_size_wh(source: str | ImageSource) -> tuple[int, int]:
    """Return width and height of an image as `read_image` would return it, from its header alone.

    Raises `DataError` as `read_image` does.
    """
    with _named_errors(source), _open(source) as image:
        return upright_size_wh(image)


def read_bytes(source: str | ImageSource) -> bytes:
    """Return the bytes of an image file. Raises `DataError` for anything but a regular file of allowed size.

    Allowed are `BYTES_PER_PIXEL` bytes for each of the pixels that an image may have (`max_pixels`).
    """
    with _named_errors(source):
        return _read_bytes(source)


def _read_bytes(source: str | ImageSource) -> bytes:
    if isinstance(source, FilePart):
        _check_file(source.path)
        _check_bytes(source.size)
        return source.read_bytes()
    path = Path(source)
    _check_file(path)
    _check_bytes(path.stat().st_size)
    return path.read_bytes()


def _check_bytes(size: int) -> None:
    """Raise `DataError` for more bytes than the largest allowed image has."""
    limit = BYTES_PER_PIXEL * max_pixels()
    if size > limit:
        allowed = f"{limit:,} are allowed ({BYTES_PER_PIXEL} for each of {max_pixels():,} pixels)"
        raise DataError(f"has {size:,} bytes, at most {allowed}; {ALLOW_MORE}")


def _check_file(path: Path) -> None:
    """Raise an error for anything but a regular file: a pipe or a device would wait for ever."""
    if is_file(path):
        return
    if not exists(path):
        path.stat()  # raises what is wrong
    check_regular(path)


def read_orientation(source: str | ImageSource) -> int:
    """Return the EXIF orientation of an image file, 1 to 8. Raises `DataError` as `read_image` does."""
    with _named_errors(source), _open(source) as image:
        return find_orientation(image)


@contextmanager
def _open(source: str | ImageSource) -> Iterator[Image.Image]:
    """Open an image with Pillow, by the formats of `FORMATS` alone; its pixels are not decoded yet."""
    Image.MAX_IMAGE_PIXELS = max_pixels() // 2  # Pillow raises an error above twice this number
    # Pillow gets no path: it would map uncompressed files into memory, and scrambles rotated TIFF files when it does.
    with _open_file(source) as file, Image.open(file, formats=formats_of(suffix_of(str(source)))) as image:
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
        hint = unreadable_suffixes().get(suffix_of(str(source)))
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
    return f"{size}, at most {max_pixels():,} are allowed; {ALLOW_MORE}"


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
