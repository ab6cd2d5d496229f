"""Augment a detector's training images like Darknet (`data.c`, `image.c`): geometry, HSV distortion, flips.

`DetectionTransform` applies them in this order, after any albumentations transforms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from yolo9k.boxes import area, clip
from yolo9k.config.schema import AugmentConfig
from yolo9k.datasets.transforms.albumentations import AlbumentationsChain
from yolo9k.placements import Placement, ResizeMode, apply_placement, fit_placement
from yolo9k.samples import BoxLabels, Sample

MIN_SIDE_FRACTION = 0.001  # of the canvas; Darknet drops boxes with a smaller width or height


class DetectionTransform:
    """The training transform of a detector: albumentations, then geometry, HSV distortion and flips of the config.

    `mode`: images are letterboxed, or stretched to the aspect ratio of the network's input. Raises `ConfigError` for an
    unknown albumentations transform or argument.
    """

    num_samples = 1

    def __init__(self, augment: AugmentConfig, mode: ResizeMode = "letterbox") -> None:
        self.augment, self.albumentations, self.mode = augment, AlbumentationsChain(augment.transforms), mode

    def needed_wh(
        self, image_wh: tuple[int, int], size_wh: tuple[int, int], rng: np.random.Generator
    ) -> tuple[float, float] | None:
        """As `SizedTransform.needed_wh`; albumentations transforms need all pixels."""
        if self.augment.transforms:
            return None
        return draw_placement(image_wh, size_wh, self.augment, rng, self.mode).size_of(image_wh)

    def __call__(self, samples: Sequence[Sample], size_wh: tuple[int, int], rng: np.random.Generator) -> Sample:
        """Transform one sample to `size_wh`. Raises `ConfigError` if an albumentations transform cannot be applied."""
        (sample,) = samples
        sample, config = self.albumentations(sample, rng), self.augment
        placement = draw_placement(sample.size_wh, size_wh, config, rng, self.mode)
        distortion = draw_hsv_distortion(config.hue, config.saturation, config.exposure, rng)
        image = apply_placement(sample.image, placement, size_wh, distortion.apply, sample.size_wh)
        boxes = clip_to_canvas(sample.boxes, placement.to_canvas(sample.boxes.xyxy), size_wh, config.min_visible)
        for axis, probability in ((1, config.flip), (0, config.flip_vertical)):
            if rng.random() < probability:
                image, boxes = flip(image, boxes, axis)
        return Sample(image, boxes, sample.name, sample.image_label)


# --- geometry


def draw_placement(
    image_wh: tuple[int, int],
    canvas_wh: tuple[int, int],
    config: AugmentConfig,
    rng: np.random.Generator,
    mode: ResizeMode = "letterbox",
) -> Placement:
    """Draw the position and scale of the image on the canvas, as `config.geometry` says.

    `none`: the whole image, as `mode` says. `crop`: a random crop, stretched over the canvas. `place`: random scale,
    aspect ratio and position; mode `stretch` gives the image the aspect ratio of the canvas before. `fixed`: as
    `place`, at scale 1.
    """
    if config.geometry == "none":
        return fit_placement(image_wh, canvas_wh, mode)
    if config.geometry == "crop":
        return _draw_crop(image_wh, canvas_wh, config.jitter, rng)
    scale = rng.uniform(*config.scale) if config.geometry == "place" else 1.0
    aspect = image_wh[0] / image_wh[1] if mode == "letterbox" else canvas_wh[0] / canvas_wh[1]
    return _draw_position(image_wh, canvas_wh, aspect, config.jitter, scale, rng)


def _draw_position(
    image_wh: tuple[int, int],
    canvas_wh: tuple[int, int],
    aspect: float,
    jitter: float,
    scale: float,
    rng: np.random.Generator,
) -> Placement:
    """Jitter `aspect`, fit the image into the canvas times `scale`, move it (`load_data_detection`)."""
    (w, h), (canvas_w, canvas_h) = image_wh, canvas_wh
    aspect *= rng.uniform(1 - jitter, 1 + jitter) / rng.uniform(1 - jitter, 1 + jitter)
    new_w, new_h = scale * min(canvas_w, canvas_h * aspect), scale * min(canvas_h, canvas_w / aspect)
    left, top = (rng.uniform(min(0.0, free), max(0.0, free)) for free in (canvas_w - new_w, canvas_h - new_h))
    return Placement((new_w / w, new_h / h), (left, top))


def _draw_crop(
    image_wh: tuple[int, int], canvas_wh: tuple[int, int], jitter: float, rng: np.random.Generator
) -> Placement:
    """Move each border in or out by up to `jitter` times the side; stretch the crop over the canvas."""
    scales, offsets = [], []
    for side, canvas in zip(image_wh, canvas_wh, strict=True):
        first, last = rng.uniform(-jitter, jitter, 2) * side
        scales.append(canvas / max(side - first - last, 1.0))
        offsets.append(-first * scales[-1])
    return Placement((scales[0], scales[1]), (offsets[0], offsets[1]))


def clip_to_canvas(boxes: BoxLabels, xyxy: np.ndarray, canvas_wh: tuple[int, int], min_visible: float) -> BoxLabels:
    """Clip boxes `xyxy` (N, 4) on the canvas to it and drop those outside; `boxes` has their labels.

    A box of which less than the fraction `min_visible` of its area remains is ignored: too little to learn from, but
    not background either.
    """
    clipped = clip(xyxy, canvas_wh)
    visible = area(clipped) / np.maximum(area(xyxy), 1e-6)
    min_sides = MIN_SIDE_FRACTION * np.array(canvas_wh)
    kept = (clipped[:, 2:] - clipped[:, :2] >= min_sides).all(axis=1)
    return BoxLabels(clipped, boxes.label, boxes.ignore | (visible < min_visible))[kept]


def flip(image: np.ndarray, boxes: BoxLabels, axis: int) -> tuple[np.ndarray, BoxLabels]:
    """Flip an image and its boxes: horizontally (array axis 1) or vertically (array axis 0)."""
    length = image.shape[axis]
    first, last = (0, 2) if axis == 1 else (1, 3)
    xyxy = boxes.xyxy.copy()
    xyxy[:, [first, last]] = length - boxes.xyxy[:, [last, first]]
    return cv2.flip(image, axis), BoxLabels(xyxy, boxes.label, boxes.ignore)


# --- HSV distortion


@dataclass(frozen=True)
class HsvDistortion:
    """Shifts the hue (1 is a full turn) and multiplies saturation and value of a uint8 RGB image, with lookup tables.

    The saturation is clipped to 1 at once; Darknet lets it exceed 1 until the conversion back to RGB.
    """

    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Return the distorted image, uint8 (H, W, 3)."""
        if self == HsvDistortion():
            return image  # converting to HSV and back would lose precision
        hue, *others = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL))
        hue += np.uint8(round(self.hue * 256) % 256)  # OpenCV's full-range hue: 256 steps are a full turn, 255 + 1 is 0
        # One table per channel: OpenCV looks three channels up together in more than the time of splitting them.
        changed = map(cv2.LUT, others, self._tables)
        return cv2.cvtColor(cv2.merge([hue, *changed]), cv2.COLOR_HSV2RGB_FULL)

    @cached_property
    def _tables(self) -> np.ndarray:
        """Return the new saturation and the new value of each of their 256 values, uint8 (2, 256)."""
        factors = np.array([[self.saturation], [self.exposure]], np.float32)
        return np.minimum(np.arange(256, dtype=np.float32) * factors, 255).astype(np.uint8)


def draw_hsv_distortion(hue: float, saturation: float, exposure: float, rng: np.random.Generator) -> HsvDistortion:
    """Draw a distortion: a hue shift in U(-hue, hue), and two factors (`draw_factor`)."""
    return HsvDistortion(rng.uniform(-hue, hue), draw_factor(saturation, rng), draw_factor(exposure, rng))


def draw_factor(limit: float, rng: np.random.Generator) -> float:
    """Draw from U(1, limit) and invert the factor with probability 1/2 (Darknet `rand_scale`)."""
    factor = rng.uniform(min(1.0, limit), max(1.0, limit))
    return factor if rng.random() < 0.5 else 1 / factor
