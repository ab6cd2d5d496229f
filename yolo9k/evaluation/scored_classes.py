"""What counts for the classes that are scored: boxes labelled anywhere in a tree, and detections of its nodes.

By ancestry, as where labels are nodes of a tree, a box or a detection counts for its own class and for every class
above it, and whether a box is one of the classes below its label is unknown: there it is ignored. Without ancestry
each box counts for its own class alone, as in a flat label set and in Darknet's map mode.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from yolo9k.datasets.readers.records import Record
from yolo9k.metrics.matching import spread
from yolo9k.samples import BoxLabels, Detections
from yolo9k.wordtree import WordTree


@dataclass(frozen=True)
class ScoredClasses:
    """C classes to score, each a label of a data set and a node of a model's tree.

    `tree`: the model's labels. `labels`: the classes as a flat label set. `own` (C,): the data set's label of each,
    `nodes` (C,): its node. `label_nodes` (L,): the node of every label of the data set, -1 where the model has none.
    `category_ids`: COCO's own numbers of the classes, where they have some.
    """

    tree: WordTree
    labels: WordTree
    own: np.ndarray
    nodes: np.ndarray
    label_nodes: np.ndarray
    by_ancestry: bool
    category_ids: tuple[int, ...] | None = None

    @property
    def asked(self) -> list[int]:
        """The nodes that scores are needed of, each once, in order."""
        return sorted(set(self.nodes.tolist()))

    @property
    def max_classes_per_box(self) -> int:
        """How many classes one box can be at once: 1 without ancestry, else the longest chain of classes."""
        return max(map(len, self._on_path), default=1) if self.by_ancestry else 1

    def truths(self, records: Iterable[Record]) -> list[Record]:
        """The records with boxes for the classes that they count for, or where they are to be ignored."""
        return [replace(record, boxes=self._truths(record.boxes)) for record in records]

    def _truths(self, boxes: BoxLabels) -> BoxLabels:
        sure, certain = self._counting(boxes.label)
        unsure, possible = self._unclear(boxes.label)
        rows = np.append(sure, unsure)
        ignore = np.append(boxes.ignore[sure], np.ones(len(unsure), bool))
        return BoxLabels(boxes.xyxy[rows], np.append(certain, possible), ignore)

    def counted(self, records: Iterable[Record]) -> int:
        """How many boxes count for at least one class."""
        boxes = [record.boxes[~record.boxes.ignore] for record in records]
        return sum(int((self._counting.count[each.label] > 0).sum()) for each in boxes)

    def scored(self, detections: Iterable[Detections]) -> list[Detections]:
        """Detections that have a row for every node that is likely enough, as detections of the classes."""
        return [self._relabelled(found, self._at) for found in detections]

    def descended(self, detections: Iterable[Detections]) -> list[Detections]:
        """Detections that have one node a box, as detections of the classes on its path; else of the nearest."""
        classes = self._over if self.by_ancestry else self._nearest
        return [self._relabelled(found, classes) for found in detections]

    def _relabelled(self, found: Detections, classes: "Choice") -> Detections:
        row, label = classes(found.label)
        return Detections(found.xyxy[row], found.score[row], label, self.labels.names)

    def in_nodes(self, records: Iterable[Record]) -> list[Record]:
        """The records with nodes for labels; boxes whose label the model does not have are left out."""
        return [replace(record, boxes=self._in_nodes(record.boxes)) for record in records]

    def _in_nodes(self, boxes: BoxLabels) -> BoxLabels:
        named = replace(boxes, label=self.label_nodes[boxes.label])
        return named[named.label >= 0]

    @cached_property
    def _of_node(self) -> list[list[int]]:
        """The classes that each node is; several where a map names it twice."""
        found: list[list[int]] = [[] for _ in range(len(self.tree))]
        for number, node in enumerate(self.nodes.tolist()):
            found[node].append(number)
        return found

    @cached_property
    def _on_path(self) -> list[list[int]]:
        """The classes that each node and its ancestors are."""
        return _inherited(self.tree, self._of_node, lambda above, own: [*above, *own])

    @cached_property
    def _at(self) -> "Choice":
        return Choice(self._of_node)

    @cached_property
    def _over(self) -> "Choice":
        return Choice(self._on_path)

    @cached_property
    def _nearest(self) -> "Choice":
        return Choice(_inherited(self.tree, self._of_node, lambda above, own: own or above))

    @cached_property
    def _counting(self) -> "Choice":
        """From labels of the data set to the classes that a box counts for."""
        if self.by_ancestry:
            return Choice([self._on_path[node] if node >= 0 else [] for node in self.label_nodes])
        classes: list[list[int]] = [[] for _ in self.label_nodes]
        for number, label in enumerate(self.own.tolist()):
            classes[label].append(number)
        return Choice(classes)

    @cached_property
    def _unclear(self) -> "Choice":
        """From labels of the data set to the classes that a box may be or not."""
        below: list[list[int]] = [[] for _ in range(len(self.tree))]
        for number, node in enumerate(self.nodes.tolist() if self.by_ancestry else ()):
            for above in self.tree.path(node)[1:]:
                below[above].append(number)
        return Choice([below[node] if node >= 0 else [] for node in self.label_nodes])


def _inherited(
    tree: WordTree, of_node: list[list[int]], join: Callable[[list[int], list[int]], list[int]]
) -> list[list[int]]:
    """What each node has from its parent, joined with its own."""
    found: list[list[int]] = []
    for own, parent in zip(of_node, tree.parents, strict=True):  # parents come before their children
        found.append(join(found[parent], own) if parent >= 0 else own)
    return found


class Choice:
    """Some classes, or none, for each of N numbers."""

    def __init__(self, classes: Sequence[Sequence[int]]) -> None:
        self.count = np.array([len(some) for some in classes], np.int64)
        self.first = np.cumsum(self.count) - self.count
        self.classes = np.array([number for some in classes for number in some], np.int64)

    def __call__(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers (M,) to pairs (P,) of a row of them and a class, in the order of the rows."""
        row, place = spread(self.first[numbers], self.count[numbers])
        return row, self.classes[place]
