"""Load a split of a data set from its config: find its files, call the reader of its kind, map classes to labels."""

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from yolo9k.config import DatasetConfig
from yolo9k.config.datasets import TreeLabels
from yolo9k.config.kinds import KindName
from yolo9k.datasets.class_mapping import (
    ClassMapping,
    dataset_classes,
    map_classes,
    to_nodes,
    unmapped_hint,
    unmapped_message,
)
from yolo9k.datasets.readers.coco import read_coco
from yolo9k.datasets.readers.image_folder import read_folders
from yolo9k.datasets.readers.index import ImageIndex, ImageReadResult
from yolo9k.datasets.readers.records import (
    Annotations,
    BoxReadResult,
    DatasetClass,
    Issue,
    IssueCollector,
    OnError,
    Record,
    SplitRequest,
    count_by_kind,
)
from yolo9k.datasets.readers.sizes import match_sizes
from yolo9k.datasets.readers.voc import read_voc
from yolo9k.datasets.readers.webdataset import read_shards
from yolo9k.datasets.readers.yolo import read_yolo
from yolo9k.errors import ConfigError, DataError
from yolo9k.io import exists, expanded, is_file, is_folder, unreachable
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree, read_map
from yolo9k.wordtree.taxonomy import open_tree

log = logging.getLogger(__name__)

DOWNLOADABLE = ("voc", "coco")  # by `yolo9k data download`

BOX_READERS: dict[KindName, Callable[[SplitRequest, IssueCollector, Track], BoxReadResult]] = {
    "voc": read_voc,
    "coco": read_coco,
    "yolo": read_yolo,
}
IMAGE_READERS: dict[KindName, Callable[[SplitRequest, Track], ImageReadResult]] = {
    "folder": read_folders,
    "shards": read_shards,
}


def data_folder() -> Path:
    """Return the folder that roots are relative to: `$YOLO9K_DATA`, else `data`."""
    return expanded(os.environ.get("YOLO9K_DATA") or "data")


def find_label_file(path: str) -> Path:
    """Find a label file, relative to the current folder, else to the data folder. Raises `DataError`."""
    here = expanded(path)
    places = (here, data_folder() / here)
    existing = next((place for is_there in (is_file, exists) for place in places if is_there(place)), None)
    if existing is None:
        missing = f"no such file in the current folder or in $YOLO9K_DATA (now {data_folder()})"
        raise DataError(f"{path}: {unreachable(here) or missing}")
    return existing


def portable_path(path: str) -> str:
    """Return a path of a label file that is valid from any folder; paths relative to the data folder already are."""
    here = expanded(path)
    return str(here.resolve()) if is_file(here) else path


def is_same_file(one: str, other: str) -> bool:
    """Return whether two paths mean the same label file. Raises `DataError` if one is missing."""
    return one == other or find_label_file(one).samefile(find_label_file(other))


def dataset_root(config: DatasetConfig) -> Path:
    """Return the root folder of a data set. Raises `DataError` if it does not exist."""
    root = data_folder() / expanded(config.root)
    if is_folder(root):
        return root
    hint = f"; download it with yolo9k data download {config.name}" if config.name in DOWNLOADABLE else ""
    raise DataError(
        f"{root}: no such folder for data set {config.name or config.kind}; "
        f"roots are relative to $YOLO9K_DATA (now {data_folder()}){hint}"
    )


def split_names(config: DatasetConfig) -> tuple[str, ...]:
    """Return the names of the splits, including a held-out `val`."""
    names = tuple(config.splits)
    return (*names, "val") if config.holdout and "val" not in names else names


