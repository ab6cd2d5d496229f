"""Checkpoints: what a file holds, how it is written so that nothing is lost, how it is read safely.

A checkpoint needs no other file: it has the resolved config, the label tree and the anchors (grid cells)
beside the weights. Only tensors and plain values are read (`weights_only=True`): files run no code.
"""

import os
import pickle
import shutil
import struct
import sys
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolo9k.config import ClassifierConfig, Config, RunConfig
from yolo9k.errors import DataError, MachineError, WeightsError
from yolo9k.renamed import with_new_names
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision

FORMAT, VERSION = "yolo9k", 1
LITTLE = 1 << 26  # bytes; with less left, a failed write of a checkpoint is laid to the disk
BEST, LAST = "best.pt", "last.pt"
UNREADABLE = (  # what torch raises for bytes that are no checkpoint: its pickle reader lets much through
    OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, struct.error,
    ValueError, TypeError, LookupError, AttributeError,
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A detector or a classifier, as `config` says: `weights` are those to use (averaged where the run kept them).

    `training` is what going on with the run needs (optimiser, step, raw weights); none in a finished file.
    `darknet`: of weights that came from a Darknet file its `major`, `minor`, `revision` and `seen`, and how many of
    the network's convolutions (`blocks`) it held; then the file can be written again byte for byte. `supervision`:
    what the labels were taught with, where that is known.
    """

    config: RunConfig
    labels: WordTree
    weights: Mapping[str, Tensor]
    training: Mapping[str, Any] | None = None
    darknet: Mapping[str, int] | None = None
    supervision: Supervision | None = None


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint beside its place, sync it, then rename it: the old file stays until the new one is whole.

    Raises `MachineError` where it cannot be written.
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
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(stored, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        reason = getattr(error, "strerror", None) or _why(error, path.parent)
        raise MachineError(f"{path}: checkpoint cannot be written: {reason}") from error
    finally:
        with suppress(OSError):  # there only after a failure
            temporary.unlink()


def _why(error: Exception, folder: Path) -> str:
    """What torch's error means: on a full disk it speaks of positions in a file."""
    with suppress(OSError):
        if shutil.disk_usage(folder).free < LITTLE:
            return "no space left on the disk"
    return str(error).partition("\n")[0]


def load(path: Path) -> Checkpoint:
    """Read a checkpoint on the CPU. Raises `WeightsError` naming the file and what is wrong with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what torch thinks of foreign files: the error below says it
            mapped = sys.platform != "win32" and _is_archive(path)  # Windows lets no mapped file be replaced
            stored = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such checkpoint") from error
    except UNREADABLE as error:
        raise WeightsError(f"{path}: not a checkpoint that can be read") from error
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise WeightsError(f"{path}: a PyTorch file, but no checkpoint of {FORMAT}")
    if stored.get("version") != VERSION:
        raise WeightsError(f"{path}: checkpoint version {stored.get('version')}, this program reads {VERSION}")
    try:
        config = _config(stored["config"])
        labels = WordTree.from_dict(stored["labels"])
        taught = stored.get("supervision")
        return Checkpoint(
            config, labels, dict(stored["weights"]), stored["training"], stored.get("darknet"),
            None if taught is None else Supervision.from_dict(taught),
        )  # fmt: skip
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, DataError) as error:
        raise WeightsError(f"{path}: checkpoint is incomplete: {' '.join(str(error).split())}") from error


def _config(values: dict[str, Any]) -> RunConfig:
    """Of a detector where it does not say what it is of: those of the first version did not."""
    kind = ClassifierConfig if values.get("task") == "classify" else Config
    return kind.model_validate(with_new_names(values))


def _is_archive(path: Path) -> bool:
    """Whether the file is a whole zip archive, as torch writes them: others cannot be mapped instead of read."""
    return path.is_file() and zipfile.is_zipfile(path)


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a checkpoint, by its suffix or its first bytes, rather than Darknet's weights."""
    return path.suffix in (".pt", ".pth") or _is_archive(path)


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
