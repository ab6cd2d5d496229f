"""What detectors and classifiers share: images as a network takes them, and memory that runs out."""

from contextlib import AbstractContextManager

import numpy as np
import torch

from yolo9k.errors import ConfigError
from yolo9k.hardware import explain_out_of_memory


def check_image(image: np.ndarray) -> None:
    """Raises `ConfigError` for an array that is no image."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ConfigError(f"an image is uint8 (H, W, 3) RGB, not {image.dtype} {image.shape}")


def to_network(images: torch.Tensor, device: torch.device, memory_format: torch.memory_format) -> torch.Tensor:
    """Images (B, 3, H, W), bytes or floats in [0, 1], as floats in [0, 1] where and how the network wants them."""
    values = images.to(device)
    floats = values.float().div_(255) if values.dtype == torch.uint8 else values
    return floats.contiguous(memory_format=memory_format)


def explain_memory(device: torch.device, images: torch.Tensor) -> AbstractContextManager[None]:
    """Around the work on images (B, 3, H, W): memory that runs out becomes an `MachineError`."""
    count, _, h, w = images.shape
    many = f"{count} images of {w}x{h} at a time are too many; use a smaller batch or size"
    return explain_out_of_memory(device, many)
