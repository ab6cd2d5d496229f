"""Ways of changing a classifier's training image: Darknet's (`data.c`, `image.c`), random resized crops, or none.

All randomness comes from the generator that is passed in.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from yolo9k.config.classifier import ClassifierAugmentConfig
from yolo9k.datasets.readers.index import NO_BOXES
from yolo9k.datasets.transforms.albumentations import Transforms
from yolo9k.datasets.transforms.detection import distort, draw_colours, random_scale
from yolo9k.images import centre, crop_placement, place, resize
from yolo9k.samples import Sample

CROP_TRIES = 10  # draws of a part that lies inside the image, before the middle is taken
LARGEST_SIDE = (1 << 15) - 2  # of an image that OpenCV turns


class ClassificationTransform:
    """What a classifier's training does to an image: albumentations transforms, a cut-out, flips, then colours.

    Raises `ConfigError` for a transform that albumentations does not have.
    """

    def __init__(self, augment: ClassifierAugmentConfig) -> None:
        self.augment, self.transforms = augment, Transforms(augment.transforms)

    def __call__(self, sample: Sample, size_wh: tuple[int, int], rng: np.random.Generator) -> Sample:
        """The sample at the size, without boxes. Raises `ConfigError` for a transform that does not fit."""
        config = self.augment
        image = _cut_out(self.transforms(sample, rng).image, size_wh, config, rng)
        for axis, probability in ((1, config.flip), (0, config.flip_vertical)):
            if rng.random() < probability:
                image = np.flip(image, axis)
        colours = draw_colours(config.hue, config.saturation, config.exposure, rng)
        image = distort(np.ascontiguousarray(image), *colours)
        return Sample(image, NO_BOXES, sample.name, sample.image_label)


def _cut_out(
    image: np.ndarray, size_wh: tuple[int, int], config: ClassifierAugmentConfig, rng: np.random.Generator
) -> np.ndarray:
    image_wh = (image.shape[1], image.shape[0])
    if config.geometry == "darknet":
        return draw_rotated_crop(image_wh, size_wh, config, rng).image(image, size_wh)
    part = draw_crop(image_wh, size_wh, config, rng) if config.geometry == "crop" else None
    return centre(image, size_wh) if part is None else place(image, crop_placement(part, size_wh), size_wh)


@dataclass(frozen=True)
class RotatedCrop:
    """A turned, scaled and stretched cut-out around the image's middle, moved by the offset (`rotate_crop_image`).

    As `yolo9k.darknet.images.rotate_crop`, but in bytes and with places rounded to 1/32 pixel.
    """

    radians: float
    scale: float
    offset_xy: tuple[float, float]
    aspect: float

    def image(self, image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
        """The cut-out of `size_wh`, black outside the image."""
        if max(image.shape) > LARGEST_SIDE:
            return self._of_less(image, size_wh)
        return cv2.warpAffine(
            image,
            self.to_image((image.shape[1], image.shape[0]), size_wh),
            size_wh,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )

    def to_image(self, image_wh: tuple[int, int], size_wh: tuple[int, int]) -> np.ndarray:
        """(2, 3) the affine map of a pixel of the cut-out to one of the image."""
        sin, cos = np.sin(self.radians), np.cos(self.radians)
        linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([self.aspect, 1]) / self.scale
        first = np.array(self.offset_xy) - np.array(size_wh) / 2
        return np.column_stack([linear, linear @ first + np.array(image_wh) / 2])

    def _of_less(self, image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
        """The same of the image made smaller."""
        h, w = image.shape[:2]
        share = LARGEST_SIDE / max(w, h)
        less = resize(image, (max(1, int(w * share)), max(1, int(h * share))))
        return RotatedCrop(self.radians, self.scale / share, self.offset_xy, self.aspect).image(less, size_wh)


def draw_rotated_crop(
    image_wh: tuple[int, int], size_wh: tuple[int, int], config: ClassifierAugmentConfig, rng: np.random.Generator
) -> RotatedCrop:
    """Draw as `random_augment_args` does, whose sizes of the shorter side are in proportion to the network's."""
    (w, h), (width, height) = image_wh, size_wh
    stretch = random_scale(config.aspect, rng)
    shorter = max(1, int(min(h, w * stretch)))
    scale = max(1, int(rng.integers(*config.crop_sizes(size_wh), endpoint=True))) / shorter
    radians = float(np.radians(rng.uniform(-config.angle, config.angle)))
    free = (w * scale / stretch - width) / 2, (h * scale - height) / 2
    offset_x, offset_y = (float(rng.uniform(-abs(side), abs(side))) for side in free)
    return RotatedCrop(radians, scale, (offset_x, offset_y), stretch)


def draw_crop(
    image_wh: tuple[int, int], size_wh: tuple[int, int], config: ClassifierAugmentConfig, rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """A part (left, top, width, height) of U(`area`) of the image, at any place; none where none was found inside.

    Its aspect is that of `size_wh` times a factor of up to `aspect`, evenly in its logarithm.
    """
    (w, h), (width, height) = image_wh, size_wh
    most = abs(float(np.log(config.aspect)))
    for _ in range(CROP_TRIES):
        area = rng.uniform(*config.area) * w * h
        aspect = width / height * np.exp(rng.uniform(-most, most))
        part_w, part_h = max(1, round(np.sqrt(area * aspect))), max(1, round(np.sqrt(area / aspect)))
        if part_w <= w and part_h <= h:
            left, top = (int(rng.integers(free, endpoint=True)) for free in (w - part_w, h - part_h))
            return left, top, part_w, part_h
    return None
