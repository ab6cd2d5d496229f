"""Start the same command in several processes with torch's launcher, for `--devices`, and again if one is killed."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from yolo9k import processes
from yolo9k.errors import ConfigError, MachineError

LAUNCHER_LOGGERS = ("torch.distributed.elastic", "torch.multiprocessing")
MAX_RESTARTS = 3
SIGNALLED = 128  # higher exit codes are of signals
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
    try:
        codes: dict[int, int] = elastic_launch(_settings(count, max_restarts), run_worker)(sys.argv[1:])
    except SignalException as error:
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        raise MachineError(_failure(error, count, max_restarts)) from error
    return _exit_code([codes[index] for index in sorted(codes)])


def run_worker(arguments: Sequence[str]) -> int:
    """Run the command in one of the processes and return its exit code, since errors are no reason to restart.

    Exits if a signal stopped it: the launcher goes on when all processes have returned, or one has exited.
    """
    from yolo9k.cli import app, exit_code

    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)  # Ctrl-C reaches the launcher alone, which passes it on once
    try:
        code = exit_code(app, "yolo9k", arguments) or 0
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = 1
    if code > SIGNALLED:
        sys.exit(code)
    return int(code)


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
    from yolo9k.hardware import available_cores

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // count)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", processes.CPP_LOG_LEVEL)


def _settings(count: int, max_restarts: int) -> Any:
    from torch.distributed.launcher.api import LaunchConfig

    known = {field.name for field in fields(LaunchConfig)}
    newer: dict[str, Any] = {"shutdown_timeout": SHUTDOWN_S} if "shutdown_timeout" in known else {}
    return LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, max_restarts=max_restarts,
        run_id=processes.new_launch_id(), rdzv_backend="c10d", rdzv_endpoint="localhost:0", **newer,
    )  # fmt: skip


def _failure(error: Any, count: int, max_restarts: int) -> str:
    """Return what a killed process says."""
    _, failure = error.get_first_failure()
    end = signal.Signals(-failure.exitcode).name if failure.exitcode < 0 else f"exit code {failure.exitcode}"
    restarts = f"; {max_restarts} restarts did not help" if max_restarts else ""
    return f"process {failure.local_rank} of {count} ended with {end}{restarts}; was the memory too small?"


def _exit_code(codes: Sequence[int]) -> int:
    """Return the exit code of the first process that did not end because of another one."""
    lost = processes.LostProcessError.exit_code
    return next((code for code in codes if code not in (0, lost)), max(codes))
