"""Time repeated calls on a device."""

import time
from collections.abc import Callable

import torch


def seconds_per_call(device: torch.device, action: Callable[[], object], calls: int) -> float:
    """Return the mean time of a call in seconds, including the work that it starts on the device."""
    _synchronise(device)
    start = time.monotonic()
    for _ in range(calls):
        action()
    _synchronise(device)
    return (time.monotonic() - start) / calls


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
