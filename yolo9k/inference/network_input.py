"""The input of networks: check images, scale batches to [0, 1] on the device, explain batches too large for memory."""

from contextlib import AbstractContextManager

import numpy as np
import torch

from yolo9k.datasets.transforms.grey import to_grey
from yolo9k.errors import ConfigError
from yolo9k.hardware import explain_out_of_memory
from yolo9k.inference.resize import Resize


def check_image(image: np.ndarray) -> None:
    """Raise `ConfigError` unless the array is an image: uint8 (H, W, 3)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(f"image: must be uint8 (H, W, 3) RGB, not {image.dtype} {image.shape}")


def prepare(image: np.ndarray, resize: Resize, channels: int) -> torch.Tensor:
    """Return an image at the network's size: (3, H, W), or (1, H, W) of grey; uint8 or floats in [0, 1].

    Raises `ConfigError` unless the array is an image.
    """
    check_image(image)
    return resize.apply(image) if channels == 3 else resize.apply(to_grey(image))[:channels]


def to_network_input(images: torch.Tensor, device: torch.device, memory_format: torch.memory_format) -> torch.Tensor:
    """Copy images (B, C, H, W), uint8 or floats in [0, 1], to the device as floats in [0, 1]."""
    values = images.to(device)
    floats = values.float().div_(255) if values.dtype == torch.uint8 else values
    return floats.contiguous(memory_format=memory_format)


def explain_large_batch(device: torch.device, images: torch.Tensor) -> AbstractContextManager[None]:
    """Raise `MachineError` with a hint if the block runs out of memory on images (B, C, H, W)."""
    count, _, h, w = images.shape
    hint = f"{count} images of {w}x{h} per batch are too many; use a smaller batch or size"
    return explain_out_of_memory(device, hint)
