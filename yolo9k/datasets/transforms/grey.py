"""Grey images, for networks with one input channel (`channels=1` in a Darknet cfg)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from yolo9k.datasets.transforms.transform import SizedTransform, Transform
from yolo9k.samples import Sample

LUMA = np.array((77, 150, 29), np.uint16)  # of 256: red, green, blue


def to_grey(image: np.ndarray) -> np.ndarray:
    """Return an image, uint8 (H, W, 3), whose channels all have the luma (77 R + 150 G + 29 B) >> 8.

    This is how Darknet reads an image for `channels=1` (`load_image_stb` with c=1; `stb_image.h: stbi__compute_y`).
    """
    luma = (image @ LUMA >> 8).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=2)


class GreyTransform:
    """Another transform, of grey images: it reads and changes three equal channels, of which one is kept.

    Hue and saturation change nothing; the exposure does, as in AlexeyAB's fork (`image.c: distort_image`).
    """

    def __init__(self, transform: Transform) -> None:
        self.transform, self.num_samples = transform, transform.num_samples

    def needed_wh(
        self, image_wh: tuple[int, int], size_wh: tuple[int, int], rng: np.random.Generator
    ) -> tuple[float, float] | None:
        """As the other transform; all pixels if it does not say."""
        if not isinstance(self.transform, SizedTransform):
            return None
        return self.transform.needed_wh(image_wh, size_wh, rng)

    def __call__(self, samples: Sequence[Sample], size_wh: tuple[int, int], rng: np.random.Generator) -> Sample:
        """As the other transform; the image is uint8 (H, W, 1)."""
        grey = [replace(sample, image=to_grey(sample.image)) for sample in samples]
        sample = self.transform(grey, size_wh, rng)
        return replace(sample, image=np.ascontiguousarray(sample.image[..., :1]))


def for_channels(transform: Transform, channels: int) -> Transform:
    """Return the transform for a network with 3 input channels (RGB) or 1 (grey)."""
    return GreyTransform(transform) if channels == 1 else transform
