"""From a data set config to its images and boxes: where it lies, its splits, its reader."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from yolo9k.config import DatasetConfig
from yolo9k.config.datasets import TreeLabels
from yolo9k.datasets.class_mapping import (
    ClassMapping,
    map_classes,
    own_classes,
    to_nodes,
    unmapped_hint,
    unmapped_message,
)
from yolo9k.datasets.readers.coco import read_coco
from yolo9k.datasets.readers.image_folder import read_folders
from yolo9k.datasets.readers.index import ImageIndex, Listed
from yolo9k.datasets.readers.records import Annotations, Findings, Issue, OnError, OwnClass, Read, Selection
from yolo9k.datasets.readers.voc import read_voc
from yolo9k.datasets.readers.webdataset import read_shards
from yolo9k.datasets.readers.yolo import read_yolo
from yolo9k.errors import ConfigError, DataError
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree, read_map
from yolo9k.wordtree.taxonomy import open_tree

DOWNLOADABLE = ("voc", "coco")  # what `yolo9k data download` can fetch

READERS: dict[str, Callable[[Selection, Findings, Track], Read]] = {
    "voc": read_voc,
    "coco": read_coco,
    "yolo": read_yolo,
}
IMAGE_READERS: dict[str, Callable[[Selection, Track], Listed]] = {"folder": read_folders, "shards": read_shards}


def data_folder() -> Path:
    """The folder that roots are relative to: `$YOLO9K_DATA`, else `data`."""
    return Path(os.environ.get("YOLO9K_DATA") or "data").expanduser()


def locate(path: str) -> Path:
    """A file of labels: from where the command runs, else from the data folder. Raises `DataError`."""
    here = Path(path).expanduser()
    found = next((place for place in (here, data_folder() / here) if place.is_file()), None)
    if found is None:
        raise DataError(f"{path}: no such file, neither here nor below $YOLO9K_DATA (now {data_folder()})")
    return found


def settled(path: str) -> str:
    """The path of a file of labels so that it is found from any folder; those below the data folder are."""
    here = Path(path).expanduser()
    return str(here.resolve()) if here.is_file() else path


def is_same_file(one: str, other: str) -> bool:
    """Whether two paths of files of labels, which must be there, lead to the same one. Raises `DataError`."""
    return one == other or locate(one).samefile(locate(other))


def dataset_root(config: DatasetConfig) -> Path:
    """Where a data set lies. Raises `DataError` where nothing is there."""
    root = data_folder() / Path(config.root).expanduser()
    if root.is_dir():
        return root
    hint = f"; to fetch it: yolo9k data download {config.name}" if config.name in DOWNLOADABLE else ""
    raise DataError(
        f"{root}: no such folder for the data set {config.name or config.kind}; "
        f"relative roots begin at $YOLO9K_DATA (now {data_folder()}){hint}"
    )


def split_names(config: DatasetConfig) -> tuple[str, ...]:
    """The splits that can be read, the one held out included."""
    names = tuple(config.splits)
    return (*names, "val") if config.holdout and "val" not in names else names


def is_held_out(name: str, share: float) -> bool:
    """Whether an image belongs to the share that is held out, by a hash of its file name.

    Adding or removing images never moves another one.
    """
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def read_annotations(
    config: DatasetConfig, split: str, on_error: OnError = "stop", track: Track = silent
) -> Annotations:
    """Read the labels of one split; images are opened only where their size is not annotated.

    Bad boxes are left out and noted. A file that cannot be used raises `DataError`, or with
    `on_error="skip"` is noted with its image left out. Raises `ConfigError` for a split that the data set
    has not, `DataError` where the data are missing or no image is left.
    """
    if config.kind not in READERS:
        raise ConfigError(
            f"data set {_title(config)}: its images have labels and no boxes; they are for `yolo9k classify train`, "
            "or a source of a joint data set (`use: images`)"
        )
    selection = _select(config, split)
    findings = Findings(on_error)
    read = READERS[config.kind](selection, findings, track)
    if not read.records:
        raise DataError(
            f"{selection.root}: no image can be used in the split {split!r}: {_why_empty(config, findings)}"
        )
    return _labelled(config, read, findings)


def _labelled(config: DatasetConfig, read: Read, findings: Findings) -> Annotations:
    """What was read, its labels as nodes of the data set's tree."""
    tree, nodes, unknown = _nodes_of(config, read.labels)
    classes = own_classes(read.labels, nodes, read.category_ids)
    errors = (*unknown, *findings.errors)
    if not isinstance(config.labels, TreeLabels):
        return Annotations(tuple(read.records), tree, errors, read.category_ids, classes)
    records = tuple(replace(record, boxes=to_nodes(record.boxes, nodes)) for record in read.records)
    return Annotations(records, tree, errors, classes=classes)


