"""Letterbox, crop or place images on a canvas, and their boxes with them.

An image is uint8 (H, W, 3) RGB. `Placement` is the one mapping from pixels of an image to pixels of a canvas and back:
letterboxing and Darknet's crop and place augmentations are all placements.

Placements refer to the whole image. Where a function takes `image_wh`, its width and height, the pixels may be those
of `images.read_reduced`: each stands for 2x2, 4x4 or 8x8 pixels of the image.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from yolo9k.pixel_formats import GREY

EXACT = 1e-6  # pixels: tolerance for a whole number in floating point
BELOW_ONE = 1 - 1e-9  # a factor that moves what is a whole number, but for rounding, to the same side of it
MAX_HALVED = 1 << 22  # pixels of a result that is averaged in two steps; the first needs four times its memory

ResizeMode = Literal["letterbox", "stretch"]
Recolour = Callable[[np.ndarray], np.ndarray]

cv2.setNumThreads(0)  # workers run in parallel; OpenCV's own threads would compete with them for the cores


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

    def size_of(self, image_wh: tuple[int, int]) -> tuple[float, float]:
        """Return width and height of the whole image on the canvas, as if that had no end."""
        return image_wh[0] * self.scale_xy[0], image_wh[1] * self.scale_xy[1]


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


def resize_center_crop(
    image: np.ndarray, canvas_wh: tuple[int, int], image_wh: tuple[int, int] | None = None
) -> np.ndarray:
    """Scale the shorter side to the canvas and crop the centre, as classifiers do; (canvas_h, canvas_w, 3)."""
    image_wh = image_wh or (image.shape[1], image.shape[0])
    return apply_placement(image, center_crop_placement(image_wh, canvas_wh), canvas_wh, image_wh=image_wh)


def apply_placement(
    image: np.ndarray,
    placement: Placement,
    canvas_wh: tuple[int, int],
    recolour: Recolour | None = None,
    image_wh: tuple[int, int] | None = None,
) -> np.ndarray:
    """Draw the image on a grey canvas (canvas_h, canvas_w, 3); parts outside the canvas are cut off.

    Shrinking averages areas, enlarging interpolates linearly; edges are rounded to whole pixels. `recolour`: changes
    the colours of uint8 (H, W, 3), pixel by pixel and all grey ones to greys; it sees the image on its canvas.
    """
    across, down = _visible_spans((image.shape[1], image.shape[0]), placement, canvas_wh, image_wh)
    grey = np.full((1, 1, 3), GREY, np.uint8)
    if not across.length or not down.length:
        return np.full((canvas_wh[1], canvas_wh[0], 3), recolour(grey) if recolour else GREY, np.uint8)
    shown = resize(image[down.source, across.source], (across.length, down.length), (across.extent, down.extent))
    cut = shown[down.cut(canvas_wh[1]), across.cut(canvas_wh[0])]
    if recolour is not None:  # the padding has one colour: for it one pixel is enough
        cut, grey = recolour(cut), recolour(grey)
    top, left = max(down.start, 0), max(across.start, 0)
    bottom, right = canvas_wh[1] - top - cut.shape[0], canvas_wh[0] - left - cut.shape[1]
    return cv2.copyMakeBorder(cut, top, bottom, left, right, cv2.BORDER_CONSTANT, value=grey[0, 0].tolist())


def resize(image: np.ndarray, size_wh: tuple[int, int], extent_wh: tuple[float, float] | None = None) -> np.ndarray:
    """Resize an image: area averaging if it shrinks, linear interpolation if it grows.

    `extent_wh`: width and height of what is resized, if the last column and row of the image extend beyond it.
    """
    h, w = image.shape[:2]
    if extent_wh not in (None, (w, h)):
        return _average_extent(image, size_wh, extent_wh)
    if (w, h) == size_wh:
        return image
    if size_wh[0] * size_wh[1] >= w * h:
        return cv2.resize(image, size_wh, interpolation=cv2.INTER_LINEAR)
    if _is_between_half_and_whole((w, h), size_wh):
        return _average_in_two_steps(image, size_wh)
    return cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)


def _average_extent(image: np.ndarray, size_wh: tuple[int, int], extent_wh: tuple[float, float]) -> np.ndarray:
    """Average areas of a part of the image, which begins at its corner and may end inside pixels."""
    fx, fy = (side / extent for side, extent in zip(size_wh, extent_wh, strict=True))
    averaged = cv2.resize(image, None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA)
    return averaged[: size_wh[1], : size_wh[0]]  # what is beyond may be half a pixel


def _is_between_half_and_whole(image_wh: tuple[int, int], size_wh: tuple[int, int]) -> bool:
    """Return whether both sides shrink, by at most a factor of two."""
    is_between = all(side < whole <= 2 * side for side, whole in zip(size_wh, image_wh, strict=True))
    return is_between and size_wh[0] * size_wh[1] <= MAX_HALVED


def _average_in_two_steps(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Average areas as OpenCV does in one step, in half the time; the results differ by at most one level of 256.

    The first step makes half pixels. Each covers at most two pixels of the image per axis, so that OpenCV computes
    its average as fast as it interpolates. The second step averages 2x2 of them.
    """
    fx, fy = (2 * side / whole * BELOW_ONE for side, whole in zip(size_wh, image.shape[1::-1], strict=True))
    halves = cv2.resize(image, None, fx=fx, fy=fy, interpolation=cv2.INTER_AREA)
    return cv2.resize(halves, size_wh, interpolation=cv2.INTER_AREA)


