"""Darknet's augmentation of a training image and its labels (`data.c`), with the random numbers as arguments.

A `DetectionAugmentation` or a `ClassificationAugmentation` holds the random numbers of one image and applies them.
`draw_detection` and `draw_classification` draw them with a numpy generator, in Darknet's order but not with its
generator. `reference.images` has the image operations.
"""

from dataclasses import dataclass

import numpy as np
from reference.images import distort, flip, grey_canvas, place, rotate_crop

TARGET_SLOTS = 30  # boxes per image that the region layer reads
NO_BOX = 999_999  # replaces all four values of a label without a box (`correct_boxes`)
MIN_SIDE = 0.001  # smaller boxes are dropped (`fill_truth_detection`), relative to the canvas


def transform_labels(
    labels: np.ndarray, *, flip: bool, dx: float, dy: float, sx: float, sy: float, slots: int = TARGET_SLOTS
) -> np.ndarray:
    """Move labels with their image (`fill_truth_detection`), in their order; Darknet shuffles them first.

    `labels`: (N, 5) of class, x, y, w, h as in a label file, relative to the image. Each side becomes
    side * `sx` - `dx` (`sy`, `dy`), flipped if `flip`, clipped to [0, 1]. Only the first `slots` labels are used, and
    boxes with a side below .001 are dropped. A label at x = y = 0 has a class but no box: its box becomes 999999.
    Returns targets in Darknet's format: float32 (slots, 5) of x, y, w, h, class, relative to the canvas, zero-padded.
    """
    rows = np.asarray(labels, np.float32).reshape(-1, 5)[:slots]
    centre, size = rows[:, 1:3], rows[:, 3:5]
    scale, shift = np.array([sx, sy], np.float32), np.array([dx, dy], np.float32)
    first, last = (centre - size / 2) * scale - shift, (centre + size / 2) * scale - shift
    if flip:
        first[:, 0], last[:, 0] = 1 - last[:, 0], 1 - first[:, 0]
    first, last = first.clip(0, 1), last.clip(0, 1)
    moved = np.concatenate([(first + last) / 2, (last - first).clip(0, 1), rows[:, :1]], axis=1)
    moved[(centre == 0).all(axis=1), :4] = NO_BOX
    kept = moved[(moved[:, 2:4] >= np.float32(MIN_SIDE)).all(axis=1)]
    targets = np.zeros((slots, 5), np.float32)
    targets[: len(kept)] = kept
    return targets


@dataclass(frozen=True)
class DetectionAugmentation:
    """The random numbers of one training image of a detector (`load_data_detection`).

    The image is resized to (nw, nh) = `size_wh` and pasted at (dx, dy) = `offset_xy`, in pixels of the canvas. These
    are floats: the image uses their integer parts, the labels use the floats, as in Darknet.
    """

    size_wh: tuple[float, float]
    offset_xy: tuple[float, float]
    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0
    flip: bool = False

    def image(self, image: np.ndarray, canvas_wh: tuple[int, int]) -> np.ndarray:
        """Paste the image on grey, distort its colours, flip it if `flip`: (3, canvas_h, canvas_w)."""
        (new_w, new_h), (left, top) = (
            tuple(int(np.float32(n)) for n in pair) for pair in (self.size_wh, self.offset_xy)
        )
        placed = place(image, (new_w, new_h), (left, top), grey_canvas(canvas_wh))
        distorted = distort(placed, self.hue, self.saturation, self.exposure)
        return flip(distorted) if self.flip else distorted

    def targets(self, labels: np.ndarray, canvas_wh: tuple[int, int], *, slots: int = TARGET_SLOTS) -> np.ndarray:
        """Convert the labels (N, 5) of a label file to targets (slots, 5), see `transform_labels`."""
        canvas = np.array(canvas_wh, np.float32)
        dx, dy = -np.array(self.offset_xy, np.float32) / canvas
        sx, sy = np.array(self.size_wh, np.float32) / canvas
        return transform_labels(labels, flip=self.flip, dx=dx, dy=dy, sx=sx, sy=sy, slots=slots)


