"""What a training learns from: one data set, or several over one label tree (YOLO9000 section 4).

Some sources have boxes with few labels, others have many labels of whole images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from yolo9k.config import AnyDataset, DatasetConfig, JointConfig, updated
from yolo9k.config.datasets import PartConfig, SourceConfig, TreeFile, TreeLabels
from yolo9k.datasets.autodetect import image_folder, recognise
from yolo9k.datasets.load import ImageSet, check_split, is_same_file, read_annotations, read_images, settled
from yolo9k.datasets.loader.sampler import SampleOrder
from yolo9k.datasets.readers.records import Annotations, Issue, OnError, OwnClass, Record
from yolo9k.errors import ConfigError
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision

Part = TypeVar("Part", bound=PartConfig)


@dataclass(frozen=True)
class Source:
    """One data set of a training; of as many images as all sources have shares, `share` are from this one."""

    name: str
    read: Annotations | ImageSet
    weight: int = 1

    def __str__(self) -> str:
        labels = "image labels" if isinstance(self.read, ImageSet) else "boxes"
        return f"{self.name}: {len(self.read.records):,} images with {labels}"


@dataclass(frozen=True)
class TrainingSet:
    """The sources of a training, over one label set; `dataset` is their config with everything written out."""

    sources: tuple[Source, ...]
    dataset: AnyDataset

    @property
    def labels(self) -> WordTree:
        """The label set of all sources."""
        return self.sources[0].read.labels

    @property
    def errors(self) -> tuple[Issue, ...]:
        """What is wrong in the labels of all sources."""
        return tuple(issue for source in self.sources for issue in source.read.errors)

    @property
    def box_records(self) -> tuple[Record, ...]:
        """The images of the sources that have boxes."""
        parts = [source.read.records for source in self.sources if isinstance(source.read, Annotations)]
        return tuple(record for part in parts for record in part)

    @property
    def epoch(self) -> float:
        """How many images are drawn until each of the first source has come once."""
        first = self.sources[0]
        return len(first.read.records) * sum(source.weight for source in self.sources) / first.weight

    def stream(self, seed: int) -> SampleOrder:
        """The order in which images are drawn."""
        return SampleOrder([len(s.read.records) for s in self.sources], seed, [s.weight for s in self.sources])

    def supervision(self) -> Supervision:
        """The nodes that box labels and image labels name."""
        boxes = {int(label) for record in self.box_records for label in record.boxes.label[~record.boxes.ignore]}
        listed = [source.read for source in self.sources if isinstance(source.read, ImageSet)]
        images = {int(node) for read in listed for node in np.flatnonzero(read.records.counts(len(read.labels)))}
        return Supervision(tuple(sorted(boxes)), tuple(sorted(images)))


def read_training(dataset: AnyDataset, on_error: OnError = "stop", track: Track = silent) -> TrainingSet:
    """Read the training split of a data set, or all sources of a joint one, as `load_dataset_config` gives it.

    Raises `ConfigError` and `DataError` as the reading of each does.
    """
    if isinstance(dataset, DatasetConfig):
        read = read_annotations(dataset, "train", on_error, track)
        return TrainingSet((Source(dataset.name or dataset.root, read),), _written_out(dataset, read.classes))
    tree = settled(dataset.labels.tree)
    sources, parts = [], []
    for part in dataset.sources:
        own = dataset_of(part, tree, track)
        found = _read_source(own, part, on_error, track)
        sources.append(Source(own.name or own.root, found, part.weight))
        parts.append(_whole(part, _written_out(own, found.classes)))
    val = dataset.val and _whole(dataset.val, dataset_of(dataset.val, tree, track))
    whole = {"sources": tuple(parts), "labels": TreeFile(tree=tree), "val": val}
    return TrainingSet(tuple(sources), updated(dataset, whole))


def _read_source(own: DatasetConfig, part: SourceConfig, on_error: OnError, track: Track) -> Annotations | ImageSet:
    if part.use == "images":
        return read_images(own, part.split, track)
    return read_annotations(own, part.split, on_error, track)


def read_box_records(
    dataset: AnyDataset, split: str, on_error: OnError = "stop", track: Track = silent
) -> tuple[Record, ...]:
    """The images with boxes of one split, of a joint data set those of all its sources with boxes.

    Raises `ConfigError` and `DataError` as the reading of each does.
    """
    if isinstance(dataset, DatasetConfig):
        return read_annotations(dataset, split, on_error, track).records
    boxed = [part for part in dataset.sources if part.use == "boxes"]
    wanted = [(dataset_of(part, dataset.labels.tree, track), part.split) for part in boxed]
    read = [read_annotations(own, train if split == "train" else split, on_error, track) for own, train in wanted]
    return tuple(record for part in read for record in part.records)


def to_score(dataset: AnyDataset, split: str, track: Track = silent) -> tuple[DatasetConfig, str]:
    """The data set, and its split, to score on where `split` is asked for; it may have no such split.

    Of a joint data set that is its `val`, else its first source with boxes. Raises `ConfigError` where `val` names a
    split that is none.
    """
    if isinstance(dataset, JointConfig):
        tree = settled(dataset.labels.tree)
        if dataset.val is not None:
            scored = dataset_of(dataset.val, tree, track)
            if dataset.val.split:
                check_split(scored, dataset.val.split)
            return scored, dataset.val.split or split
        dataset = dataset_of(next(part for part in dataset.sources if part.use == "boxes"), tree, track)
    return dataset, split


def single(dataset: AnyDataset) -> DatasetConfig:
    """The data set, where it is one. Raises `ConfigError` for a joint one, naming its sources."""
    if isinstance(dataset, DatasetConfig):
        return dataset
    sources = [part.dataset for part in dataset.sources]
    names = ", ".join(part if isinstance(part, str) else part.name or part.root for part in sources)
    raise ConfigError(f"{dataset.name or 'sources'}: a joint data set is looked at by its sources, one by one: {names}")


# --- parts of a joint data set


def dataset_of(part: PartConfig, tree: str, track: Track = silent) -> DatasetConfig:
    """The data set of a part, its labels over the joint tree; a folder is recognised.

    Raises `DataError` for a folder that is of no known kind.
    """
    dataset = part.dataset
    if isinstance(dataset, str):
        images = isinstance(part, SourceConfig) and part.use == "images"
        dataset = image_folder(Path(dataset)) if images else recognise(Path(dataset), track=track)
    own = dataset.labels if isinstance(dataset.labels, TreeLabels) else TreeLabels(tree=tree, classes=dataset.labels)
    own_map = own.map if own.map and is_same_file(own.tree, tree) else ""  # of another tree: its numbers mean nothing
    labels = {
        "tree": tree, "map": settled(part.map or own_map), "names": {**own.names, **part.names},
        "on_unknown": "skip" if "skip" in (part.on_unknown, own.on_unknown) else "stop",
    }  # fmt: skip
    return updated(dataset, {"labels": updated(own, labels)})


def _whole(part: Part, dataset: DatasetConfig) -> Part:
    """A part whose data set says all about its labels."""
    return updated(part, {"dataset": dataset, "map": "", "names": {}, "on_unknown": "stop"})


def _written_out(dataset: DatasetConfig, classes: Sequence[OwnClass]) -> DatasetConfig:
    """The config with its classes in the order that was found; images with labels say them by themselves."""
    if not dataset.has_boxes:
        return dataset
    names = tuple(own.name for own in classes)
    labels = dataset.labels
    if isinstance(labels, TreeLabels):
        paths = {"tree": settled(labels.tree), "map": settled(labels.map)}
        return updated(dataset, {"labels": updated(labels, {**paths, "classes": names})})
    return updated(dataset, {"labels": names})
