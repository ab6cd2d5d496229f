"""Darknet's augmentation of one training image and its labels (`data.c`), given the random numbers.

What Darknet draws for one image is a `DetectionAugmentation` or a `ClassificationAugmentation`, which change
images and labels; `draw_detection` and `draw_classification` draw one from a numpy generator, in Darknet's order but
not with its generator. Images are those of `yolo9k.darknet.images`.
"""

from dataclasses import dataclass

import numpy as np

from yolo9k.darknet.images import distort, flip, grey, place, rotate_crop
from yolo9k.errors import ConfigError

TRUTH_SLOTS = 30  # boxes of one image that the region layer reads
NO_BOX = 999_999  # stands for all four sides of a label without a box (`correct_boxes`)
SMALLEST = 0.001  # smaller boxes are dropped (`fill_truth_detection`), relative to the canvas


def place_truths(
    labels: np.ndarray, *, flip: bool, dx: float, dy: float, sx: float, sy: float, slots: int = TRUTH_SLOTS
) -> np.ndarray:
    """Labels moved with their image (`fill_truth_detection`), in their order, which Darknet shuffles before.

    `labels`: (N, 5) of class, x, y, w, h as in a label file, relative to the image. Each side becomes
    side * `sx` - `dx` (`sy`, `dy`), mirrored if `flip`, cut to [0, 1]. The first `slots` labels stay; of them, those
    thinner or lower than .001 go. A label at x = y = 0 has no box, only a class: its sides become 999999.
    Returns Darknet's truth, float32 (slots, 5) of x, y, w, h, class, relative to the canvas, zeros behind the last.
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
    kept = moved[(moved[:, 2:4] >= np.float32(SMALLEST)).all(axis=1)]
    truth = np.zeros((slots, 5), np.float32)
    truth[: len(kept)] = kept
    return truth


@dataclass(frozen=True)
class DetectionAugmentation:
    """The numbers drawn for one training image of a detector (`load_data_detection`).

    The image gets the size (nw, nh) = `size_wh` at (dx, dy) = `offset_xy`, in pixels of the canvas. These are
    floats: pixels are placed by their integer parts, labels by the full numbers, as in Darknet.
    """

    size_wh: tuple[float, float]
    offset_xy: tuple[float, float]
    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0
    flip: bool = False

    def image(self, image: np.ndarray, canvas_wh: tuple[int, int]) -> np.ndarray:
        """The image placed on grey, distorted, then perhaps flipped: (3, canvas_h, canvas_w)."""
        (new_w, new_h), (left, top) = (
            tuple(int(np.float32(n)) for n in pair) for pair in (self.size_wh, self.offset_xy)
        )
        placed = place(image, (new_w, new_h), (left, top), grey(canvas_wh))
        distorted = distort(placed, self.hue, self.saturation, self.exposure)
        return flip(distorted) if self.flip else distorted

    def truths(self, labels: np.ndarray, canvas_wh: tuple[int, int], *, slots: int = TRUTH_SLOTS) -> np.ndarray:
        """The labels (N, 5) of a label file as truth (slots, 5), see `place_truths`."""
        canvas = np.array(canvas_wh, np.float32)
        dx, dy = -np.array(self.offset_xy, np.float32) / canvas
        sx, sy = np.array(self.size_wh, np.float32) / canvas
        return place_truths(labels, flip=self.flip, dx=dx, dy=dy, sx=sx, sy=sy, slots=slots)


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
    """Draw as `load_data_detection` does, in its order, with the cfg's numbers.

    The aspect is jittered and the image fitted into the canvas, never zoomed. A canvas that is not square and a
    image that does not fit beside it give negative offsets. Raises `ConfigError` unless 0 <= `jitter` < 1.
    """
    if not 0 <= jitter < 1:
        raise ConfigError(f"jitter is from 0 to below 1, not {jitter}")
    (w, h), (net_w, net_h) = image_wh, net_wh
    aspect = (w + rng.uniform(-1, 1) * jitter * w) / (h + rng.uniform(-1, 1) * jitter * h)
    new_w, new_h = (net_h * aspect, float(net_h)) if aspect < 1 else (float(net_w), net_w / aspect)
    left, top = _uniform(rng, 0, net_w - new_w), _uniform(rng, 0, net_h - new_h)
    colours = _draw_colours(rng, hue, saturation, exposure)
    return DetectionAugmentation((new_w, new_h), (left, top), *colours, flip=bool(rng.integers(2)))


@dataclass(frozen=True)
class ClassificationAugmentation:
    """The numbers drawn for one training image of a classifier (`load_image_augment_paths`), see `rotate_crop`."""

    radians: float
    scale: float
    offset_xy: tuple[float, float]
    aspect: float
    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0
    flip: bool = False

    def image(self, image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
        """The cut-out of `size_wh`, perhaps flipped, then distorted: the other order than a detector's."""
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
    """Draw as `random_augment_args` does, in its order, with the cfg's numbers: `angle` in degrees, `size` square."""
    w, h = image_wh
    stretch = _draw_scale(rng, aspect)
    shorter = max(1, int(min(h, w * stretch)))  # Darknet divides by 0 where a thin image gets narrower than a pixel
    scale = int(rng.integers(min_crop, max_crop, endpoint=True)) / shorter
    radians = float(np.radians(_uniform(rng, -angle, angle)))
    free_x, free_y = (w * scale / stretch - size) / 2, (h * scale - size) / 2
    offset_xy = _uniform(rng, -free_x, free_x), _uniform(rng, -free_y, free_y)
    flipped = bool(rng.integers(2))
    colours = _draw_colours(rng, hue, saturation, exposure)
    return ClassificationAugmentation(radians, scale, offset_xy, stretch, *colours, flip=flipped)


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Between the two, whichever is larger (`rand_uniform`)."""
    return float(rng.uniform(min(low, high), max(low, high)))


def _draw_scale(rng: np.random.Generator, most: float) -> float:
    """U(1, most) or its inverse, evenly (`rand_scale`)."""
    scale = _uniform(rng, 1.0, most)
    return scale if rng.integers(2) else 1 / scale


def _draw_colours(
    rng: np.random.Generator, hue: float, saturation: float, exposure: float
) -> tuple[float, float, float]:
    """Arguments of `distort` (`random_distort_image`)."""
    return _uniform(rng, -hue, hue), _draw_scale(rng, saturation), _draw_scale(rng, exposure)