def draw_detection(
    rng: np.random.Generator,
    image_wh: tuple[int, int],
    net_wh: tuple[int, int],
    *,
    jitter: float,
    hue: float,
    saturation: float,
    exposure: float,
) -> DetectionAugmentation:
    """Draw in the order of `load_data_detection`, with the options of the cfg; 0 <= `jitter` < 1.

    Jitters the aspect ratio and fits the image into the canvas, without zoom. If the canvas is not square, the image
    may exceed it; its offset is then negative.
    """
    (w, h), (net_w, net_h) = image_wh, net_wh
    aspect = (w + rng.uniform(-1, 1) * jitter * w) / (h + rng.uniform(-1, 1) * jitter * h)
    new_w, new_h = (net_h * aspect, float(net_h)) if aspect < 1 else (float(net_w), net_w / aspect)
    left, top = _draw_uniform(rng, 0, net_w - new_w), _draw_uniform(rng, 0, net_h - new_h)
    colours = _draw_colours(rng, hue, saturation, exposure)
    return DetectionAugmentation((new_w, new_h), (left, top), *colours, flip=bool(rng.integers(2)))


@dataclass(frozen=True)
class ClassificationAugmentation:
    """The random numbers of one training image of a classifier (`load_image_augment_paths`), see `rotate_crop`."""

    radians: float
    scale: float
    offset_xy: tuple[float, float]
    aspect: float
    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0
    flip: bool = False

    def image(self, image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
        """Crop to `size_wh`, flip if `flip`, then distort the colours (a detector distorts first)."""
        crop = rotate_crop(image, self.radians, self.scale, size_wh, self.offset_xy, self.aspect)
        return distort(flip(crop) if self.flip else crop, self.hue, self.saturation, self.exposure)


def draw_classification(
    rng: np.random.Generator,
    image_wh: tuple[int, int],
    size: int,
    *,
    angle: float,
    aspect: float,
    min_crop: int,
    max_crop: int,
    hue: float,
    saturation: float,
    exposure: float,
) -> ClassificationAugmentation:
    """Draw in the order of `random_augment_args`, with the options of the cfg.

    `angle`: degrees. `size`: side of the square crop in pixels.
    """
    w, h = image_wh
    stretch = _draw_scale(rng, aspect)
    shorter = max(1, int(min(h, w * stretch)))  # Darknet divides by 0 if this is below one pixel
    scale = int(rng.integers(min_crop, max_crop, endpoint=True)) / shorter
    radians = float(np.radians(_draw_uniform(rng, -angle, angle)))
    free_x, free_y = (w * scale / stretch - size) / 2, (h * scale - size) / 2
    offset_xy = _draw_uniform(rng, -free_x, free_x), _draw_uniform(rng, -free_y, free_y)
    flipped = bool(rng.integers(2))
    colours = _draw_colours(rng, hue, saturation, exposure)
    return ClassificationAugmentation(radians, scale, offset_xy, stretch, *colours, flip=flipped)


def _draw_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw between two bounds in either order (`rand_uniform`)."""
    return float(rng.uniform(min(low, high), max(low, high)))


def _draw_scale(rng: np.random.Generator, max_scale: float) -> float:
    """Draw U(1, max_scale) or its inverse, with equal probability (`rand_scale`)."""
    scale = _draw_uniform(rng, 1.0, max_scale)
    return scale if rng.integers(2) else 1 / scale


def _draw_colours(
    rng: np.random.Generator, hue: float, saturation: float, exposure: float
) -> tuple[float, float, float]:
    """Draw the arguments of `distort` (`random_distort_image`)."""
    return _draw_uniform(rng, -hue, hue), _draw_scale(rng, saturation), _draw_scale(rng, exposure)