def is_held_out(name: str, fraction: float) -> bool:
    """Return whether an image is in the held-out fraction, by a hash of its file name.

    Adding or removing images never moves other images between the splits.
    """
    if not fraction:
        return False
    try:
        encoded = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # of a JSON file that is no Unicode
        encoded = name.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(encoded, digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def read_annotations(
    config: DatasetConfig,
    split: str,
    on_error: OnError = "stop",
    track: Track = silent,
    *,
    keep: Callable[[str], bool] | None = None,
    silently: bool = False,
    all_sizes: bool = False,
) -> Annotations:
    """Read the boxes of one split; images are opened only if their size is not annotated, and to check some sizes.

    `keep`: which images to read, by name; default: those that are not held out for another split. `all_sizes`: check
    the size of every image, not of a sample. Invalid boxes and objects are skipped and listed in `errors`. A file that
    cannot be used raises `DataError`, or is skipped and listed with `on_error="skip"`. Errors and warnings are logged
    unless `silently`. Raises `ConfigError` for an unknown split or a kind without boxes, `DataError` if the data are
    missing, or no image or no box can be used.
    """
    if config.kind not in BOX_READERS:
        raise ConfigError(
            f"data set {_title(config)}: its images have no boxes; use it with `yolo9k classify train`, or as a "
            "source of a joint data set (`use: images`)"
        )
    request = _select(config, split)
    request = request if keep is None else replace(request, keep=keep)
    issues = IssueCollector(on_error)
    read = BOX_READERS[config.kind](request, issues, track)
    if not read.labels:
        raise DataError(f"{request.root}: no class: no annotation of its splits has the name of one")
    if read.annotated_sizes:
        _check_units(read.records, request.root)
        read = read._replace(records=match_sizes(read.records, issues, track, all_sizes=all_sizes))
    if not read.records:
        raise DataError(f"{request.root}: no usable image in split {split!r}: {_why_empty(config, issues)}")
    unused = issues.unused_objects
    if unused and not any(len(record.boxes) for record in read.records):
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in count_by_kind(unused).items())
        first = f"{unused[0].location}: {unused[0].message}"
        raise DataError(f"{request.root}: no usable box in split {split!r}: {kinds}; first: {first}")
    annotations = _map_labels(config, read, issues)
    if not silently:
        log_issues(f"{_title(config)}, {split}", annotations.errors, annotations.warnings)
    return annotations


def _check_units(records: Sequence[Record], root: Path) -> None:
    """Raise `DataError` if boxes that must be in pixels are all within one pixel: relative to the image size."""
    boxes = [record.boxes.xyxy for record in records if len(record.boxes)]
    if boxes and all(xyxy.max() <= 1 for xyxy in boxes):
        raise DataError(f"{root}: all boxes are within [0, 1], relative to the image size; they must be in pixels")


def log_issues(title: str, errors: Sequence[Issue], warnings: Sequence[Issue] = ()) -> None:
    """Log each warning, and the errors of each kind with their count: what `yolo9k data check` lists one by one."""
    for warning in warnings:
        log.warning("%s: %s: %s", title, warning.location, warning.message)
    for kind, count in count_by_kind(errors).items():
        first = next(issue for issue in errors if issue.kind == kind)
        log.warning("%s: %d %s; first: %s: %s", title, count, kind, first.location, first.message)


def _map_labels(config: DatasetConfig, read: BoxReadResult, issues: IssueCollector) -> Annotations:
    """Return what was read, with its labels mapped to nodes of the data set's tree."""
    tree, nodes, unknown = _map_classes(config, read.labels)
    classes = dataset_classes(read.labels, nodes, read.category_ids)
    errors = (*unknown, *issues.errors)
    if not isinstance(config.labels, TreeLabels):
        return Annotations(tuple(read.records), tree, errors, read.category_ids, classes, tuple(issues.warnings))
    records = tuple(replace(record, boxes=to_nodes(record.boxes, nodes)) for record in read.records)
    return Annotations(records, tree, errors, classes=classes, warnings=tuple(issues.warnings))


class Nodes(NamedTuple):
    """A label tree, the node of each class of a data set (`None`: excluded), and the issues of unmapped classes."""

    tree: WordTree
    nodes: tuple[int | None, ...]
    unknown: tuple[Issue, ...] = ()


