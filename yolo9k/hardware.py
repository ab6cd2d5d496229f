"""What this machine does best: device, number format, memory layout, number of worker processes."""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

from yolo9k.errors import MachineError

Precision = Literal["float32", "bf16", "fp16"]
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MAX_WORKERS = 8


def choose_device(requested: str) -> torch.device:
    """The device that `requested` names; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises `MachineError` where it is not there.
    """
    if requested == "auto":
        requested = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if requested.isdigit():
        requested = f"cuda:{requested}"
    try:
        device = torch.device(requested)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise MachineError(f"device {requested!r} is not here; {_devices()}") from error
    return device


def _devices() -> str:
    found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return "there are " + ", ".join(found + (["mps"] if torch.backends.mps.is_available() else []))


def choose_precision(requested: str, device: torch.device) -> Precision:
    """The number format of the network; `auto`: bf16 where the hardware multiplies it natively, else float32.

    CUDA devices without native bf16 get fp16. Raises `MachineError` for fp16 on a CPU.
    """
    if requested == "fp16" and device.type == "cpu":
        raise MachineError("train.precision: fp16 needs a GPU; a CPU takes float32 or bf16")
    if requested != "auto":
        return requested  # type: ignore[return-value]  # the schema has checked it
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_multiplies_bf16() else "float32"


def _cpu_multiplies_bf16() -> bool:
    abilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def choose_memory_format(requested: Literal["auto"] | bool, device: torch.device) -> torch.memory_format:
    """Channels last where convolutions are fastest so (all but MPS), unless the config says otherwise."""
    last = device.type != "mps" if requested == "auto" else requested
    return torch.channels_last if last else torch.contiguous_format


def choose_workers(requested: Literal["auto"] | int) -> int:
    """Processes that read and augment: one a core, at most 8."""
    return min(available_cores(), MAX_WORKERS) if requested == "auto" else requested


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[None]:
    """Mixed precision for a forward pass; nothing for float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of a GPU or of the machine, ran out."""
    signs = "can't allocate memory", "out of memory", "is killed by signal"  # CPU, MPS, a reading process
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in signs)


@contextmanager
def explain_out_of_memory(device: torch.device, remedy: str) -> Iterator[None]:
    """Around heavy work: memory that runs out becomes an `MachineError` that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise MachineError(f"out of memory on {device}; {remedy}") from error


def peak_memory(device: torch.device) -> tuple[int | None, str]:
    """The most bytes that were in use so far, on the GPU or by this process, and which; none where nobody counts."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), " on the GPU"
    if sys.platform == "win32":
        return None, ""
    import resource  # POSIX only

    unit = 1 if sys.platform == "darwin" else 1024  # what getrusage counts in
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, " of this process"
