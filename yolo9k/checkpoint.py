"""Save and load checkpoints: written atomically, read without running code.

A checkpoint needs no other file: beside the weights it holds the resolved config, the label tree and the anchors (grid
cells). Only tensors and plain values are read (`weights_only=True`).
"""

import pickle
import shutil
import struct
import sys
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolo9k.config import ClassifierConfig, Config, RunConfig
from yolo9k.errors import DataError, MachineError, WeightsError
from yolo9k.io import replacing
from yolo9k.renamed import with_new_names
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision

FORMAT, VERSION = "yolo9k", 1
LITTLE = 1 << 26  # bytes; with less free space, a failed write means a full disk
BEST, LAST = "best.pt", "last.pt"
UNREADABLE = (  # what torch may raise for bytes that are not a checkpoint
    OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, struct.error,
    ValueError, TypeError, LookupError, AttributeError,
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A detector or a classifier (by `config`) with its `weights`: the averaged ones if the run keeps an average.

    `training`: what resuming needs (optimiser, step, raw weights); `None` in a finished file. `darknet`: for weights
    from a Darknet file, its `major`, `minor`, `revision` and `seen`, and the number of the network's convolutions that
    it held (`blocks`), so that the file can be written again byte for byte. `supervision`: how the labels were learnt,
    if known.
    """

    config: RunConfig
    labels: WordTree
    weights: Mapping[str, Tensor]
    training: Mapping[str, Any] | None = None
    darknet: Mapping[str, int] | None = None
    supervision: Supervision | None = None


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint atomically (`io.replacing`): the old file stays until the new one is complete.

    Raises `MachineError` if it cannot be written.
    """
    stored = {
        "format": FORMAT,
        "version": VERSION,
        "config": checkpoint.config.model_dump(mode="json"),
        "labels": checkpoint.labels.to_dict(),
        "weights": {name: value.detach().cpu().contiguous() for name, value in checkpoint.weights.items()},
        "training": checkpoint.training,
        "darknet": checkpoint.darknet,
        "supervision": None if checkpoint.supervision is None else checkpoint.supervision.to_dict(),
    }
    try:
        with replacing(path, "checkpoint") as draft, draft.open("wb") as file:
            torch.save(stored, file)
    except RuntimeError as error:  # torch reports a full disk as RuntimeError, which only mentions file positions
        full = shutil.disk_usage(path.parent).free < LITTLE
        reason = "no space left on the disk" if full else str(error).partition("\n")[0]
        raise MachineError(f"{path}: checkpoint cannot be written: {reason}") from error


def load(path: Path) -> Checkpoint:
    """Load a checkpoint on the CPU. Raises `WeightsError` naming the file and the problem."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about foreign files: the error below says it
            mapped = sys.platform != "win32" and _is_archive(path)  # Windows cannot replace a mapped file
            stored = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such checkpoint") from error
    except UNREADABLE as error:
        raise WeightsError(f"{path}: not a readable checkpoint") from error
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise WeightsError(f"{path}: a PyTorch file, but not a checkpoint of {FORMAT}")
    if stored.get("version") != VERSION:
        raise WeightsError(f"{path}: checkpoint version {stored.get('version')}; this program reads version {VERSION}")
    try:
        config = _config(stored["config"])
        labels = WordTree.from_dict(stored["labels"])
        supervision = stored.get("supervision")
        return Checkpoint(
            config, labels, dict(stored["weights"]), stored["training"], stored.get("darknet"),
            None if supervision is None else Supervision.from_dict(supervision),
        )  # fmt: skip
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, DataError) as error:
        raise WeightsError(f"{path}: checkpoint is incomplete: {' '.join(str(error).split())}") from error


def _config(values: dict[str, Any]) -> RunConfig:
    """Return the config; without a `task` it is a detector's (first version)."""
    kind = ClassifierConfig if values.get("task") == "classify" else Config
    return kind.model_validate(with_new_names(values))


def _is_archive(path: Path) -> bool:
    """Return whether the file is a complete zip archive, as torch writes; only those can be memory-mapped."""
    return path.is_file() and zipfile.is_zipfile(path)


def is_checkpoint(path: Path) -> bool:
    """Return whether a file is a checkpoint rather than Darknet weights, by its suffix or its first bytes."""
    return path.suffix in (".pt", ".pth") or _is_archive(path)


def find(weights: str | Path) -> Path:
    """Return the file that `--weights` means: the file itself, or the best, else the last checkpoint of a run folder.

    Raises `WeightsError` if there is none.
    """
    path = Path(weights).expanduser()
    if not path.is_dir():
        return path
    for name in (BEST, LAST):
        if (found := path / "checkpoints" / name).is_file():
            return found
    raise WeightsError(f"{path}: a folder without checkpoints/{BEST} or checkpoints/{LAST}")