def _map_classes(config: DatasetConfig, classes: Sequence[str]) -> Nodes:
    """Map the classes of a data set to its labels. Raises `DataError` for unmapped classes unless they are skipped."""
    labels = config.labels
    if not isinstance(labels, TreeLabels):
        try:
            return Nodes(WordTree.flat(classes), tuple(range(len(classes))))
        except DataError as error:
            raise DataError(f"data set {_title(config)}: {error}") from error
    tree, title = open_tree(find_label_file(labels.tree)), f"data set {_title(config)}"
    mapping = map_to_tree(classes, labels, tree, _title(config))
    if not mapping.unmapped:
        return Nodes(tree, mapping.nodes)
    problem = unmapped_message(mapping.unmapped, labels.tree)
    if all(node is None for node in mapping.nodes):
        raise DataError(f"{title}: no class is mapped: {problem}; {unmapped_hint(mapping.unmapped)}")
    if labels.on_unknown == "stop":
        raise DataError(f"{title}: {problem}; {unmapped_hint(mapping.unmapped)}, or skip them with `on_unknown: skip`")
    return Nodes(tree, mapping.nodes, (Issue("unknown class", title, f"{problem}; skipped"),))


def map_to_tree(classes: Sequence[str], labels: TreeLabels, tree: WordTree, title: str) -> ClassMapping:
    """Map classes to nodes, with the `.map` file if the config names one. Raises as `read_map` and `map_classes`."""
    mapped = read_map(find_label_file(labels.map), len(tree)) if labels.map else None
    return map_classes(classes, labels, tree, mapped, title)


@dataclass(frozen=True)
class ImageSet:
    """One split of images with image-level labels, which are nodes of `labels`; `classes`: those of the data set."""

    records: ImageIndex
    labels: WordTree
    errors: tuple[Issue, ...]
    classes: tuple[DatasetClass, ...]


def read_images(config: DatasetConfig, split: str, track: Track = silent) -> ImageSet:
    """List the images of one split with their image-level labels (kinds folder and shards), without opening them.

    Raises `ConfigError` for another kind or an unknown split, `DataError` if folders or tar files are missing or
    broken, if there is no image, or if a class is unmapped.
    """
    if config.kind not in IMAGE_READERS:
        kinds = " or ".join(IMAGE_READERS)
        raise ConfigError(f"data set {_title(config)}: image-level labels need kind {kinds}, not {config.kind}")
    request = _select(config, split)
    read = IMAGE_READERS[config.kind](request, track)
    if not read.classes:
        raise _no_image(request, split, read.errors)
    tree, nodes, unknown = _map_classes(config, read.classes)
    labels = {name: node for name, node in zip(read.classes, nodes, strict=True) if node is not None}
    records = read.images(labels)
    if config.holdout:
        records.filter(request.root.resolve(), request.keep, track)
    if not len(records):
        raise _no_image(request, split, read.errors)
    errors = (*unknown, *read.errors)
    log_issues(f"{_title(config)}, {split}", errors)
    return ImageSet(records, tree, errors, dataset_classes(read.classes, nodes))


def _no_image(request: SplitRequest, split: str, errors: Sequence[Issue]) -> DataError:
    why = f": {errors[0].location}: {errors[0].message}" if errors else ""
    return DataError(f"{request.root}: no labelled image in split {split!r}{why}")


def _title(config: DatasetConfig) -> str:
    return config.name or config.root


def _why_empty(config: DatasetConfig, issues: IssueCollector) -> str:
    if issues.errors:
        return f"{issues.errors[0].location}: {issues.errors[0].message}"
    return f"too few images for holdout {config.holdout:g}" if config.holdout else "it is empty"


def check_split(config: DatasetConfig, split: str) -> None:
    """Raise `ConfigError` if the data set has no such split."""
    if split not in split_names(config):
        hint = "; `holdout: 0.2` in its config holds out a val split" if split == "val" else ""
        raise ConfigError(
            f"data set {_title(config)}: no split {split!r}; it has {', '.join(split_names(config))}{hint}"
        )


def _select(config: DatasetConfig, split: str) -> SplitRequest:
    """Select the entries of a split; a held-out `val` is a fraction of `train`."""
    check_split(config, split)
    holdout = config.holdout
    if split == "val" and holdout:
        entries, keep = config.splits["train"], lambda name: is_held_out(name, holdout)
    else:
        entries, keep = config.splits[split], lambda name: split != "train" or not is_held_out(name, holdout)
    everything = tuple(entry for part in config.splits.values() for entry in part)
    return SplitRequest(dataset_root(config), entries, config.classes, everything, keep, config.extra_columns)
