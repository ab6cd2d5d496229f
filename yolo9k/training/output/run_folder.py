"""`RunFolder`: the files of a run (`runs/<name>/`): config, environment, metrics, checkpoints and plots."""

import csv
import json
import math
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from yolo9k import __version__
from yolo9k.config import RunConfig, dump
from yolo9k.errors import MachineError
from yolo9k.io import write_text, writing
from yolo9k.training.output.tensorboard import EventFile

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "pycocotools")


@contextmanager
def new_run_folder(base: Path, name: str) -> Iterator[Path]:
    """Create the folder `base/name`, with -2, -3, ... added if the name is taken; remove it if no checkpoint is saved.

    Raises `MachineError` if it cannot be created.
    """
    folder = _create(base, name)
    try:
        yield folder
    finally:
        if not any(folder.glob("checkpoints/*.pt")):  # useless, and would take the name from the next try
            shutil.rmtree(folder, ignore_errors=True)


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
        self.checkpoints = path / "checkpoints"
        self._events: EventFile | None = None

    def open(self, config: RunConfig, step: int) -> None:
        """Write the resolved config and the environment; remove entries after `step`, which a resumed run repeats."""
        write_text(self.path / "config.yaml", dump(config))
        write_text(self.path / "environment.json", json.dumps(_environment(), indent=1) + "\n")
        self._remove_lines("metrics.jsonl", lambda line: json.loads(line)["step"] > step)
        self._remove_lines("results.csv", lambda line: not line.startswith("step,") and int(line.split(",")[0]) > step)
        with writing(self.path):
            self._events = EventFile(self.path, step)

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
            is_new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=list(row))
                if is_new:
                    writer.writeheader()
                writer.writerow(row)

    def close(self) -> None:
        """Close the TensorBoard file. Errors are ignored: every entry was already flushed."""
        if self._events is not None:
            with suppress(OSError):
                self._events.close()
            self._events = None

    def _remove_lines(self, name: str, is_outdated: Callable[[str], bool]) -> None:
        """Remove outdated lines from a file, and a last line that was not completed."""
        path = self.path / name
        if not path.exists():
            return
        with writing(path), path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("\n")]
        write_text(path, "".join(line for line in lines if not is_outdated(line)))


def _environment() -> dict[str, Any]:
    return {
        "yolo9k": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _version(package: str) -> str | None:
    """Return the version of a package; `None` if it is not installed under this name (OpenCV has several)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
