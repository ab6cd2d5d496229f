"""What a run leaves behind: `runs/<name>/` with config, environment, metrics, checkpoints and plots."""

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
from yolo9k.training.output.tensorboard import EventFile

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "pycocotools")


@contextmanager
def new_run_folder(base: Path, name: str) -> Iterator[Path]:
    """A new folder `base/name`; taken names get -2, -3, … One without a checkpoint at the end is taken away again.

    Raises `MachineError` where it cannot be created.
    """
    folder = _create(base, name)
    try:
        yield folder
    finally:
        if not any(folder.glob("checkpoints/*.pt")):  # nothing can be made of it, and its name will be wanted again
            shutil.rmtree(folder, ignore_errors=True)


def _create(base: Path, name: str) -> Path:
    number = 1
    while True:
        folder = base / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        except OSError as error:
            raise MachineError(f"{folder}: cannot be created: {error.strerror or error}") from error
        return folder


class RunFolder:
    """Writes the files of a run. All methods raise `MachineError` where the disk refuses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.plots = folder / "plots"
        self._events: EventFile | None = None

    def begin(self, config: RunConfig, step: int) -> None:
        """Write the resolved config and what the run runs on; entries after `step` go, for they will come again."""
        self._write("config.yaml", dump(config))
        self._write("environment.json", json.dumps(_environment(), indent=1) + "\n")
        self._rewind("metrics.jsonl", lambda line: json.loads(line)["step"] <= step)
        self._rewind("results.csv", lambda line: line.startswith("step,") or int(line.split(",")[0]) <= step)
        with _writing(self.folder):
            self._events = EventFile(self.folder, step)

    def metrics(self, entry: Mapping[str, float]) -> None:
        """One line of `metrics.jsonl`, and the same in TensorBoard; `entry` has a `step`.

        A number that is not finite (the gradient of an update that fp16 left out) is null: JSON has no other.
        """
        finite = {name: value if math.isfinite(value) else None for name, value in entry.items()}
        with _writing(self.folder / "metrics.jsonl") as path, path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite) + "\n")
        if self._events:
            with _writing(self.folder):
                self._events.scalars(int(entry["step"]), {n: v for n, v in entry.items() if n != "step"})

    def result(self, row: Mapping[str, float]) -> None:
        """One line of `results.csv`: the scores of an evaluation."""
        with _writing(self.folder / "results.csv") as path:
            fresh = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=list(row))
                if fresh:
                    writer.writeheader()
                writer.writerow(row)

    def close(self) -> None:
        """No more entries; a disk that refuses now has said so before."""
        if self._events is not None:
            with suppress(OSError):
                self._events.close()
            self._events = None

    def _write(self, name: str, text: str) -> None:
        """Replace a file whole, or leave the old one."""
        with _writing(self.folder / name) as path:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(name + ".part")
            draft.write_text(text, encoding="utf-8")
            draft.replace(path)

    def _rewind(self, name: str, counts: Callable[[str], bool]) -> None:
        """Leave out of a file of entries those that do not count, and one that was cut off."""
        path = self.folder / name
        if not path.exists():
            return
        with _writing(path), path.open(newline="", encoding="utf-8") as file:
            lines = [line for line in file if line.endswith("\n")]
        self._write(name, "".join(line for line in lines if counts(line)))


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    try:
        yield path
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}") from error


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
    """None where the same module comes from a package of another name, as OpenCV's may."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
