"""What a run leaves behind: `runs/<name>/` with config, environment, metrics, checkpoints and plots."""

import csv
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from yolo9k import __version__
from yolo9k.config import Config, dump
from yolo9k.errors import EnvironmentFault

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "albumentations", "pycocotools")


def new_run_folder(base: Path, name: str) -> Path:
    """A folder `base/name` that does not exist yet; taken names get -2, -3, … Creates it.

    Raises `EnvironmentFault` where it cannot be created.
    """
    number = 1
    while True:
        folder = base / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            continue
        except OSError as error:
            raise EnvironmentFault(f"{folder}: cannot be created: {error.strerror or error}") from error
        return folder


class RunFolder:
    """Writes the files of a run. All methods raise `EnvironmentFault` where the disk refuses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.plots = folder / "plots"
        self._tensorboard: Any = None

    def begin(self, config: Config) -> None:
        """Write the resolved config and what the run runs on."""
        self._write("config.yaml", dump(config))
        self._write("environment.json", json.dumps(_environment(), indent=1) + "\n")

    def metrics(self, entry: dict[str, float]) -> None:
        """One line of `metrics.jsonl`, and the same in TensorBoard; `entry` has a `step`."""
        self._append("metrics.jsonl", json.dumps(entry) + "\n")
        board = self._board()
        for name, value in entry.items():
            if name != "step":
                board.add_scalar(name, value, int(entry["step"]))

    def result(self, row: dict[str, float]) -> None:
        """One line of `results.csv`: the scores of an evaluation."""
        path = self.folder / "results.csv"
        try:
            fresh = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, fieldnames=list(row))
                if fresh:
                    writer.writeheader()
                writer.writerow(row)
        except OSError as error:
            raise _refused(path, error) from error

    def close(self) -> None:
        """Finish what is written in the background."""
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = None

    def _board(self) -> Any:
        if self._tensorboard is None:
            from torch.utils.tensorboard import SummaryWriter

            try:
                self._tensorboard = SummaryWriter(str(self.folder))
            except OSError as error:
                raise _refused(self.folder, error) from error
        return self._tensorboard

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise _refused(path, error) from error

    def _append(self, name: str, text: str) -> None:
        path = self.folder / name
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> EnvironmentFault:
    return EnvironmentFault(f"{path}: cannot be written: {error.strerror or error}")


def _environment() -> dict[str, Any]:
    return {
        "yolo9k": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in PACKAGES},
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "command": sys.argv,
    }
