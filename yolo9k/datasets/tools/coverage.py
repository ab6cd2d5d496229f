"""What data sets say about the labels of a tree: which have boxes, which have image labels, which have neither."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolo9k.config import AnyDataset, DatasetConfig, updated
from yolo9k.config.datasets import PartConfig, TreeLabels
from yolo9k.datasets.joint import dataset_of
from yolo9k.datasets.load import ImageSet, place, read_annotations, read_images, split_names
from yolo9k.datasets.readers.records import Annotations
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision


@dataclass(frozen=True)
class Coverage:
    """One data set over a tree: `counts` (K,) are its box labels, or image labels, of each node.

    `unmapped`: its classes that find no node, and why; `classes` counts all of them.
    """

    name: str
    split: str
    image_level: bool
    images: int
    classes: int
    counts: np.ndarray
    unmapped: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts."""
        return {
            "name": self.name, "split": self.split, "labels": "images" if self.image_level else "boxes",
            "images": self.images, "count": int(self.counts.sum()), "classes": self.classes,
            "nodes": int(np.count_nonzero(self.counts)), "unmapped": dict(self.unmapped),
        }  # fmt: skip


def cover(dataset: AnyDataset, path: str, tree: WordTree, track: Track = silent) -> list[Coverage]:
    """The training split of a data set, or each source of a joint one, over the tree that lies at `path`.

    What its classes are is said by its own config, as far as that fits another tree. Files that cannot be used are
    left out. Raises `ConfigError` and `DataError` where a data set cannot be read at all.
    """
    if isinstance(dataset, DatasetConfig):
        names = split_names(dataset)
        split = "train" if "train" in names else names[0]
        return [_cover_one(dataset_of(PartConfig(dataset=dataset), path, track), split, tree, track)]
    return [_cover_one(dataset_of(part, path, track), part.split, tree, track) for part in dataset.sources]


def _cover_one(dataset: DatasetConfig, split: str, tree: WordTree, track: Track) -> Coverage:
    labels = dataset.labels
    assert isinstance(labels, TreeLabels)
    read = _read_flat(updated(dataset, {"labels": labels.classes}), split, track)
    own = [each.name for each in read.classes]
    title = dataset.name or dataset.root
    placed = place(own, labels, tree, title)
    counts = np.zeros(len(tree), np.int64)
    for node, number in zip(placed.nodes, _counts(read), strict=True):
        if node is not None:
            counts[node] += number
    return Coverage(title, split, isinstance(read, ImageSet), len(read.records), len(own), counts, placed.unmapped)


def _read_flat(dataset: DatasetConfig, split: str, track: Track) -> Annotations | ImageSet:
    """A split with labels that are the data set's own classes."""
    if dataset.has_boxes:
        return read_annotations(dataset, split, "skip", track)
    return read_images(dataset, split, track)


def _counts(read: Annotations | ImageSet) -> np.ndarray:
    """(C,) labels of each class; ignored boxes do not count."""
    if isinstance(read, ImageSet):
        return read.records.counts(len(read.labels))
    labels = [record.boxes.label[~record.boxes.ignore] for record in read.records]
    return np.bincount(np.concatenate(labels), minlength=len(read.labels))


def supervision_of(found: Iterable[Coverage]) -> Supervision:
    """The nodes that the box labels and the image labels of some data sets name."""
    boxes, image_level = (
        sorted({int(node) for each in found if each.image_level == kind for node in np.flatnonzero(each.counts)})
        for kind in (False, True)
    )
    return Supervision(tuple(boxes), tuple(image_level))
