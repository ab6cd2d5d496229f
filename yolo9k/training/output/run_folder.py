"""`RunFolder`: the files of a run (`runs/<name>/`): config, environment, metrics, checkpoints and plots."""

import csv
import json
import math
import platform
import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from filelock import SoftFileLock, Timeout

from yolo9k import __version__, processes
from yolo9k.config import RunConfig, dump
from yolo9k.errors import ConfigError, MachineError, WeightsError
from yolo9k.io import write_text, writing
from yolo9k.training.output.checkpoints import CHECKPOINTS
from yolo9k.training.output.tensorboard import EventFile

LOCK = ".lock"
FIRST_COLUMN = "step,"
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "pycocotools")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is created: one process at a time trains in it.

    The lock of a process of this machine that has ended is taken over. Raises `ConfigError` if another process holds
    it, `MachineError` if it cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = SoftFileLock(folder / LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            holder = f"process {lock.pid}" if lock.pid else "another process"
            raise ConfigError(
                f"{folder}: {holder} is training in it; wait until it ends; if it has ended on another machine, delete "
                f"{folder / LOCK}"
            ) from error
    try:
        yield
    finally:
        lock.release()


def run_folder_of(path: Path) -> Path:
    """Return the run folder of a run folder itself or of a checkpoint in it. Raises `WeightsError` if there is none."""
    if path.is_dir():
        return path
    if not path.exists():
        raise WeightsError(f"{path}: no such run folder")
    if path.parent.name != CHECKPOINTS:
        raise WeightsError(
            f"{path}: is not in the folder {CHECKPOINTS} of a run; --weights starts a new run from a file"
        )
    return path.parent.parent


@contextmanager
def new_run_folder(base: Path, name: str, *, reuse: bool = False) -> Iterator[Path]:
    """Create the folder `base/name`, with -2, -3, ... added if the name is taken; remove it if no checkpoint is saved.

    `reuse`: take a folder in which a run ended before its first checkpoint. Raises `MachineError` if it cannot be
    created.
    """
    folder = base / name
    if not (reuse and _has_no_checkpoint(folder)):
        folder = _create(base, name)
    try:
        yield folder
    finally:
        if not any(folder.glob(f"{CHECKPOINTS}/*.pt")):  # useless, and would take the name from the next try
            shutil.rmtree(folder, ignore_errors=True)


def folder_of_launch(runs: Path) -> Path | None:
    """Return the run in `runs` that the launcher of this process began before it started all processes again.

    The newest one: a launcher's id may be the same as that of an earlier one.
    """
    found: list[tuple[float, Path]] = []
    for path in runs.glob("*/environment.json"):
        with suppress(OSError, ValueError):
            environment = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(environment, dict) and environment.get("launch") == processes.launch_id():
                found.append((path.stat().st_mtime, path.parent))
    return max(found)[1] if found else None


def _has_no_checkpoint(folder: Path) -> bool:
    """Return whether a folder is empty or that of a run which has no checkpoint."""
    if not folder.is_dir():
        return False
    is_run = (folder / "config.yaml").exists() or not any(folder.iterdir())
    return is_run and not any(folder.glob(f"{CHECKPOINTS}/*.pt"))


def _create(base: Path, name: str) -> Path:
    count = 1
    while True:
        folder = base / (name if count == 1 else f"{name}-{count}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            count += 1
            continue
        except OSError as error:
            raise MachineError(f"{folder}: cannot be created: {error.strerror or error}") from error
        return folder


class RunFolder:
    """Writes the files of a run. All methods but `close` raise `MachineError` if a file cannot be written.

    Older runs resume: keep the names of files, columns and keys.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / CHECKPOINTS
        self._events: EventFile | None = None

    def open(self, config: RunConfig, step: int, *, evaluation_pending: bool = False) -> list[str]:
        """Write the resolved config and the environment; remove entries after `step`, which a resumed run repeats.

        `evaluation_pending`: also the scores of `step`. What a process that was killed left half-written is removed,
        as are damaged lines at the end of a file, of which one note each is returned.
        """
        write_text(self.path / "config.yaml", dump(config))
        write_text(self.path / "environment.json", json.dumps(_environment(), indent=1) + "\n")
        for draft in (*self.path.glob("*.part"), *self.checkpoints.glob("*.part")):
            with suppress(OSError):
                draft.unlink()
        scored = step - 1 if evaluation_pending else step

        def is_kept(at: int, names: Collection[str]) -> bool:
            return at <= (scored if any(name.startswith("val/") for name in names) else step)

        notes = [
            self._keep_lines("metrics.jsonl", lambda line: is_kept(int((entry := json.loads(line))["step"]), entry)),
            self._keep_lines("results.csv", lambda line: int(line.split(",")[0]) <= scored, has_header=True),
        ]
        with writing(self.path):
            self._events = EventFile(self.path, is_kept)
        return [note for note in notes if note]

    def add_metrics(self, entry: Mapping[str, float]) -> None:
        """Add an entry, which has a `step`, to `metrics.jsonl` and TensorBoard.

        JSON has no NaN or infinity (such as the gradient norm of an update that fp16 skipped): they become null.
        """
        finite = {name: value if math.isfinite(value) else None for name, value in entry.items()}
        path = self.path / "metrics.jsonl"
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")
        if self._events:
            with writing(self.path):
                self._events.add_scalars(int(entry["step"]), {n: v for n, v in entry.items() if n != "step"})

    def add_scores(self, row: Mapping[str, float]) -> None:
        """Add the scores of an evaluation to `results.csv`."""
        path = self.path / "results.csv"
        with writing(path):
            rows = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=list(row))
                if not rows or not rows[0].startswith(FIRST_COLUMN):  # a new file, or a header that a crash destroyed
                    file.truncate(0)
                    writer.writeheader()
                    file.writelines(rows)
                writer.writerow(row)

    def close(self) -> None:
        """Close the TensorBoard file. Errors are ignored: every entry was already flushed."""
        if self._events is not None:
            with suppress(OSError):
                self._events.close()
            self._events = None

    def _keep_lines(self, name: str, is_kept: Callable[[str], bool], *, has_header: bool = False) -> str:
        """Reduce a file to its header and the lines to keep; return a note if lines are damaged, else an empty text.

        A crash of the machine may leave zero bytes. A last line that is not complete is repeated anyway. `is_kept`
        raises `ValueError`, `LookupError` or `TypeError` for a damaged line.
        """
        path = self.path / name
        if not path.exists():
            return ""
        with writing(path), path.open(newline="", encoding="utf-8", errors="replace") as file:
            lines = [line for line in file if line.endswith("\n") or "\0" in line]
        kept, damaged = [], 0
        for number, line in enumerate(lines):
            try:
                is_header = has_header and not number and line.startswith(FIRST_COLUMN)
                if is_header or is_kept(line):
                    kept.append(line)
            except (ValueError, LookupError, TypeError):
                damaged += 1
        write_text(path, "".join(kept))
        return f"warning: {path}: {damaged} damaged lines were removed" if damaged else ""


class SilentRunFolder(RunFolder):
    """The run folder in processes that are not the main one: nothing is written."""

    def open(self, config: RunConfig, step: int, *, evaluation_pending: bool = False) -> list[str]:
        """Do nothing."""
        return []

    def add_metrics(self, entry: Mapping[str, float]) -> None:
        """Do nothing."""

    def add_scores(self, row: Mapping[str, float]) -> None:
        """Do nothing."""


def _environment() -> dict[str, Any]:
    return {
        "yolo9k": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "processes": processes.count(),
        "launch": processes.launch_id(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _version(package: str) -> str | None:
    """Return the version of a package; `None` if it is not installed under this name (OpenCV has several)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
