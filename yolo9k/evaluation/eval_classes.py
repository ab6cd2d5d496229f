"""During an evaluation: decide which boxes and detections count for which class (`EvalClasses`).

By ancestry, as in a label tree, a box or a detection counts for its own class and for every ancestor that is a class.
A box with a coarser label may or may not belong to the classes below its label; there it is ignored. Without ancestry
each box counts only for its own class, as with flat labels and in Darknet's map mode.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from yolo9k.boxes import expand_ranges
from yolo9k.datasets.readers.records import Record
from yolo9k.errors import DataError
from yolo9k.samples import BoxLabels, Detections
from yolo9k.wordtree import WordTree

MAX_EXPANDED = 20_000_000  # boxes, each of 100 bytes


@dataclass(frozen=True)
class EvalClasses:
    """C evaluated classes: each is a label of a data set and a node of a model's label tree.

    `tree`: the model's labels. `labels`: the classes as a flat label set. `dataset_labels` (C,): the label in the data
    set of each class; `nodes` (C,): its node. `node_of_label` (L,): the node of every label of the data set, -1 if the
    model has none. `category_ids`: COCO's ids of the classes. `None`: not all classes have one.
    """

    tree: WordTree
    labels: WordTree
    dataset_labels: np.ndarray
    nodes: np.ndarray
    node_of_label: np.ndarray
    by_ancestry: bool
    category_ids: tuple[int, ...] | None = None

    @property
    def unique_nodes(self) -> list[int]:
        """Return the nodes of the classes, sorted and each once."""
        return sorted(set(self.nodes.tolist()))

    @property
    def max_classes_per_box(self) -> int:
        """Return how many classes a box can have at most: 1 without ancestry, else the longest chain of classes."""
        return max(map(len, self._classes_on_path), default=1) if self.by_ancestry else 1

    def ground_truth(self, records: Iterable[Record]) -> list[Record]:
        """Return the records with one box for each class that a box counts for or is ignored for."""
        return [replace(record, boxes=self._expand_boxes(record.boxes)) for record in records]

    def _expand_boxes(self, boxes: BoxLabels) -> BoxLabels:
        certain_row, certain_class = self._certain.pairs(boxes.label)
        possible_row, possible_class = self._possible.pairs(boxes.label)
        rows = np.append(certain_row, possible_row)
        ignore = np.append(boxes.ignore[certain_row], np.ones(len(possible_row), bool))
        return BoxLabels(boxes.xyxy[rows], np.append(certain_class, possible_class), ignore)

    def check_size(self, records: Iterable[Record]) -> None:
        """Raise `DataError` if the boxes of `ground_truth` would fill the memory: coarse labels over many classes."""
        counts = self._certain.count + self._possible.count
        expanded = sum(int(counts[record.boxes.label].sum()) for record in records)
        if expanded > MAX_EXPANDED:
            raise DataError(
                f"by ancestry, the boxes count or are ignored for {expanded:,} classes in total; at most "
                f"{MAX_EXPANDED:,} fit into memory: use --exact, or evaluate fewer classes or images with coarse labels"
            )

    def count_boxes(self, records: Iterable[Record]) -> int:
        """Return the number of boxes that count for at least one class."""
        boxes = [record.boxes[~record.boxes.ignore] for record in records]
        return sum(int((self._certain.count[each.label] > 0).sum()) for each in boxes)

    def to_classes(self, detections: Iterable[Detections]) -> list[Detections]:
        """Convert detections with nodes as labels to detections of the classes; other nodes are removed."""
        classes = ClassLists(self._classes_of_node)
        pairs = [(each, *classes.pairs(each.label)) for each in detections]
        return [Detections(each.xyxy[row], each.score[row], label, self.labels.names) for each, row, label in pairs]

    def to_nodes(self, records: Iterable[Record]) -> list[Record]:
        """Return the records with nodes as labels; boxes whose label the model does not have are removed."""
        return [replace(record, boxes=self._to_nodes(record.boxes)) for record in records]

    def _to_nodes(self, boxes: BoxLabels) -> BoxLabels:
        converted = replace(boxes, label=self.node_of_label[boxes.label])
        return converted[converted.label >= 0]

    @cached_property
    def _classes_of_node(self) -> list[list[int]]:
        """The classes of each node; several if a map names it twice."""
        classes: list[list[int]] = [[] for _ in range(len(self.tree))]
        for index, node in enumerate(self.nodes.tolist()):
            classes[node].append(index)
        return classes

    @cached_property
    def _classes_on_path(self) -> list[list[int]]:
        """The classes of each node and its ancestors, root first."""
        classes: list[list[int]] = []
        for own, parent in zip(self._classes_of_node, self.tree.parents, strict=True):  # parents precede children
            classes.append([*classes[parent], *own] if parent >= 0 else own)
        return classes

    @cached_property
    def _certain(self) -> "ClassLists":
        """The classes that a box counts for, by label of the data set."""
        if self.by_ancestry:
            return ClassLists([self._classes_on_path[node] if node >= 0 else [] for node in self.node_of_label])
        classes: list[list[int]] = [[] for _ in self.node_of_label]
        for index, label in enumerate(self.dataset_labels.tolist()):
            classes[label].append(index)
        return ClassLists(classes)

    @cached_property
    def _possible(self) -> "ClassLists":
        """The classes that a box may belong to but is not labelled with, by label of the data set."""
        below: list[list[int]] = [[] for _ in range(len(self.tree))]
        for index, node in enumerate(self.nodes.tolist() if self.by_ancestry else ()):
            for ancestor in self.tree.path(node)[1:]:
                below[ancestor].append(index)
        return ClassLists([below[node] if node >= 0 else [] for node in self.node_of_label])


class ClassLists:
    """A list of classes, maybe empty, for each of N labels; stored as flat arrays for fast lookup."""

    def __init__(self, classes: Sequence[Sequence[int]]) -> None:
        self.count = np.array([len(each) for each in classes], np.int64)
        self.first = np.cumsum(self.count) - self.count
        self.classes = np.array([index for each in classes for index in each], np.int64)

    def pairs(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return all pairs of an index into `labels` (M,) and a class of that label, as two arrays (P,) by index."""
        row, position = expand_ranges(self.first[labels], self.count[labels])
        return row, self.classes[position]
