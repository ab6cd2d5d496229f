"""Move the rows of a head or classifier by class: a row keeps the class that it was trained for.

The last convolution of a detector has, for each anchor, the rows of the box and then one per class; that of a
classifier has one row per class. Two models may list the same classes in another order, or share only some of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolo9k.models.head import GEOMETRY
from yolo9k.training.class_names import matching_key
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.tree import describe

NEW = -1  # in place of a row or class of the weights
WIDTH_HEIGHT = slice(2, 4)  # of the rows of a box


@dataclass(frozen=True)
class HeadLayout:
    """The rows of a model's last convolution.

    `anchors` (A, 2): in cells, of the rows of the boxes; `None`: a classifier, which has class rows alone. `location`:
    how the box centre is predicted. `named`: false for Darknet weights whose class names are not known.
    """

    labels: WordTree
    anchors: Tensor | None = None
    location: str = "direct"
    named: bool = True

    @property
    def kind(self) -> str:
        """Return the kind of model, in words."""
        return "classifier" if self.anchors is None else "detector"

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.labels) if self.anchors is None else len(self.anchors) * (GEOMETRY + len(self.labels))

    def rows_of(self, classes: Sequence[int]) -> Tensor:
        """Return the row of each of `classes` (`NEW`: none), for each anchor after the rows of its box."""
        index = torch.tensor(classes)
        if self.anchors is None:
            return index
        in_anchor = torch.cat([torch.arange(GEOMETRY), torch.where(index == NEW, NEW, index + GEOMETRY)])
        first = torch.arange(len(self.anchors))[:, None] * (GEOMETRY + len(self.labels))
        return torch.where(in_anchor == NEW, NEW, first + in_anchor).flatten()


@dataclass(frozen=True)
class HeadRows:
    """The tensors of a head's or classifier's last layer by name, (rows, ...) each, and what their rows are."""

    layout: HeadLayout
    tensors: Mapping[str, Tensor]

    def mismatch(self, target: "HeadRows") -> str:
        """Return why no row can move to `target`; empty if rows can."""
        source_anchors, anchors = self.layout.anchors, target.layout.anchors
        if (source_anchors is None) != (anchors is None):
            return f"new: the weights are a {self.layout.kind}'s, the model is a {target.layout.kind}"
        if not (self.fits(self.layout.rows) and target.fits(target.layout.rows)):
            return "new: it has not one row per class"
        if self._parts() != target._parts():
            return "new: it has other inputs"
        if source_anchors is None or anchors is None:
            return ""
        if len(source_anchors) != len(anchors):
            return f"new: the weights have {len(source_anchors)} anchors, the model {len(anchors)}"
        if self.layout.location != target.layout.location:
            return f"new: the location is {self.layout.location} in the weights, {target.layout.location} in the model"
        if target.layout.location != "direct" and not torch.equal(source_anchors, anchors):
            return f"new: other anchors, and with location {target.layout.location} they are the unit of box centres"
        return ""

    def fits(self, rows: int) -> bool:
        """Return whether all tensors have this number of rows; a norm's count of batches has none."""
        return all(value.dim() == 0 or len(value) == rows for value in self.tensors.values())

    def _parts(self) -> dict[str, tuple[int, ...]]:
        return {part: tuple(value.shape[1:]) for part, value in self.tensors.items()}

    def copy_to(self, target: "HeadRows") -> str:
        """Copy the rows of each box and of the common classes; return one line on the classes.

        With other anchors, the biases of width and height change by the logarithm of the ratio: boxes stay the same.
        """
        classes = match_classes(self.layout, target.layout)
        rows = self.layout.rows_of(classes)
        kept = rows != NEW
        with torch.no_grad():
            for part, value in target.tensors.items():
                if value.dim() == 0:
                    value.copy_(self.tensors[part])
                else:
                    value[kept.to(value.device)] = self.tensors[part][rows[kept]].to(value.device, value.dtype)
        return class_note(self.layout, target.layout, classes) + self._keep_boxes(target)

    def _keep_boxes(self, target: "HeadRows") -> str:
        """Adapt the box rows to other anchors; return a note on it, empty if the anchors are the same."""
        source_anchors, anchors = self.layout.anchors, target.layout.anchors
        if source_anchors is None or anchors is None or torch.equal(source_anchors, anchors):
            return ""
        with torch.no_grad():
            for part, value in target.tensors.items():
                if part.endswith("bias"):
                    shift = (source_anchors / anchors).log().to(value.device)
                    value.view(len(anchors), -1)[:, WIDTH_HEIGHT] += shift
        return "; other anchors: the biases of width and height were changed so that boxes stay the same"


