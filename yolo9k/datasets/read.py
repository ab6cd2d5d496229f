"""From a data set config to its pictures and boxes: where it lies, its splits, its reader."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from yolo9k.config import DatasetConfig
from yolo9k.datasets.coco import read_coco
from yolo9k.datasets.records import Annotations, Findings, OnError, Read, Selection
from yolo9k.datasets.voc import read_voc
from yolo9k.datasets.yolo import read_yolo
from yolo9k.errors import ConfigError, DataError
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree

DOWNLOADABLE = ("voc", "coco")  # what `yolo9k data download` can fetch

READERS: dict[str, Callable[[Selection, Findings, Track], Read]] = {
    "voc": read_voc,
    "coco": read_coco,
    "yolo": read_yolo,
}


def data_folder() -> Path:
    """The folder that roots are relative to: `$YOLO9K_DATA`, else `data`."""
    return Path(os.environ.get("YOLO9K_DATA") or "data").expanduser()


def dataset_root(config: DatasetConfig) -> Path:
    """Where a data set lies. Raises `DataError` where nothing is there."""
    root = data_folder() / Path(config.root).expanduser()
    if root.is_dir():
        return root
    hint = f", or run: yolo9k data download {config.name}" if config.name in DOWNLOADABLE else ""
    raise DataError(
        f"{root}: no such folder for the data set {config.name or config.kind}; "
        f"relative roots begin at $YOLO9K_DATA (now {data_folder()}){hint}"
    )


def split_names(config: DatasetConfig) -> tuple[str, ...]:
    """The splits that can be read, the one held out included."""
    names = tuple(config.splits)
    return (*names, "val") if config.holdout and "val" not in names else names


def is_held_out(name: str, share: float) -> bool:
    """Whether a picture belongs to the share that is held out, by a hash of its file name.

    Adding or removing pictures never moves another one.
    """
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def read_annotations(
    config: DatasetConfig, split: str, on_error: OnError = "stop", track: Track = silent
) -> Annotations:
    """Read the labels of one split; pictures are opened only where their size is not annotated.

    Bad boxes are left out and noted. A file that cannot be used raises `DataError`, or with
    `on_error="skip"` is noted with its picture left out. Raises `ConfigError` for a split that the data set
    has not, `DataError` where the data are missing or no picture is left.
    """
    selection = _select(config, split)
    findings = Findings(on_error)
    read = READERS[config.kind](selection, findings, track)
    if not read.records:
        raise DataError(
            f"{selection.root}: no picture can be used in the split {split!r}: {_why_empty(config, findings)}"
        )
    return Annotations(tuple(read.records), WordTree.flat(read.labels), tuple(findings.defects), read.category_ids)


def _why_empty(config: DatasetConfig, findings: Findings) -> str:
    if findings.defects:
        return f"{findings.defects[0].place}: {findings.defects[0].message}"
    return f"so few pictures that holdout {config.holdout:g} leaves none" if config.holdout else "it is empty"


def _select(config: DatasetConfig, split: str) -> Selection:
    """The entries of a split; the one held out is a share of `train`."""
    if split not in split_names(config):
        hint = "; `holdout: 0.2` in its config makes a val split of train" if split == "val" else ""
        name = config.name or config.root
        raise ConfigError(f"data set {name}: no split {split!r}; it has {', '.join(split_names(config))}{hint}")
    share = config.holdout
    if split == "val" and share:
        entries, keep = config.splits["train"], lambda name: is_held_out(name, share)
    else:
        entries, keep = config.splits[split], lambda name: split != "train" or not is_held_out(name, share)
    everything = tuple(entry for part in config.splits.values() for entry in part)
    return Selection(dataset_root(config), entries, config.labels, everything, keep)
