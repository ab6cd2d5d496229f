"""Choose device, precision, memory format and number of workers for this machine."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

from yolo9k import processes
from yolo9k.errors import ConfigError, MachineError, quote
from yolo9k.machine import available_cores, free_memory

Precision = Literal["float32", "bf16", "fp16"]
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MAX_WORKERS = 8
WORKER_KILLED = (
    "a data loader worker was killed, probably because memory ran out; lower data.workers, train.batch or the image "
    "size"
)


def choose_device(requested: str) -> torch.device:
    """Return the requested device; `auto` tries CUDA, then Apple's MPS, then the CPU.

    Of several processes on a machine, each gets a GPU of its own. Raises `MachineError` if the device is not available.
    """
    if requested == "auto":
        has_mps = torch.backends.mps.is_available() and not processes.is_joined()  # exchanges nothing
        requested = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    if requested.isdigit():
        requested = f"cuda:{requested}"
    if processes.local_count() > 1 and requested != "cpu":
        requested = _own_gpu(requested)
    try:
        device = torch.device(requested)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise MachineError(f"device {quote(requested)} is not available; {_devices()}") from error
    return device


def _own_gpu(requested: str) -> str:
    """Return the GPU of this process, one of several on this machine, and make it torch's current one."""
    count = processes.local_count()
    if requested not in ("cuda", f"cuda:{processes.local_rank()}"):
        raise MachineError(f"device {quote(requested)}: {count} processes cannot share it; choose auto, cuda or cpu")
    if torch.cuda.device_count() < count:
        raise MachineError(f"{count} processes need {count} GPUs; {_devices()}; with device cpu they need none")
    torch.cuda.set_device(processes.local_rank())
    return f"cuda:{processes.local_rank()}"


def _devices() -> str:
    found = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return "available: " + ", ".join(found + (["mps"] if torch.backends.mps.is_available() else []))


def choose_precision(requested: str, device: torch.device) -> Precision:
    """Return the precision of the network; `auto`: bf16 if the hardware multiplies it natively, else float32.

    `auto` is fp16 on CUDA devices without native bf16. Raises `MachineError` for fp16 on a CPU.
    """
    if requested == "fp16" and device.type == "cpu":
        raise MachineError("precision: fp16 needs a GPU; use float32 or bf16 on a CPU")
    if requested == "int8":
        raise ConfigError("precision: int8 is only for exported files that are int8; use float32 or bf16")
    if requested != "auto":
        return requested  # type: ignore[return-value]  # the schema has checked it
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if device.type == "cpu" and _cpu_multiplies_bf16() else "float32"


def _cpu_multiplies_bf16() -> bool:
    abilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))


def choose_memory_format(requested: Literal["auto"] | bool, device: torch.device) -> torch.memory_format:
    """Return channels last for `auto`, which is fastest on every device but MPS."""
    last = device.type != "mps" if requested == "auto" else requested
    return torch.channels_last if last else torch.contiguous_format


def choose_workers(requested: Literal["auto"] | int) -> int:
    """Return the number of data loader workers; `auto`: one per core, at most 8."""
    return min(available_cores(), MAX_WORKERS) if requested == "auto" else requested


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the autocast context of a forward pass; a null context for float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the GPU or the machine is out of memory."""
    signs = "can't allocate memory", "out of memory"  # CPU, MPS
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in signs)


def worker_died(error: BaseException) -> bool:
    """Return whether an error of torch means that a data loader worker was killed or crashed."""
    return "DataLoader worker" in str(error) and ("killed" in str(error) or "exited" in str(error))


@contextmanager
def explain_out_of_memory(device: torch.device, hint: str) -> Iterator[None]:
    """Turn an out-of-memory error in the block, or a killed worker, into a `MachineError` that ends with `hint`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if worker_died(error):
            raise MachineError(WORKER_KILLED) from error
        if not out_of_memory(error):
            raise
        raise MachineError(f"out of memory on {device}; {hint}") from error


def peak_memory(device: torch.device) -> tuple[int | None, str]:
    """Return the peak memory so far in bytes, and whose: of the GPU, else of this process; `None` on Windows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), " on the GPU"
    if sys.platform == "win32":
        return None, ""
    import resource  # POSIX only

    unit = 1 if sys.platform == "darwin" else 1024  # what getrusage counts in
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, " of this process"


def require_memory(needed: int, device: torch.device, what: str, hint: str) -> None:
    """Raise `MachineError` if the free memory is less than `needed` bytes for `what`; a GPU says so itself.

    Too little memory would otherwise end the process, or the whole machine, without a message.
    """
    free = free_memory() if device.type == "cpu" else None
    if free is not None and needed > free:
        raise MachineError(
            f"{what} needs at least {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free; {hint}"
        )
