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
from yolo9k.placements import ResizeMode, apply_placement, fit_placement, resize_center_crop


class Resize(Protocol):
    """Fits images to a network's input size."""

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Convert an image, uint8 (H, W, 3), to the network's size: (3, H, W), uint8 or floats in [0, 1]."""


class Fit(Resize, Protocol):
    """Fits whole images to the input size: letterboxed (on grey padding, the aspect ratio is kept) or stretched."""

    def undo(self, xyxy: np.ndarray, image_wh: tuple[int, int]) -> np.ndarray:
        """Map boxes (N, 4) from pixels of the network's input to pixels of the image."""


@dataclass(frozen=True)
class AreaFit:
    """Letterbox or stretch with area averaging; the image is uint8."""

    size_wh: tuple[int, int]
    mode: ResizeMode = "letterbox"

    def apply(self, image: np.ndarray) -> np.ndarray:
        """As `Resize.apply`."""
        placement = fit_placement((image.shape[1], image.shape[0]), self.size_wh, self.mode)
        return apply_placement(image, placement, self.size_wh).transpose(2, 0, 1)

    def undo(self, xyxy: np.ndarray, image_wh: tuple[int, int]) -> np.ndarray:
        """As `Fit.undo`."""
        return fit_placement(image_wh, self.size_wh, self.mode).to_image(xyxy)


@dataclass(frozen=True)
class DarknetLetterbox:
    """Letterbox and box correction of Darknet (`letterbox_image`, `correct_region_boxes`); the image is float32."""

    size_wh: tuple[int, int]

    def apply(self, image: np.ndarray) -> np.ndarray:
        """As `Resize.apply`."""
        return letterbox(image, self.size_wh)

    def undo(self, xyxy: np.ndarray, image_wh: tuple[int, int]) -> np.ndarray:
        """As `Fit.undo`."""
        relative = xyxy_to_cxcywh(xyxy) / np.array(self.size_wh * 2, np.float32)
        return cxcywh_to_xyxy(correct_boxes(relative, image_wh, self.size_wh, relative=False))


@dataclass(frozen=True)
class DarknetStretch:
    """Stretch as in AlexeyAB's fork of Darknet with `letter_box=0` (`darknet.images.stretch`); the image is uint8."""

    size_wh: tuple[int, int]

    def apply(self, image: np.ndarray) -> np.ndarray:
        """As `Resize.apply`."""
        return stretch(image, self.size_wh)

    def undo(self, xyxy: np.ndarray, image_wh: tuple[int, int]) -> np.ndarray:
        """As `Fit.undo`."""
        return fit_placement(image_wh, self.size_wh, "stretch").to_image(xyxy)


@dataclass(frozen=True)
class AreaCenterCrop:
    """The largest centre crop with the aspect ratio of the input, with area averaging; the image is uint8."""

    size_wh: tuple[int, int]

    def apply(self, image: np.ndarray) -> np.ndarray:
        """As `Resize.apply`."""
        return resize_center_crop(image, self.size_wh).transpose(2, 0, 1)


@dataclass(frozen=True)
class DarknetCenterCrop:
    """The largest centred square, resized as in Darknet (`center_crop_image`); the image is float32."""

    size_wh: tuple[int, int]

    def apply(self, image: np.ndarray) -> np.ndarray:
        """As `Resize.apply`."""
        return center_crop(image, self.size_wh)


FITS: dict[tuple[str, str], Callable[[tuple[int, int]], Fit]] = {  # by `data.resize` and `data.resize_mode`
    ("area", "letterbox"): AreaFit,
    ("area", "stretch"): partial(AreaFit, mode="stretch"),
    ("darknet", "letterbox"): DarknetLetterbox,
    ("darknet", "stretch"): DarknetStretch,
}
CENTER_CROPS: dict[str, Callable[[tuple[int, int]], Resize]] = {"area": AreaCenterCrop, "darknet": DarknetCenterCrop}


def check_image(image: np.ndarray) -> None:
    """Raise `ConfigError` unless the array is an image: uint8 (H, W, 3)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(f"image: must be uint8 (H, W, 3) RGB, not {image.dtype} {image.shape}")


def prepare(image: np.ndarray, resize: Resize, channels: int) -> np.ndarray:
    """Return an image at the network's size: (3, H, W), or (1, H, W) of grey; uint8 or floats in [0, 1].

    Raises `ConfigError` unless the array is an image.
    """
    check_image(image)
    return resize.apply(image) if channels == 3 else resize.apply(to_grey(image))[:channels]