@dataclass(frozen=True)
class _Span:
    """The visible pixels of one axis: `source` of the image covers `length` pixels of the canvas from `start`.

    Pixels are whole, so an enlarged pixel may extend beyond the canvas. `extent`: length of the image in `source`,
    whose last pixel may extend beyond the image.
    """

    source: slice
    extent: float
    start: int
    length: int

    def cut(self, canvas: int) -> slice:
        """Return the part of the `length` pixels that is on the canvas."""
        return slice(max(-self.start, 0), max(canvas - self.start, 0))


def _visible_spans(
    pixels_wh: tuple[int, int], placement: Placement, canvas_wh: tuple[int, int], image_wh: tuple[int, int] | None
) -> tuple[_Span, _Span]:
    """Return what is visible across and down of an image of `pixels_wh` pixels."""
    image_wh = image_wh or pixels_wh
    reduction = _find_reduction(pixels_wh, image_wh)
    across, down = (
        _visible(side / reduction, scale * reduction, offset, canvas)
        for side, scale, offset, canvas in zip(
            image_wh, placement.scale_xy, placement.offset_xy, canvas_wh, strict=True
        )
    )
    return across, down


def _find_reduction(pixels_wh: tuple[int, int], image_wh: tuple[int, int]) -> int:
    """Return how many pixels of the image one pixel stands for, in both directions."""
    for reduction in (1, 2, 4, 8):
        if pixels_wh == tuple(-(-side // reduction) for side in image_wh):
            return reduction
    raise ValueError(f"{pixels_wh[0]}x{pixels_wh[1]} pixels are not a reduced image of {image_wh[0]}x{image_wh[1]}")


def _visible(length: float, scale: float, offset: float, canvas: int) -> _Span:
    """Return what is visible of an axis; `length`: of the image in its pixels, of which the last may be a part."""
    pixels = math.ceil(length)
    first = min(max(math.floor(-offset / scale + EXACT), 0), pixels)
    last = min(max(math.ceil((canvas - offset) / scale - EXACT), first), pixels)
    extent = min(last, length) - first
    start, stop = (round(edge * scale + offset) for edge in (first, first + extent))
    return _Span(slice(first, last), extent, start, stop - start if extent > 0 else 0)
