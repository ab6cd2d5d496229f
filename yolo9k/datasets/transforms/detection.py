"""Darknet's ways of changing a detector's training image (`data.c`, `image.c`): a `Placement` and a colour change.

All randomness comes from the generator that is passed in.
"""

import cv2
import numpy as np

from yolo9k.boxes import area, clip
from yolo9k.config.schema import AugmentConfig
from yolo9k.datasets.transforms.albumentations import Transforms
from yolo9k.images import Placement, letterbox_placement, place
from yolo9k.samples import BoxLabels, Sample

SMALLEST = 0.001  # Darknet drops boxes whose width or height is a smaller part of the image


class DetectionTransform:
    """What a detector's training does to an image and its boxes: albumentations transforms, then Darknet's ways.

    Raises `ConfigError` for a transform that albumentations does not have.
    """

    def __init__(self, augment: AugmentConfig) -> None:
        self.augment, self.transforms = augment, Transforms(augment.transforms)

    def __call__(self, sample: Sample, size_wh: tuple[int, int], rng: np.random.Generator) -> Sample:
        """The sample at the size. Raises `ConfigError` for a transform that does not fit."""
        return transform_sample(self.transforms(sample, rng), size_wh, self.augment, rng)


def transform_sample(
    sample: Sample, size_wh: tuple[int, int], config: AugmentConfig, rng: np.random.Generator
) -> Sample:
    """The sample on a canvas of `size_wh`, its colours changed and perhaps mirrored."""
    placement = choose_placement(sample.size_wh, size_wh, config, rng)
    image = place(sample.image, placement, size_wh)
    boxes = cut_to_canvas(sample.boxes, placement.to_canvas(sample.boxes.xyxy), size_wh, config.min_visible)
    image = distort(image, *draw_colours(config.hue, config.saturation, config.exposure, rng))
    for axis, probability in ((1, config.flip), (0, config.flip_vertical)):
        if rng.random() < probability:
            image, boxes = mirror(image, boxes, axis)
    return Sample(np.ascontiguousarray(image), boxes, sample.name, sample.image_label)


def choose_placement(
    image_wh: tuple[int, int], canvas_wh: tuple[int, int], config: AugmentConfig, rng: np.random.Generator
) -> Placement:
    """Where the image lands, drawn by the config's transform."""
    if config.geometry == "none":
        return letterbox_placement(image_wh, canvas_wh)
    if config.geometry == "crop":
        return _crop(image_wh, canvas_wh, config.jitter, rng)
    scale = rng.uniform(*config.scale) if config.geometry == "place" else 1.0
    return _place(image_wh, canvas_wh, config.jitter, scale, rng)


def _place(
    image_wh: tuple[int, int],
    canvas_wh: tuple[int, int],
    jitter: float,
    scale: float,
    rng: np.random.Generator,
) -> Placement:
    """The jittered aspect fitted into the canvas, times `scale`, at any place (`load_data_detection`)."""
    (w, h), (canvas_w, canvas_h) = image_wh, canvas_wh
    aspect = w * rng.uniform(1 - jitter, 1 + jitter) / (h * rng.uniform(1 - jitter, 1 + jitter))
    new_w, new_h = scale * min(canvas_w, canvas_h * aspect), scale * min(canvas_h, canvas_w / aspect)
    left, top = (rng.uniform(min(0.0, free), max(0.0, free)) for free in (canvas_w - new_w, canvas_h - new_h))
    return Placement((new_w / w, new_h / h), (left, top))


def _crop(image_wh: tuple[int, int], canvas_wh: tuple[int, int], jitter: float, rng: np.random.Generator) -> Placement:
    """Each border moves in or out by up to `jitter` of the side; the rest is stretched over the canvas."""
    scales, offsets = [], []
    for side, canvas in zip(image_wh, canvas_wh, strict=True):
        first, last = rng.uniform(-jitter, jitter, 2) * side
        scales.append(canvas / max(side - first - last, 1.0))
        offsets.append(-first * scales[-1])
    return Placement((scales[0], scales[1]), (offsets[0], offsets[1]))


def cut_to_canvas(boxes: BoxLabels, xyxy: np.ndarray, canvas_wh: tuple[int, int], min_visible: float) -> BoxLabels:
    """Boxes (N, 4) on the canvas, cut to it; those that are gone are dropped.

    A box of which less than `min_visible` of its area is left is ignored: too little to learn from, yet not
    background.
    """
    cut = clip(xyxy, canvas_wh)
    share = area(cut) / np.maximum(area(xyxy), 1e-6)
    smallest = SMALLEST * np.array(canvas_wh)
    there = (cut[:, 2:] - cut[:, :2] >= smallest).all(axis=1)
    return BoxLabels(cut, boxes.label, boxes.ignore | (share < min_visible))[there]


def draw_colours(
    hue: float, saturation: float, exposure: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Arguments of `distort`: a shift of up to `hue` either way, and factors of up to the other two."""
    return rng.uniform(-hue, hue), random_scale(saturation, rng), random_scale(exposure, rng)


def random_scale(most: float, rng: np.random.Generator) -> float:
    """U(1, most) or its inverse, evenly (Darknet `rand_scale`)."""
    scale = rng.uniform(min(1.0, most), max(1.0, most))
    return scale if rng.random() < 0.5 else 1 / scale


def distort(image: np.ndarray, hue: float, saturation: float, exposure: float) -> np.ndarray:
    """Shift the hue (1 is the whole circle), multiply saturation and value; in bytes, with tables.

    Darknet lets the saturation exceed 1 before it goes back to RGB; here it is cut at once.
    """
    if (hue, saturation, exposure) == (0, 1, 1):
        return image  # the way to HSV and back is not free of loss
    ramp = np.arange(256, dtype=np.float32)
    tables = (
        (ramp + round(hue * 256)) % 256,  # full-range hue: 256 steps are the circle
        np.clip(ramp * saturation, 0, 255),
        np.clip(ramp * exposure, 0, 255),
    )
    table = np.stack(tables, axis=-1).astype(np.uint8)[None]
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    return cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2RGB_FULL)


def mirror(image: np.ndarray, boxes: BoxLabels, axis: int) -> tuple[np.ndarray, BoxLabels]:
    """Image and boxes mirrored along an axis of the array: 1 swaps left and right, 0 top and bottom."""
    length = image.shape[axis]
    first, last = (0, 2) if axis == 1 else (1, 3)
    xyxy = boxes.xyxy.copy()
    xyxy[:, [first, last]] = length - boxes.xyxy[:, [last, first]]
    return np.flip(image, axis), BoxLabels(xyxy, boxes.label, boxes.ignore)
