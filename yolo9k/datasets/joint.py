"""Load the training data: one data set, or several sources over one label tree (YOLO9000 section 4).

Some sources have boxes of a few labels, others image-level labels of many.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from yolo9k.config import AnyDataset, DatasetConfig, JointConfig, updated
from yolo9k.config.datasets import PartConfig, SourceConfig, TreeFile, TreeLabels
from yolo9k.datasets.autodetect import detect_dataset, image_folder
from yolo9k.datasets.load import ImageSet, check_split, is_same_file, portable_path, read_annotations, read_images
from yolo9k.datasets.loader.sampler import SampleOrder
from yolo9k.datasets.readers.records import Annotations, DatasetClass, Issue, OnError, Record
from yolo9k.errors import ConfigError
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision

Part = TypeVar("Part", bound=PartConfig)


@dataclass(frozen=True)
class Source:
    """A source of training images; `weight`: its sampling weight."""

    name: str
    read: Annotations | ImageSet
    weight: int = 1

    def __str__(self) -> str:
        labels = "image-level labels" if isinstance(self.read, ImageSet) else "boxes"
        return f"{self.name}: {len(self.read.records):,} images with {labels}"


@dataclass(frozen=True)
class TrainingSet:
    """The sources of a training over one label tree; `dataset`: their resolved config."""

    sources: tuple[Source, ...]
    dataset: AnyDataset

    @property
    def labels(self) -> WordTree:
        """Return the label tree of all sources."""
        return self.sources[0].read.labels

    @property
    def errors(self) -> tuple[Issue, ...]:
        """Return the annotation errors of all sources."""
        return tuple(issue for source in self.sources for issue in source.read.errors)

    @property
    def box_records(self) -> tuple[Record, ...]:
        """Return the images of all sources with boxes."""
        parts = [source.read.records for source in self.sources if isinstance(source.read, Annotations)]
        return tuple(record for part in parts for record in part)

    @property
    def images_per_epoch(self) -> float:
        """Return the number of images sampled per epoch: one pass over the first source."""
        first = self.sources[0]
        return len(first.read.records) * sum(source.weight for source in self.sources) / first.weight

    def sample_order(self, seed: int) -> SampleOrder:
        """Return the order in which images are sampled."""
        return SampleOrder([len(s.read.records) for s in self.sources], seed, [s.weight for s in self.sources])

    def supervision(self) -> Supervision:
        """Return the nodes with box labels and with image-level labels."""
        boxes = {int(label) for record in self.box_records for label in record.boxes.label[~record.boxes.ignore]}
        image_sets = [source.read for source in self.sources if isinstance(source.read, ImageSet)]
        images = {int(node) for read in image_sets for node in np.flatnonzero(read.records.counts(len(read.labels)))}
        return Supervision(tuple(sorted(boxes)), tuple(sorted(images)))


def read_training(dataset: AnyDataset, on_error: OnError = "stop", track: Track = silent) -> TrainingSet:
    """Read the training split of a data set, or of all sources of a joint one (from `load_dataset_config`).

    Raises `ConfigError` and `DataError` as `read_annotations` and `read_images`.
    """
    if isinstance(dataset, DatasetConfig):
        read = read_annotations(dataset, "train", on_error, track)
        return TrainingSet((Source(dataset.name or dataset.root, read),), _with_class_names(dataset, read.classes))
    tree = portable_path(dataset.labels.tree)
    sources, parts = [], []
    for part in dataset.sources:
        config = resolve_part(part, tree, track)
        read_source = (
            read_images(config, part.split, track)
            if part.use == "images"
            else read_annotations(config, part.split, on_error, track)
        )
        sources.append(Source(config.name or config.root, read_source, part.weight))
        parts.append(_with_dataset(part, _with_class_names(config, read_source.classes)))
    val = dataset.val and _with_dataset(dataset.val, resolve_part(dataset.val, tree, track))
    resolved = {"sources": tuple(parts), "labels": TreeFile(tree=tree), "val": val}
    return TrainingSet(tuple(sources), updated(dataset, resolved))


def read_box_records(
    dataset: AnyDataset, split: str, on_error: OnError = "stop", track: Track = silent
) -> tuple[Record, ...]:
    """Read the images with boxes of one split; for a joint data set, of all its sources with boxes.

    Raises `ConfigError` and `DataError` as `read_annotations`.
    """
    if isinstance(dataset, DatasetConfig):
        return read_annotations(dataset, split, on_error, track).records
    boxed = [part for part in dataset.sources if part.use == "boxes"]
    configs = [(resolve_part(part, dataset.labels.tree, track), part.split) for part in boxed]
    read = [
        read_annotations(config, train if split == "train" else split, on_error, track) for config, train in configs
    ]
    return tuple(record for annotations in read for record in annotations.records)


def evaluation_split(dataset: AnyDataset, split: str, track: Track = silent) -> tuple[DatasetConfig, str]:
    """Return the data set and the split to evaluate on if `split` is requested; the split may not exist.

    For a joint data set: its `val`, else its first source with boxes. Raises `ConfigError` if `val` names an unknown
    split.
    """
    if isinstance(dataset, JointConfig):
        tree = portable_path(dataset.labels.tree)
        if dataset.val is not None:
            val = resolve_part(dataset.val, tree, track)
            if dataset.val.split:
                check_split(val, dataset.val.split)
            return val, dataset.val.split or split
        dataset = resolve_part(next(part for part in dataset.sources if part.use == "boxes"), tree, track)
    return dataset, split


def require_single(dataset: AnyDataset) -> DatasetConfig:
    """Return a data set that is not joint. Raises `ConfigError` for a joint one, listing its sources."""
    if isinstance(dataset, DatasetConfig):
        return dataset
    sources = [part.dataset for part in dataset.sources]
    names = ", ".join(part if isinstance(part, str) else part.name or part.root for part in sources)
    raise ConfigError(f"{dataset.name or 'sources'}: is a joint data set; use one of its sources: {names}")


# --- data sets within a joint one


def resolve_part(part: PartConfig, tree: str, track: Track = silent) -> DatasetConfig:
    """Return the data set of a part with its labels over the joint tree; the format of a folder is detected.

    Raises `DataError` for a folder of unknown format.
    """
    dataset = part.dataset
    if isinstance(dataset, str):
        images = isinstance(part, SourceConfig) and part.use == "images"
        dataset = image_folder(Path(dataset)) if images else detect_dataset(Path(dataset), track=track)
    own = dataset.labels if isinstance(dataset.labels, TreeLabels) else TreeLabels(tree=tree, classes=dataset.labels)
    # the .map file of the data set itself is used only for the same tree: its indices mean nothing in another one
    own_map = own.map if own.map and is_same_file(own.tree, tree) else ""
    labels = {
        "tree": tree, "map": portable_path(part.map or own_map), "names": {**own.names, **part.names},
        "on_unknown": "skip" if "skip" in (part.on_unknown, own.on_unknown) else "stop",
    }  # fmt: skip
    return updated(dataset, {"labels": updated(own, labels)})


def _with_dataset(part: Part, dataset: DatasetConfig) -> Part:
    """Return the part with its class mapping moved into its data set."""
    return updated(part, {"dataset": dataset, "map": "", "names": {}, "on_unknown": "stop"})


def _with_class_names(dataset: DatasetConfig, classes: Sequence[DatasetClass]) -> DatasetConfig:
    """Return the config with its class names in order; image-level labels are named by the data themselves."""
    if not dataset.has_boxes:
        return dataset
    names = tuple(dataset_class.name for dataset_class in classes)
    labels = dataset.labels
    if isinstance(labels, TreeLabels):
        paths = {"tree": portable_path(labels.tree), "map": portable_path(labels.map)}
        return updated(dataset, {"labels": updated(labels, {**paths, "classes": names})})
    return updated(dataset, {"labels": names})
