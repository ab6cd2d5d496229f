"""Augment a classifier's training images: crop (Darknet's, random resized or centre), flips, HSV distortion.

`ClassificationTransform` applies them in this order, after any albumentations transforms. The Darknet source is
`data.c` and `image.c`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from yolo9k.config.classifier import ClassifierAugmentConfig
from yolo9k.datasets.readers.index import NO_BOXES
from yolo9k.datasets.transforms.albumentations import AlbumentationsChain
from yolo9k.datasets.transforms.detection import draw_factor, draw_hsv_distortion
from yolo9k.placements import Placement, apply_placement, center_crop_placement, crop_placement, resize
from yolo9k.samples import Sample

CROP_TRIES = 10  # random crops that are tried before the centre crop is used
MAX_WARP_SIDE = (1 << 15) - 2  # pixels; `cv2.warpAffine` fails for larger images


class ClassificationTransform:
    """The training transform of a classifier: albumentations, then crop, flips and HSV distortion of the config.

    Raises `ConfigError` for an unknown albumentations transform or argument.
    """

    num_samples = 1

    def __init__(self, augment: ClassifierAugmentConfig) -> None:
        self.augment, self.albumentations = augment, AlbumentationsChain(augment.transforms)

    def needed_wh(
        self, image_wh: tuple[int, int], size_wh: tuple[int, int], rng: np.random.Generator
    ) -> tuple[float, float] | None:
        """As `SizedTransform.needed_wh`; albumentations transforms and Darknet's crop need all pixels."""
        if self.augment.transforms or self.augment.geometry == "darknet":
            return None
        return _draw_crop_placement(image_wh, size_wh, self.augment, rng).size_of(image_wh)

    def __call__(self, samples: Sequence[Sample], size_wh: tuple[int, int], rng: np.random.Generator) -> Sample:
        """Transform one sample to `size_wh`; its boxes are dropped.

        Raises `ConfigError` if an albumentations transform cannot be applied.
        """
        (sample,) = samples
        config = self.augment
        image = _crop(self.albumentations(sample, rng), size_wh, config, rng)
        for axis, probability in ((1, config.flip), (0, config.flip_vertical)):
            if rng.random() < probability:
                image = cv2.flip(image, axis)
        distortion = draw_hsv_distortion(config.hue, config.saturation, config.exposure, rng)
        return Sample(distortion.apply(image), NO_BOXES, sample.name, sample.image_label)


def _crop(
    sample: Sample, size_wh: tuple[int, int], config: ClassifierAugmentConfig, rng: np.random.Generator
) -> np.ndarray:
    """Crop the image and resize the crop to `size_wh`, as `config.geometry` says."""
    if config.geometry == "darknet":
        return draw_rotated_crop(sample.size_wh, size_wh, config, rng).apply(sample.image, size_wh)
    placement = _draw_crop_placement(sample.size_wh, size_wh, config, rng)
    return apply_placement(sample.image, placement, size_wh, image_wh=sample.size_wh)


def _draw_crop_placement(
    image_wh: tuple[int, int], size_wh: tuple[int, int], config: ClassifierAugmentConfig, rng: np.random.Generator
) -> Placement:
    """Draw the placement of a random resized crop; the centre crop if `config.geometry` says so or no crop fits."""
    crop = draw_crop(image_wh, size_wh, config, rng) if config.geometry == "crop" else None
    return center_crop_placement(image_wh, size_wh) if crop is None else crop_placement(crop, size_wh)


@dataclass(frozen=True)
class RotatedCrop:
    """A rotated, scaled and stretched crop around the image's centre, moved by an offset (`rotate_crop_image`).

    On uint8 values, with positions rounded to 1/32 pixel; Darknet computes both in float32.
    """

    radians: float
    scale: float
    offset_xy: tuple[float, float]
    aspect: float

    def apply(self, image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
        """Return the crop at `size_wh`, black outside the image."""
        if max(image.shape) > MAX_WARP_SIDE:
            return self._apply_to_smaller(image, size_wh)
        return cv2.warpAffine(
            image,
            self.to_image((image.shape[1], image.shape[0]), size_wh),
            size_wh,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )

    def to_image(self, image_wh: tuple[int, int], size_wh: tuple[int, int]) -> np.ndarray:
        """Return the affine map (2, 3) from pixels of the crop to pixels of the image."""
        sin, cos = np.sin(self.radians), np.cos(self.radians)
        linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([self.aspect, 1]) / self.scale
        origin = np.array(self.offset_xy) - np.array(size_wh) / 2
        return np.column_stack([linear, linear @ origin + np.array(image_wh) / 2])

    def _apply_to_smaller(self, image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
        """Return the same crop of the image shrunk to `MAX_WARP_SIDE`."""
        h, w = image.shape[:2]
        ratio = MAX_WARP_SIDE / max(w, h)
        smaller = resize(image, (max(1, int(w * ratio)), max(1, int(h * ratio))))
        return replace(self, scale=self.scale / ratio).apply(smaller, size_wh)


def draw_rotated_crop(
    image_wh: tuple[int, int], size_wh: tuple[int, int], config: ClassifierAugmentConfig, rng: np.random.Generator
) -> RotatedCrop:
    """Draw a crop like Darknet's `random_augment_args`, with the crop sizes scaled to the network's shorter side."""
    (w, h), (width, height) = image_wh, size_wh
    aspect = draw_factor(config.aspect, rng)
    shorter = max(1, int(min(h, w * aspect)))
    scale = max(1, int(rng.integers(*config.crop_sizes(size_wh), endpoint=True))) / shorter
    radians = float(np.radians(rng.uniform(-config.angle, config.angle)))
    free = (w * scale / aspect - width) / 2, (h * scale - height) / 2
    offset_x, offset_y = (float(rng.uniform(-abs(side), abs(side))) for side in free)
    return RotatedCrop(radians, scale, (offset_x, offset_y), aspect)


def draw_crop(
    image_wh: tuple[int, int], size_wh: tuple[int, int], config: ClassifierAugmentConfig, rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """Draw a random crop (left, top, width, height) whose area is U(`config.area`) of the image's.

    Its aspect ratio is that of `size_wh` times a log-uniform factor between 1 / `config.aspect` and `config.aspect`.
    `None`: no crop fitted into the image in `CROP_TRIES` draws.
    """
    (w, h), (width, height) = image_wh, size_wh
    max_log_aspect = abs(float(np.log(config.aspect)))
    for _ in range(CROP_TRIES):
        area = rng.uniform(*config.area) * w * h
        aspect = width / height * np.exp(rng.uniform(-max_log_aspect, max_log_aspect))
        crop_w, crop_h = max(1, round(np.sqrt(area * aspect))), max(1, round(np.sqrt(area / aspect)))
        if crop_w <= w and crop_h <= h:
            left, top = (int(rng.integers(free, endpoint=True)) for free in (w - crop_w, h - crop_h))
            return left, top, crop_w, crop_h
    return None