def match_classes(source: HeadLayout, target: HeadLayout) -> list[int]:
    """Return the class of `source` for each class of `target`; `NEW` for those that it does not have.

    Classes are the same if their ids are. Between a flat list and a tree, a class is also found by name or alias, if
    exactly one node has it; between two flat lists, by another spelling or a synonym (`class_names.matching_key`), if
    each list has it once. Classes without names are taken in order, if their numbers agree.
    """
    if not source.named:
        return (
            list(range(len(target.labels))) if len(source.labels) == len(target.labels) else [NEW] * len(target.labels)
        )
    by_id = {name: index for index, name in enumerate(source.labels.ids)}
    matched = [by_id.get(name, NEW) for name in target.labels.ids]
    differ = source.labels.is_flat != target.labels.is_flat
    pairs = (_matches_by_name if differ else _matches_by_spelling)(source.labels, target.labels)
    used = set(matched)
    for target_class, source_class in pairs.items():
        if matched[target_class] == NEW and source_class not in used:
            matched[target_class] = source_class
    return matched


def _matches_by_name(source: WordTree, target: WordTree) -> dict[int, int]:
    """Return the classes of a flat list found in a tree by name or alias, target class to source class."""
    flat, tree = (source, target) if source.is_flat else (target, source)
    nodes: dict[int, list[int]] = {}  # of the tree, with the classes that name them
    for index, name in enumerate(flat.ids):
        found = tree.find_all(name)
        if len(found) == 1:
            nodes.setdefault(found[0], []).append(index)
    pairs = {node: classes[0] for node, classes in nodes.items() if len(classes) == 1}
    return pairs if source.is_flat else {index: node for node, index in pairs.items()}


def _matches_by_spelling(source: WordTree, target: WordTree) -> dict[int, int]:
    """Return the classes of two flat lists whose names mean the same, target class to source class; none of trees."""
    if not (source.is_flat and target.is_flat):
        return {}
    source_keys, target_keys = (_unique_keys(labels.ids) for labels in (source, target))
    return {target_keys[key]: source_keys[key] for key in target_keys if key in source_keys}


def _unique_keys(names: Sequence[str]) -> dict[str, int]:
    keys = [matching_key(name) for name in names]
    counts = Counter(keys)
    return {key: index for index, key in enumerate(keys) if counts[key] == 1}


def class_note(source: HeadLayout, target: HeadLayout, classes: Sequence[int]) -> str:
    """Say which classes keep their weights, which are new, and which of the weights' classes are not used."""
    names, total = target.labels.names, len(target.labels)
    if not source.named:
        if NEW not in classes:
            return f"the classes of the weights have no names: taken in order ({describe(names)})"
        return f"the {len(source.labels):,} classes of the weights have no names: all {total:,} classes are new"
    kept = [name for name, index in zip(names, classes, strict=True) if index != NEW]
    new = [name for name, index in zip(names, classes, strict=True) if index == NEW]
    used = set(classes)
    unused = [name for index, name in enumerate(source.labels.names) if index not in used]
    how = "name" if target.labels.is_flat else "id"
    if not kept:
        return (
            f"no class in common: the weights have {describe(unused)}; all {total:,} classes are new ({describe(new)})"
        )
    renamed = [
        f"{source.labels.ids[index]} -> {name}"
        for name, index in zip(target.labels.ids, classes, strict=True)
        if index != NEW and source.labels.ids[index] != name and source.labels.is_flat and target.labels.is_flat
    ]
    text = f"{len(kept):,} of {total:,} classes by {how} ({describe(kept)}); new: {describe(new) or 'none'}"
    if renamed:
        text += f"; {len(renamed):,} by another spelling or a synonym: {describe(renamed)}"
    return f"{text}; not used: {describe(unused)}" if unused else text
