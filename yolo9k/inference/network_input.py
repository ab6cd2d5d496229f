"""The input of networks in PyTorch: scale batches to [0, 1] on the device, fit batches to the memory."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from yolo9k.hardware import DTYPES, explain_out_of_memory, require_memory
from yolo9k.inference.engines.session import say_batch
from yolo9k.inference.engines.session_network import SessionNetwork
from yolo9k.machine import free_memory
from yolo9k.models.memory import image_bytes

LOG = logging.getLogger(__name__)


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


class MemoryLimit:
    """Fits batches of `size_wh` pixels to the memory of a device; `forward`: the part of the network that runs.

    On other devices than the CPU, batches are left as they are: the device says if its memory is too small. An
    exported file may have a fixed batch size, and its runtime allocates the memory.
    """

    def __init__(
        self,
        network: nn.Module,
        size_wh: tuple[int, int],
        device: torch.device,
        precision: str,
        forward: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.size, self.device = f"{size_wh[0]}x{size_wh[1]}", device
        self.fixed_batch = network.session.info.batch if isinstance(network, SessionNetwork) else None
        is_counted = device.type == "cpu" and not isinstance(network, SessionNetwork)
        in_float32 = image_bytes(network, size_wh, forward=forward) if is_counted else 0
        self.image_bytes = in_float32 * DTYPES[precision].itemsize // torch.float32.itemsize

    def fit(self, batch: int) -> int:
        """Return the batch size, lowered with a warning to what the free memory bears.

        Raises `MachineError` if it does not bear one image.
        """
        if self.fixed_batch is not None:
            return say_batch(batch, self.fixed_batch, "the exported file has a fixed batch size")
        require_memory(self.image_bytes, self.device, f"size {self.size}: one image", "use a smaller size")
        free = free_memory() if self.image_bytes else None
        fitting = batch if free is None else min(batch, max(1, free * 4 // 5 // self.image_bytes))  # some is for others
        if fitting < batch:
            gigabytes = self.image_bytes / 1e9
            LOG.warning("batch %d instead of %d: %s images need %.1f GB each", fitting, batch, self.size, gigabytes)
        return fitting
