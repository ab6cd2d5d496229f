"""Save and load checkpoints: written atomically, read without running code.

A checkpoint needs no other file: beside the weights it holds the resolved config, the label tree and the anchors (grid
cells). Only tensors and plain values are read (`weights_only=True`).
"""

import logging
import math
import pickle
import shutil
import struct
import sys
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yolo9k.config import ClassifierConfig, Config, RunConfig
from yolo9k.errors import DataError, MachineError, WeightsError, quote
from yolo9k.io import check_regular, exists, expanded, is_file, is_folder, replacing, unreachable
from yolo9k.renamed import with_new_names
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision
from yolo9k.wordtree.tree import describe

LOG = logging.getLogger(__name__)
ZIP_START = b"PK\x03\x04"
FORMAT, VERSION = "yolo9k", 1
CHUNK = 1 << 20  # bytes read at once
LITTLE = 1 << 26  # bytes; with less free space, a failed write means a full disk
BEST, LAST = "best.pt", "last.pt"
ORIGIN = {"major", "minor", "revision", "seen", "blocks"}
UNREADABLE = (  # what torch may raise for bytes that are not a checkpoint
    OSError, RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile, struct.error,
    ValueError, TypeError, LookupError, AttributeError,
)  # fmt: skip
WRONG_PARTS = (  # what a part of another type may raise
    LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError,
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


def snapshot(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint with copies of all tensors, on the CPU: training may go on while it is saved."""
    return replace(checkpoint, weights=_copied(checkpoint.weights), training=_copied(checkpoint.training))


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {name: _copied(part) for name, part in value.items()}
    return [_copied(part) for part in value] if isinstance(value, list | tuple) else value


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
    """Load a checkpoint on the CPU; log a warning for weights that cannot be right (`weight_warnings`).

    Every byte is verified by the checksums of the archive. Raises `WeightsError` naming the file and the problem; for
    a damaged file also the newest checkpoint of its folder that is whole.
    """
    try:
        _check_archive(path)
    except WeightsError as error:
        whole = newest_whole(path.parent, but=path) if is_file(path) else None
        raise WeightsError(f"{error}; the newest whole checkpoint is {whole}") if whole else error from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about foreign files: the error below says it
            mapped = sys.platform != "win32"  # Windows cannot replace a mapped file
            stored = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UNREADABLE as error:
        raise WeightsError(f"{path}: not a readable checkpoint") from error
    if not isinstance(stored, dict) or not _equals(stored.get("format"), FORMAT):
        raise WeightsError(f"{path}: a PyTorch file, but not a checkpoint of {FORMAT}")
    if not _equals(version := stored.get("version"), VERSION):
        raise WeightsError(f"{path}: checkpoint version {quote(version)}; this program reads version {VERSION}")
    try:
        config = _config(stored["config"])
        labels = WordTree.from_dict(stored["labels"])
        checkpoint = Checkpoint(
            config, labels, _weights(stored["weights"], path), _mapping(stored, "training"), _origin(stored),
            _supervision(stored, labels),
        )  # fmt: skip
    except (*WRONG_PARTS, DataError) as error:
        raise WeightsError(f"{path}: checkpoint is incomplete: {' '.join(str(error).split())}") from error
    log_weight_warnings(checkpoint.weights, path)
    return checkpoint


def _check_archive(path: Path) -> None:
    """Raise `WeightsError` unless the file is a whole zip archive without compression, as torch writes.

    Whole: the checksums of all entries are right, which torch does not verify. Entries that are compressed or overlap
    could be a thousand times the size of the file.
    """
    if not exists(path):
        raise WeightsError(f"{path}: {unreachable(path) or 'no such checkpoint'}")
    check_regular(path, WeightsError.at)
    if not path.stat().st_size:
        raise WeightsError(f"{path}: not a readable checkpoint: the file is empty")
    try:
        with path.open("rb") as file:
            begins = file.read(len(ZIP_START)) == ZIP_START
        entries = zipfile.ZipFile(path).infolist() if zipfile.is_zipfile(path) else []
    except PermissionError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    except UNREADABLE as error:
        raise WeightsError(f"{path}: not a readable checkpoint") from error
    if not entries:
        reason = ": it is cut off, the end of the archive is missing" if begins else ""
        raise WeightsError(f"{path}: not a readable checkpoint{reason}")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WeightsError(f"{path}: not a readable checkpoint: its archive is compressed, which torch never does")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise WeightsError(f"{path}: not a readable checkpoint: its entries claim more bytes than the file has")
    if damaged := _damaged_entry(path):
        raise WeightsError(f"{path}: not a readable checkpoint: it is damaged, the checksum of {damaged} is wrong")


def _damaged_entry(path: Path) -> str:
    """Return the first entry of an archive whose content is not what was written; an empty text if there is none."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            try:
                with archive.open(entry) as file:
                    while file.read(CHUNK):
                        pass
            except UNREADABLE:
                return entry.filename
    return ""


def newest_whole(folder: Path, but: Path | None = None) -> Path | None:
    """Return the newest checkpoint of a folder that is not damaged; `None` if there is none. `but`: is left out."""
    found = ((path.stat().st_mtime_ns, path) for path in folder.glob("*.pt") if path != but and is_file(path))
    for _, path in sorted(found, reverse=True):
        with suppress(WeightsError):
            _check_archive(path)
            return path
    return None


def _equals(value: Any, expected: str | int) -> bool:
    """Return whether a stored value is equal; comparing a tensor would give a tensor."""
    return type(value) is type(expected) and value == expected


def _mapping(stored: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """Return an optional part of a checkpoint. Raises `TypeError` if it is not a mapping of texts."""
    value = stored[key]
    if value is not None and not (isinstance(value, dict) and all(isinstance(name, str) for name in value)):
        raise TypeError(f"{key}: must be a mapping, not {type(value).__name__}")
    return value


def _origin(stored: Mapping[str, Any]) -> Mapping[str, int] | None:
    """Return the header of the Darknet file. Raises `TypeError` and `ValueError` if it is none."""
    origin = _mapping({"darknet": None, **stored}, "darknet")
    if origin is not None and not (
        origin.keys() == ORIGIN and all(type(value) is int for value in origin.values()) and origin["blocks"] >= 0
    ):
        raise ValueError(f"darknet: must hold the numbers {', '.join(sorted(ORIGIN))}")
    return origin


def _supervision(stored: Mapping[str, Any], labels: WordTree) -> Supervision | None:
    """Return how the labels were learnt, if it is known. Raises `DataError` for a node that is not in the tree."""
    if stored.get("supervision") is None:
        return None
    supervision = Supervision.from_dict(stored["supervision"])
    supervision.kinds(labels)
    return supervision


def _weights(stored: Any, path: Path) -> dict[str, Tensor]:
    """Return the weights. Raises `TypeError` and `ValueError` if they are none, or claim more values than the file."""
    weights = dict(stored)
    if not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()):
        raise TypeError("its weights are not tensors by name")
    if any(value.is_meta or value.layout != torch.strided or value.is_quantized for value in weights.values()):
        raise TypeError("its weights must be dense tensors")
    declared = sum(value.numel() * value.element_size() for value in weights.values())
    if declared > path.stat().st_size:
        raise ValueError(f"its weights claim {declared:,} bytes, more than the file has")
    return weights


def log_weight_warnings(weights: Mapping[str, Tensor], location: str | Path) -> None:
    """Log a warning for each kind of `weight_warnings`."""
    for warning in weight_warnings(weights):
        LOG.warning("%s: %s", location, warning)


def weight_warnings(weights: Mapping[str, Tensor]) -> list[str]:
    """Return one line, with the names of the layers, for each kind of values that trained weights never have.

    Values that are not finite, negative variances, and convolutions whose weights are all zero.
    """
    found: dict[str, list[str]] = {}
    for name, value in weights.items():
        if not value.is_floating_point() or not value.numel():
            continue
        smallest, largest = (
            float(extreme) for extreme in (value if value.element_size() > 1 else value.float()).aminmax()
        )
        layer, _, part = name.rpartition(".")
        if not (math.isfinite(smallest) and math.isfinite(largest)):
            found.setdefault("NaN or infinite weights", []).append(layer)
        elif part == "running_var" and smallest < 0:
            found.setdefault("negative variances", []).append(layer)
        elif value.dim() > 1 and smallest == largest == 0:
            found.setdefault("all weights are 0", []).append(layer)
    return [f"{kind} in {describe(list(dict.fromkeys(layers)))}" for kind, layers in found.items()]


def _config(values: dict[str, Any]) -> RunConfig:
    """Return the config; without a `task` it is a detector's (first version)."""
    kind = ClassifierConfig if values.get("task") == "classify" else Config
    return kind.model_validate(with_new_names(values))


def is_checkpoint(path: Path) -> bool:
    """Return whether a file is a checkpoint rather than Darknet weights, by its suffix or its first bytes."""
    return path.suffix in (".pt", ".pth") or (is_file(path) and zipfile.is_zipfile(path))


def find(weights: str | Path) -> Path:
    """Return the file that `--weights` means: the file itself, or the best, else the last checkpoint of a run folder.

    Raises `WeightsError` if there is none.
    """
    path = expanded(str(weights))
    if not is_folder(path):
        return path
    candidates = [path / "checkpoints" / name for name in (BEST, LAST)]
    found = next((each for each in candidates if exists(each)), None)
    if found is None:
        missing = f"a folder without checkpoints/{BEST} or checkpoints/{LAST}"
        raise WeightsError(f"{path}: {unreachable(candidates[0]) or missing}")
    return found
