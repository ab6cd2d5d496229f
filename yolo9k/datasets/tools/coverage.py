"""Count the labels that data sets have for each node of a label tree: box labels, image-level labels, none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from yolo9k.config import AnyDataset, DatasetConfig, updated
from yolo9k.config.datasets import PartConfig, TreeLabels
from yolo9k.datasets.joint import resolve_part
from yolo9k.datasets.load import ImageSet, map_to_tree, read_annotations, read_images, split_names
from yolo9k.datasets.readers.records import Annotations
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision


@dataclass(frozen=True)
class Coverage:
    """The labels of one data set over a tree.

    `counts` (K,): labels of each node, image-level ones if `image_level`, otherwise box labels. `classes`: number of
    classes of the data set. `unmapped`: its classes without a node, and the reason.
    """

    name: str
    split: str
    image_level: bool
    images: int
    classes: int
    counts: np.ndarray
    unmapped: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the coverage for JSON."""
        return {
            "name": self.name, "split": self.split, "labels": "images" if self.image_level else "boxes",
            "images": self.images, "count": int(self.counts.sum()), "classes": self.classes,
            "nodes": int(np.count_nonzero(self.counts)), "unmapped": dict(self.unmapped),
        }  # fmt: skip


def compute_coverage(dataset: AnyDataset, path: str, tree: WordTree, track: Track = silent) -> list[Coverage]:
    """Count the labels of a data set's training split (its first split if it has no `train`) over a tree.

    For a joint data set, count those of each source. `path`: the file of `tree`. The classes are mapped as the data
    set's own config says, as far as that applies to this tree. Invalid files are skipped. Raises `ConfigError` and
    `DataError` if a data set cannot be read at all.
    """
    if isinstance(dataset, DatasetConfig):
        names = split_names(dataset)
        split = "train" if "train" in names else names[0]
        return [_count_labels(resolve_part(PartConfig(dataset=dataset), path, track), split, tree, track)]
    return [_count_labels(resolve_part(part, path, track), part.split, tree, track) for part in dataset.sources]


def _count_labels(dataset: DatasetConfig, split: str, tree: WordTree, track: Track) -> Coverage:
    labels = dataset.labels
    assert isinstance(labels, TreeLabels)
    flat = updated(dataset, {"labels": labels.classes})
    read = read_annotations(flat, split, "skip", track) if flat.has_boxes else read_images(flat, split, track)
    classes = [each.name for each in read.classes]
    title = dataset.name or dataset.root
    mapping = map_to_tree(classes, labels, tree, title)
    counts = np.zeros(len(tree), np.int64)
    for node, count in zip(mapping.nodes, _count_by_class(read), strict=True):
        if node is not None:
            counts[node] += count
    return Coverage(title, split, isinstance(read, ImageSet), len(read.records), len(classes), counts, mapping.unmapped)


def _count_by_class(read: Annotations | ImageSet) -> np.ndarray:
    """Return (C,) the labels of each class; ignored boxes are not counted."""
    if isinstance(read, ImageSet):
        return read.records.counts(len(read.labels))
    labels = [record.boxes.label[~record.boxes.ignore] for record in read.records]
    return np.bincount(np.concatenate(labels), minlength=len(read.labels))


def merge_supervision(coverages: Iterable[Coverage]) -> Supervision:
    """Return the nodes with box labels and those with image-level labels in any of the data sets."""
    boxes, image_level = (
        sorted({int(node) for each in coverages if each.image_level == level for node in np.flatnonzero(each.counts)})
        for level in (False, True)
    )
    return Supervision(tuple(boxes), tuple(image_level))
