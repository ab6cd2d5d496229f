"""Start the same command in several processes with torch's launcher, for `--devices`, and again if one is killed."""

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from yolo9k import processes
from yolo9k.errors import ConfigError, MachineError, Yolo9kError

LAUNCHER_LOGGERS = ("torch.distributed.elastic", "torch.multiprocessing")
MAX_RESTARTS = 3
SIGNALLED = 128  # higher exit codes are of signals
ALL_FAIL_S = 2.0  # within which all processes fail that do so for the same reason
SHUTDOWN_S = 300  # to finish a step and save after a signal


def launch(devices: str, device: str, max_restarts: int) -> int:
    """Run the command of this program in one process per device; return its exit code.

    `devices`: a number of processes, GPUs (`0,1`), or `all` GPUs; `device`: as for a single process. If a process is
    killed, all of them start again, at most `max_restarts` times. Raises `ConfigError` for other values, and
    `MachineError` if a process is killed once more.
    """
    count = _choose_devices(devices, device)
    _prepare_environment(count)
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    for name in [name for name in logging.root.manager.loggerDict if name.startswith(LAUNCHER_LOGGERS)]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # tracebacks of restarts, and each signal that is passed on
    with tempfile.TemporaryDirectory() as folder:
        try:
            elastic_launch(_settings(count, max_restarts), run_worker)(folder, count, sys.argv[1:])
        except SignalException as error:
            return 128 + int(error.sigval)
        except ChildFailedError as error:
            if not _codes(Path(folder)):
                raise MachineError(_failure(error, count, max_restarts)) from error
        return max(_codes(Path(folder)), default=0)


def run_worker(folder: str, count: int, arguments: Sequence[str]) -> None:
    """Run the command in one of `count` processes.

    An exit code that is an error is left in `folder`, so that processes which the launcher starts again end at once:
    only after a kill can they go on. The launcher lets processes that return wait for the others, and would never end
    those that wait for this one: so it exits, unless all have failed.
    """
    from yolo9k.cli import app, exit_code, leave

    if _codes(Path(folder)):
        return
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C reaches the launcher alone, which passes it on once
    errors: list[Yolo9kError] = []
    try:
        code = exit_code(app, "yolo9k", arguments, on_error=errors.append) or 0
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = 1
    if not code:
        return
    is_interrupted = code > SIGNALLED and not errors  # before anything was saved; so the launcher ends survivors
    if not is_interrupted and not any(isinstance(error, processes.LostProcessError) for error in errors):
        (Path(folder) / f"{processes.launched_rank()}").write_text(str(code), encoding="utf-8")
        deadline = time.monotonic() + ALL_FAIL_S
        while time.monotonic() < deadline:
            if len(_codes(Path(folder))) == count:
                return
            time.sleep(0.05)
    leave(code)


def _codes(folder: Path) -> list[int]:
    """Return the exit codes that processes have left."""
    texts = (path.read_text(encoding="utf-8") for path in folder.iterdir())
    return [int(text) for text in texts if text]


def _choose_devices(devices: str, device: str) -> int:
    """Return the number of processes, and let them see only the GPUs that are given."""
    import torch

    if device not in ("", "auto", "cpu", "cuda"):
        raise ConfigError(f"--device {device}: with --devices, only auto, cpu or cuda")
    gpus = 0 if device == "cpu" else torch.cuda.device_count()
    found = f"; found {gpus} GPUs" if gpus or device == "cuda" else ", which share the CPU: no GPU was found"
    if devices == "all" and gpus:
        return gpus
    indices = [int(index) for index in devices.split(",") if index.isdecimal()]
    if len(indices) != devices.count(",") + 1 or len(set(indices)) < len(indices):
        raise ConfigError(f"--devices {devices}: must be a number of processes, GPUs such as 0,1, or all{found}")
    if len(indices) == 1:
        if indices[0] < 1 or ((gpus or device == "cuda") and indices[0] > gpus):
            raise ConfigError(f"--devices {devices}: must be 1 or more processes{found}")
        return indices[0]
    if max(indices) >= gpus:
        raise ConfigError(f"--devices {devices}: no such GPUs{found}")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpus)))
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible.split(",")[index] for index in indices)
    return len(indices)


def _prepare_environment(count: int) -> None:
    """Set what the processes inherit: threads that share the cores, and that torch's C++ code prints errors only."""
    from yolo9k.machine import available_cores

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // count)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", processes.CPP_LOG_LEVEL)


def _settings(count: int, max_restarts: int) -> Any:
    from torch.distributed.launcher.api import LaunchConfig

    known = {field.name for field in fields(LaunchConfig)}
    newer: dict[str, Any] = {"shutdown_timeout": SHUTDOWN_S} if "shutdown_timeout" in known else {}
    return LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, max_restarts=max_restarts,
        run_id=processes.new_launch_id(), rdzv_backend="c10d", rdzv_endpoint="localhost:0", local_addr="localhost",
        **newer,
    )  # fmt: skip


def _failure(error: Any, count: int, max_restarts: int) -> str:
    """Return what a killed process says."""
    _, failure = error.get_first_failure()
    end = signal.Signals(-failure.exitcode).name if failure.exitcode < 0 else f"exit code {failure.exitcode}"
    restarts = f"; {max_restarts} restarts did not help" if max_restarts else ""
    return f"process {failure.local_rank} of {count} ended with {end}{restarts}; was the memory too small?"
