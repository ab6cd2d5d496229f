"""The ways to fit an image to a network's input size: letterbox or stretch for detectors, centre crop for classifiers.

Each exists with area averaging as in training (`area`), and number for number as in Darknet (`darknet`); the config
keys `data.resize` and `data.resize_mode` choose. `FITS` and `CENTER_CROPS` map their values to the classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from yolo9k.boxes import cxcywh_to_xyxy, xyxy_to_cxcywh
from yolo9k.darknet.images import center_crop, correct_boxes, letterbox, stretch
from yolo9k.datasets.transforms.grey import to_grey
from yolo9k.errors import ConfigError
from yolo9k.images import SizeWH
from yolo9k.placements import ResizeMode, apply_placement, center_crop_placement, fit_placement, resize_center_crop


class Resize(Protocol):
    """Fits images to a network's input size."""

    def apply(self, image: np.ndarray, image_wh: SizeWH | None = None) -> np.ndarray:
        """Convert an image, uint8 (H, W, 3), to the network's size: (3, H, W), uint8 or floats in [0, 1].

        `image_wh`: width and height of the whole image, if `image` was read for `needed_wh`.
        """

    def needed_wh(self, image_wh: SizeWH) -> tuple[float, float] | None:
        """Return width and height to which `apply` shrinks the whole image; `None`: it needs all pixels."""


@dataclass(frozen=True)
class _AllPixels:
    """What the exact ways of Darknet have in common: no JPEG is read at a reduced size for them."""

    size_wh: SizeWH

    def needed_wh(self, image_wh: SizeWH) -> None:
        """As `Resize.needed_wh`."""


class Fit(Resize, Protocol):
    """Fits whole images to the input size: letterboxed (on grey padding, the aspect ratio is kept) or stretched."""

    def undo(self, xyxy: np.ndarray, image_wh: SizeWH) -> np.ndarray:
        """Map boxes (N, 4) from pixels of the network's input to pixels of the image."""


@dataclass(frozen=True)
class AreaFit:
    """Letterbox or stretch with area averaging; the image is uint8."""

    size_wh: SizeWH
    mode: ResizeMode = "letterbox"

    def apply(self, image: np.ndarray, image_wh: SizeWH | None = None) -> np.ndarray:
        """As `Resize.apply`."""
        image_wh = image_wh or (image.shape[1], image.shape[0])
        placement = fit_placement(image_wh, self.size_wh, self.mode)
        fitted = apply_placement(image, placement, self.size_wh, image_wh=image_wh)
        return fitted.transpose(2, 0, 1)

    def needed_wh(self, image_wh: SizeWH) -> tuple[float, float]:
        """As `Resize.needed_wh`."""
        return fit_placement(image_wh, self.size_wh, self.mode).size_of(image_wh)

    def undo(self, xyxy: np.ndarray, image_wh: SizeWH) -> np.ndarray:
        """As `Fit.undo`."""
        return fit_placement(image_wh, self.size_wh, self.mode).to_image(xyxy)


@dataclass(frozen=True)
class DarknetLetterbox(_AllPixels):
    """Letterbox and box correction of Darknet (`letterbox_image`, `correct_region_boxes`); the image is float32."""

    def apply(self, image: np.ndarray, image_wh: SizeWH | None = None) -> np.ndarray:
        """As `Resize.apply`."""
        return letterbox(image, self.size_wh)

    def undo(self, xyxy: np.ndarray, image_wh: SizeWH) -> np.ndarray:
        """As `Fit.undo`."""
        relative = xyxy_to_cxcywh(xyxy) / np.array(self.size_wh * 2, np.float32)
        return cxcywh_to_xyxy(correct_boxes(relative, image_wh, self.size_wh, relative=False))


@dataclass(frozen=True)
class DarknetStretch(_AllPixels):
    """Stretch as in AlexeyAB's fork of Darknet with `letter_box=0` (`darknet.images.stretch`); the image is uint8."""

    def apply(self, image: np.ndarray, image_wh: SizeWH | None = None) -> np.ndarray:
        """As `Resize.apply`."""
        return stretch(image, self.size_wh)

    def undo(self, xyxy: np.ndarray, image_wh: SizeWH) -> np.ndarray:
        """As `Fit.undo`."""
        return fit_placement(image_wh, self.size_wh, "stretch").to_image(xyxy)


@dataclass(frozen=True)
class AreaCenterCrop:
    """The largest centre crop with the aspect ratio of the input, with area averaging; the image is uint8."""

    size_wh: SizeWH

    def apply(self, image: np.ndarray, image_wh: SizeWH | None = None) -> np.ndarray:
        """As `Resize.apply`."""
        return resize_center_crop(image, self.size_wh, image_wh).transpose(2, 0, 1)

    def needed_wh(self, image_wh: SizeWH) -> tuple[float, float]:
        """As `Resize.needed_wh`."""
        return center_crop_placement(image_wh, self.size_wh).size_of(image_wh)


@dataclass(frozen=True)
class DarknetCenterCrop(_AllPixels):
    """The largest centred square, resized as in Darknet (`center_crop_image`); the image is float32."""

    def apply(self, image: np.ndarray, image_wh: SizeWH | None = None) -> np.ndarray:
        """As `Resize.apply`."""
        return center_crop(image, self.size_wh)


FITS: dict[tuple[str, str], Callable[[SizeWH], Fit]] = {  # by `data.resize` and `data.resize_mode`
    ("area", "letterbox"): AreaFit,
    ("area", "stretch"): partial(AreaFit, mode="stretch"),
    ("darknet", "letterbox"): DarknetLetterbox,
    ("darknet", "stretch"): DarknetStretch,
}
CENTER_CROPS: dict[str, Callable[[SizeWH], Resize]] = {"area": AreaCenterCrop, "darknet": DarknetCenterCrop}


def check_image(image: np.ndarray) -> None:
    """Raise `ConfigError` unless the array is an image: uint8 (H, W, 3)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(f"image: must be uint8 (H, W, 3) RGB, not {image.dtype} {image.shape}")


def prepare(image: np.ndarray, resize: Resize, channels: int, image_wh: SizeWH | None = None) -> np.ndarray:
    """Return an image at the network's size: (3, H, W), or (1, H, W) of grey; uint8 or floats in [0, 1].

    `image_wh`: width and height of the whole image, if `image` was read at the size that `resize` needs. Raises
    `ConfigError` unless the array is an image.
    """
    check_image(image)
    return resize.apply(image if channels == 3 else to_grey(image), image_wh)[:channels]
