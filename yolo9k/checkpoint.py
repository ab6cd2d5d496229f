"""Checkpoints: what a file holds, how it is written so that nothing is lost, how it is read safely.

A checkpoint needs no other file: it has the resolved config, the label tree and the anchors (grid cells)
beside the weights. Only tensors and plain values are read (`weights_only=True`): files run no code.
"""

import os
import pickle
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolo9k.config import Config
from yolo9k.errors import EnvironmentFault, WeightsError
from yolo9k.wordtree import WordTree

FORMAT, VERSION = "yolo9k", 1
BEST, LAST = "best.pt", "last.pt"


@dataclass(frozen=True)
class Checkpoint:
    """A detector: `weights` are those to use (averaged ones where the run kept them).

    `training` is what going on with the run needs (optimiser, step, raw weights); none in a finished file.
    """

    config: Config
    labels: WordTree
    weights: Mapping[str, Tensor]
    training: Mapping[str, Any] | None = None


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint beside its place, sync it, then rename it: the old file stays until the new one is whole.

    Raises `EnvironmentFault` where it cannot be written.
    """
    stored = {
        "format": FORMAT,
        "version": VERSION,
        "config": checkpoint.config.model_dump(mode="json"),
        "labels": checkpoint.labels.to_dict(),
        "weights": {name: value.detach().cpu().contiguous() for name, value in checkpoint.weights.items()},
        "training": checkpoint.training,
    }
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, suffix=".part", delete=False) as file:
            temporary = Path(file.name)
            torch.save(stored, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise EnvironmentFault(f"{path}: checkpoint cannot be written: {reason}") from error


def load(path: Path) -> Checkpoint:
    """Read a checkpoint on the CPU. Raises `WeightsError` naming the file and what is wrong with it."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=_can_map(path))
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such checkpoint") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, ValueError) as error:
        raise WeightsError(f"{path}: not a checkpoint that can be read") from error
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise WeightsError(f"{path}: a PyTorch file, but no checkpoint of {FORMAT}")
    if stored.get("version") != VERSION:
        raise WeightsError(f"{path}: checkpoint version {stored.get('version')}, this program reads {VERSION}")
    try:
        config = Config.model_validate(stored["config"])
        labels = WordTree.from_dict(stored["labels"])
        return Checkpoint(config, labels, stored["weights"], stored["training"])
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: checkpoint is incomplete: {str(error).splitlines()[0]}") from error


def _can_map(path: Path) -> bool:
    """Whether the file can be mapped instead of read whole: zip archives only, so not damaged ones."""
    return path.is_file() and zipfile.is_zipfile(path)


def find(weights: str | Path) -> Path:
    """The file that `--weights` means: a file itself, or of a run folder its best, else its last checkpoint.

    Raises `WeightsError` where there is none.
    """
    path = Path(weights).expanduser()
    if not path.is_dir():
        return path
    for name in (BEST, LAST):
        if (found := path / "checkpoints" / name).is_file():
            return found
    raise WeightsError(f"{path}: a folder without checkpoints/{BEST} or checkpoints/{LAST}")