class Nodes(NamedTuple):
    """A label set, the node of each class of a data set in it, and what is wrong with classes that find none."""

    tree: WordTree
    nodes: tuple[int | None, ...]
    unknown: tuple[Issue, ...] = ()


def _nodes_of(config: DatasetConfig, own: Sequence[str]) -> Nodes:
    """The label set and the nodes of the data set's own classes. Raises `DataError` where one must have one."""
    labels = config.labels
    if not isinstance(labels, TreeLabels):
        try:
            return Nodes(WordTree.flat(own), tuple(range(len(own))))
        except DataError as error:
            raise DataError(f"data set {_title(config)}: {error}") from error
    tree, title = open_tree(locate(labels.tree)), f"data set {_title(config)}"
    placed = place(own, labels, tree, _title(config))
    if not placed.unmapped:
        return Nodes(tree, placed.nodes)
    problem = unmapped_message(placed.unmapped, labels.tree)
    if all(node is None for node in placed.nodes):
        raise DataError(f"{title}: none of its classes is a node: {problem}; {unmapped_hint(placed.unmapped)}")
    if labels.on_unknown == "stop":
        raise DataError(
            f"{title}: {problem}; {unmapped_hint(placed.unmapped)}, or leave all out with `on_unknown: skip`"
        )
    return Nodes(tree, placed.nodes, (Issue("unknown class", title, f"{problem}; left out"),))


def place(own: Sequence[str], labels: TreeLabels, tree: WordTree, title: str) -> ClassMapping:
    """The nodes of the classes of the data set `title` in its tree.

    Raises `DataError` for its `.map`, and as `map_classes` does.
    """
    mapped = read_map(locate(labels.map), len(tree)) if labels.map else None
    return map_classes(own, labels, tree, mapped, title)


@dataclass(frozen=True)
class ImageSet:
    """Images with labels of one split; image labels are nodes of `labels`, `classes` are the data set's own."""

    records: ImageIndex
    labels: WordTree
    errors: tuple[Issue, ...]
    classes: tuple[OwnClass, ...]


def read_images(config: DatasetConfig, split: str, track: Track = silent) -> ImageSet:
    """List the images of one split of kind folder or shards, with the label of each; none is opened.

    Raises `ConfigError` for another kind and for a split that the data set has not, `DataError` where folders or tar
    files are missing or broken, no image is there, or a class is no node of the tree.
    """
    if config.kind not in IMAGE_READERS:
        kinds = " and ".join(IMAGE_READERS)
        raise ConfigError(f"data set {_title(config)}: is of kind {config.kind}; image labels come from {kinds}")
    selection = _select(config, split)
    read = IMAGE_READERS[config.kind](selection, track)
    if not read.classes:
        raise _no_image(selection, split, read.errors)
    tree, nodes, unknown = _nodes_of(config, read.classes)
    labels = {name: node for name, node in zip(read.classes, nodes, strict=True) if node is not None}
    records = read.images(labels)
    if config.holdout:
        records.keep(selection.root.resolve(), selection.keep, track)
    if not len(records):
        raise _no_image(selection, split, read.errors)
    return ImageSet(records, tree, (*unknown, *read.errors), own_classes(read.classes, nodes))


def _no_image(selection: Selection, split: str, errors: Sequence[Issue]) -> DataError:
    why = f": {errors[0].place}: {errors[0].message}" if errors else ""
    return DataError(f"{selection.root}: no image with a label in the split {split!r}{why}")


def _title(config: DatasetConfig) -> str:
    return config.name or config.root


def _why_empty(config: DatasetConfig, findings: Findings) -> str:
    if findings.errors:
        return f"{findings.errors[0].place}: {findings.errors[0].message}"
    return f"so few images that holdout {config.holdout:g} leaves none" if config.holdout else "it is empty"


def check_split(config: DatasetConfig, split: str) -> None:
    """Raises `ConfigError` for a split that the data set has not."""
    if split not in split_names(config):
        hint = "; `holdout: 0.2` in its config makes a val split of train" if split == "val" else ""
        raise ConfigError(
            f"data set {_title(config)}: no split {split!r}; it has {', '.join(split_names(config))}{hint}"
        )


def _select(config: DatasetConfig, split: str) -> Selection:
    """The entries of a split; the one held out is a share of `train`."""
    check_split(config, split)
    share = config.holdout
    if split == "val" and share:
        entries, keep = config.splits["train"], lambda name: is_held_out(name, share)
    else:
        entries, keep = config.splits[split], lambda name: split != "train" or not is_held_out(name, share)
    everything = tuple(entry for part in config.splits.values() for entry in part)
    return Selection(dataset_root(config), entries, config.classes, everything, keep)
