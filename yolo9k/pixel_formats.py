"""Convert a Pillow image of any mode and bit depth to uint8 RGB, upright.

Integers of more than 8 bits are divided by the value of white. It is known from the file where the file says how many
bits are significant; else it is the largest value of the image, rounded up to a depth of `DEPTHS`: 12-bit data in a
16-bit file is as bright as it was meant.
"""

import math
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image

from yolo9k.errors import DataError

GREY = 128  # Darknet fills its canvas with .5
PNG_CHUNKS = 8  # bytes before the first chunk
PNG_METADATA = (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
ORIENTATION = 0x0112  # EXIF tag
TRANSPOSITIONS = {  # by EXIF orientation: what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height
DEPTHS = (8, 10, 12, 14, 16)  # bits of cameras, scanners and microscopes
DARK = 1 << (DEPTHS[-2] - 8)  # upper bytes below it: the values may have fewer than 16 bits
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}  # of Pillow's raw modes
TIFF_SIZE_WH = (256, 257)  # TIFF tags
TIFF_BITS, TIFF_PHOTOMETRIC, TIFF_SAMPLE_FORMAT, TIFF_MAX, TIFF_SMAX = 258, 262, 339, 281, 341
TIFF_SIGNED = 2  # sample format

MAX_BAND = 1 << 22  # pixels that are converted at once

Reopen = Callable[[], AbstractContextManager[Image.Image]]


class _Depth(NamedTuple):
    """What a file says about deep samples: how many bits are significant (0: unknown), and the size without sign.

    `may_be_shifted`: fewer bits than the size may be the upper ones, as PNG prescribes, or the lower ones.
    """

    bits: int = 0
    size: int = 16
    may_be_shifted: bool = False


def upright_size_wh(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an image with its EXIF orientation applied; it must not have been loaded.

    Pillow's `size` of a TIFF file has the orientation applied or not, by version.
    """
    tags = _tiff_tags(image)
    width, height = (int(tags[tag]) for tag in TIFF_SIZE_WH) if tags else image.size
    return (height, width) if find_orientation(image) in SIDEWAYS else (width, height)


def find_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none, and for broken EXIF."""
    try:
        orientation = _read_exif(image).get(ORIENTATION, 1)
    except Exception:  # Pillow's parser raises what the bytes lead it to; the image itself may be sound
        return 1
    return int(orientation) if orientation in TRANSPOSITIONS else 1


def _read_exif(image: Image.Image) -> Image.Exif:
    """Return the EXIF data of an image without decoding it; Pillow decodes a PNG to find what stands behind."""
    if image.format == "PNG" and "exif" not in image.info and not _has_late_metadata(image):
        return Image.Image.getexif(image)
    return image.getexif()


def to_rgb(image: Image.Image, reopen: Reopen) -> np.ndarray:
    """Convert a Pillow image of any mode to uint8 (H, W, 3) RGB, with its EXIF orientation applied.

    Transparency is blended with grey. `reopen` opens the image once more: Pillow decodes only the upper bytes of
    16-bit colours, so a second pass reads the lower ones if all upper ones are dark. Raises `DataError` for values that
    have no brightness: negative or not finite.
    """
    _check_planes(image)
    depth = _read_depth(image)
    is_deep_colour = ";16" in _raw_mode(image) and image.mode not in (*SIXTEEN_BITS, "I")
    inverted = _has_white_zero(image)
    upright = _upright(image)
    if upright.mode in (*SIXTEEN_BITS, "I", "F"):
        return _deep_grey_to_rgb(upright, depth, inverted=inverted)
    is_dark = is_deep_colour and np.asarray(upright)[..., :3].max(initial=0) < DARK
    if is_dark or (is_deep_colour and "transparency" in upright.info):
        with reopen() as again:
            upright = _deep_colour(upright, again, depth)
    return _blend_bands(upright)


def _blend_bands(image: Image.Image) -> np.ndarray:
    """Convert an image to uint8 (H, W, 3) in bands of rows: copies of a whole one could take gigabytes."""
    width, height = image.size
    rows = max(1, MAX_BAND // max(1, width))
    if height <= rows:
        return _blend(image)
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        rgb[top : top + rows] = _blend(image.crop((0, top, width, min(top + rows, height))))
    return rgb


def _blend(image: Image.Image) -> np.ndarray:
    """Convert an image of 8 bits to uint8 (H, W, 3); transparency is blended with grey."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (GREY, GREY, GREY, 255))
        image = Image.alpha_composite(canvas, rgba)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))  # converting RGB would copy it


def _upright(image: Image.Image) -> Image.Image:
    """Load an image and apply its EXIF orientation; Pillow does so itself for TIFF files."""
    orientation = find_orientation(image)
    image.load()
    if image.format == "TIFF" or orientation not in TRANSPOSITIONS:
        return image
    return image.transpose(TRANSPOSITIONS[orientation])


# --- more than 8 bits


def _deep_grey_to_rgb(image: Image.Image, depth: _Depth, *, inverted: bool) -> np.ndarray:
    """Convert deep grey values to RGB; `inverted`: 0 is white."""
    values = np.asarray(image)
    _check_values(values)
    full = _white_of_floats(values) if image.mode == "F" else _white(values, depth)
    grey = _scale(values, full)
    if inverted:
        grey = 255 - grey
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey = np.where(values == clear, np.uint8(GREY), grey)
    return np.repeat(grey[..., None], 3, axis=2)


def _check_values(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise DataError("has values that are not finite (NaN or infinity); save it as 8 or 16 bits")
    if values.min(initial=0) < 0:
        raise DataError(f"has negative values (min {values.min():g}); save it as unsigned 8 or 16 bits")


def _white(values: np.ndarray, depth: _Depth) -> int:
    """Return the value of white: by the bits that the file states, else by the largest value."""
    top = int(values.max(initial=0))
    if depth.bits and top >> depth.bits == 0:
        padding = (1 << (16 - depth.bits)) - 1 if depth.may_be_shifted else 0
        is_shifted = padding and not (values & padding).any()  # dark, but of 16 bits
        return (1 << (16 if is_shifted else depth.bits)) - 1
    return _white_above(top, depth.size)


def _white_above(top: int, size: int = _Depth().size) -> int:
    """Return the largest value of the first depth that has `top`; `top` itself if it has more than `size` bits."""
    sizes = [*(bits for bits in DEPTHS if bits < size), size]
    return next(((1 << bits) - 1 for bits in sizes if top >> bits == 0), top)


def _white_of_floats(values: np.ndarray) -> float:
    """Return the value of white of floats: 1, or that of integers as large."""
    top = float(values.max(initial=0))
    return 1.0 if top <= 1 else float(_white_above(math.ceil(top)))  # an `int` of any size: float32 ends at 3e38


def _scale(values: np.ndarray, full: float) -> np.ndarray:
    return np.clip(np.rint(values * np.float32(255 / full)), 0, 255).astype(np.uint8)


def _check_planes(image: Image.Image) -> None:
    """Raise `DataError` for deep channels in uncompressed planes of their own, which Pillow reads as 8 bits."""
    bits = _tiff_tags(image).get(TIFF_BITS, (1,))
    if len(bits) > 1 and max(bits) > 8 and len(_raw_mode(image)) == 1:
        raise DataError(f"has {max(bits)}-bit channels in separate planes; save it with interleaved channels")


def _deep_colour(upper: Image.Image, again: Image.Image, depth: _Depth) -> Image.Image:
    """Return a 16-bit colour image scaled to 8 bits by its real depth.

    `upper`: the image as Pillow decodes it, upper bytes only; `again`: the same file, not yet loaded. In the other byte
    order its "upper" bytes are the lower ones.
    """
    is_grey_alpha = _raw_mode(again).startswith("LA")
    again.tile = [_in_other_order(tile) for tile in again.tile]  # type: ignore[attr-defined]
    lower = np.asarray(_upright(again))
    values = np.asarray(upper).astype(np.uint16) << 8
    values |= lower[..., [1, 1, 1, 3]] if is_grey_alpha else lower
    full = _white(values[..., :3], depth)
    scaled = _scale(values, full)
    if upper.mode == "RGBA" and values[..., 3].max(initial=0) > full:
        scaled[..., 3] = values[..., 3] >> 8  # alpha has 16 bits, whatever the colours have
    if "transparency" in upper.info:
        is_clear = (values == upper.info["transparency"]).all(axis=2, keepdims=True)
        return Image.fromarray(np.concatenate([scaled, np.where(is_clear, 0, 255).astype(np.uint8)], axis=2), "RGBA")
    return Image.fromarray(scaled, upper.mode)


def _in_other_order(tile: Any) -> Any:
    """Return a tile of Pillow whose 16-bit samples are read in the other byte order.

    Grey with alpha has no such raw mode; its four bytes are read as four channels.
    """
    *place, args = tile
    raw_mode = args if isinstance(args, str) else args[0]
    other = "RGBA" if raw_mode.startswith("LA") else raw_mode[:-1] + OTHER_ORDER[raw_mode[-1]]
    swapped = other if isinstance(args, str) else (other, *args[1:])
    return type(tile)((*place, swapped)) if type(tile) is tuple else type(tile)(*place, swapped)


# --- what the file says


def _tiff_tags(image: Image.Image) -> Any:
    """Return the tags of a TIFF file by number; of other files none."""
    return image.tag_v2 if image.format == "TIFF" else {}  # type: ignore[attr-defined]


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's raw mode of an image that is not loaded: the layout of its samples; "" if it has none."""
    tiles = getattr(image, "tile", None) or [("", None, 0, "")]
    args = tiles[0][3]
    name = args[0] if isinstance(args, tuple) and args else args
    return name if isinstance(name, str) else ""


def _read_depth(image: Image.Image) -> _Depth:
    """Return what the file of an image that is not loaded says about deep samples."""
    if image.format == "TIFF":
        return _tiff_depth(_tiff_tags(image))
    if image.format == "PNG" and ";16" in _raw_mode(image):
        return _Depth(_png_bits(image), may_be_shifted=True)
    return _Depth(16 if image.format in ("PPM", "JPEG2000") else 0)  # Pillow has scaled these


def _tiff_depth(tags: Any) -> _Depth:
    """Return the depth by BitsPerSample, or by the largest value that the file states, if it is below 16 bits."""
    bits = max(tags.get(TIFF_BITS, (1,)))
    if 8 < bits < 16:
        return _Depth(bits)
    size = 15 if bits == 16 and max(tags.get(TIFF_SAMPLE_FORMAT, (1,))) == TIFF_SIGNED else 16
    for tag in (TIFF_MAX, TIFF_SMAX):
        stated = tags.get(tag)
        top = max(stated) if isinstance(stated, tuple) and stated else stated
        if isinstance(top, int) and 255 < top < 1 << 15:
            return _Depth(top.bit_length(), size)
    return _Depth(size=size)


def _png_bits(image: Image.Image) -> int:
    """Return the bits of PNG's sBIT; 0 without."""
    for kind, content in _png_chunks(image):
        if kind == b"IDAT":
            break
        if kind == b"sBIT":
            return min(max(content, default=0), 16)
    return 0


def _has_late_metadata(image: Image.Image) -> bool:
    """Return whether a PNG file has chunks that may contain EXIF data behind its pixels."""
    kinds = (kind for kind, _ in _png_chunks(image))
    return b"IDAT" in kinds and any(kind in PNG_METADATA for kind in kinds)


def _png_chunks(image: Image.Image) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and first four bytes of each chunk of a PNG file; its position stays as it is."""
    file: IO[bytes] | None = image.fp  # type: ignore[attr-defined]
    if file is None:  # loaded, and closed
        return
    position = file.tell()
    try:
        at = PNG_CHUNKS
        while file.seek(at) == at and len(head := file.read(12)) >= 8:
            size, kind = struct.unpack(">I4s", head[:8])
            yield kind, head[8 : 8 + min(size, 4)]
            at += 12 + size
    finally:
        file.seek(position)


def _has_white_zero(image: Image.Image) -> bool:
    """Return whether 0 is white in a deep grey TIFF; Pillow inverts such files up to 8 bits only."""
    return bool(_tiff_tags(image).get(TIFF_PHOTOMETRIC) == 0)
