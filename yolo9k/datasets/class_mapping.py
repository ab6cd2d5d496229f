"""Map the classes of a data set to nodes of a label tree; unmapped classes are reported, never guessed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolo9k.config.datasets import TreeLabels
from yolo9k.datasets.readers.records import DatasetClass, check_distinct, read_class_names
from yolo9k.errors import ConfigError, DataError
from yolo9k.io import is_file
from yolo9k.samples import BoxLabels
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.tree import describe

MAX_NAMED = 100  # classes listed in one message
NO_NODE = "no node"
NAME_LISTS = ("classes.txt", "labels.txt")  # beside the data, as written by labelling tools


def read_class_list(paths: Iterable[Path]) -> tuple[str, ...]:
    """Return the class names in the first of these files that exists; empty if none does.

    Raises `BadFile`, also for empty and equal names.
    """
    path = next((path for path in paths if is_file(path)), None)
    if path is None:
        return ()
    names = read_class_names(path)
    check_distinct(names, path)
    return names


@dataclass(frozen=True)
class ClassMapping:
    """The node of each class (`None`: excluded or unmapped), and why each class in `unmapped` has none."""

    nodes: tuple[int | None, ...]
    unmapped: Mapping[str, str]


def map_classes(
    classes: Sequence[str], labels: TreeLabels, tree: WordTree, mapped: Sequence[int] | None, title: str
) -> ClassMapping:
    """Map the classes of the data set `title` to nodes.

    `mapped`: the nodes of its `.map` file; `None`: classes are mapped by id, name or alias. `labels.names` overrides
    both. Raises `DataError` for a map of another length, `ConfigError` if `labels.names` has unknown classes.
    """
    if mapped is not None and len(mapped) != len(classes):
        raise DataError(
            f"{labels.map}: {len(mapped)} lines for {len(classes)} classes of data set {title} ({describe(classes)})"
        )
    known = set(classes)
    unknown_names = [name for name in labels.names if name not in known]
    if unknown_names:
        raise ConfigError(
            f"data set {title}: labels.names: {describe(unknown_names)}: no such class; there are {describe(classes)}"
        )
    nodes: list[int | None] = []
    unmapped: dict[str, str] = {}
    for index, name in enumerate(classes):
        text = labels.names.get(name)  # what the config maps the class to; "" excludes it
        if text is None and mapped is not None:
            nodes.append(mapped[index])
            continue
        candidates = () if text == "" else tree.find_all(name if text is None else text)
        if text != "" and len(candidates) != 1:
            unmapped[name] = _reason(text, candidates, tree)
        nodes.append(candidates[0] if len(candidates) == 1 else None)
    return ClassMapping(tuple(nodes), unmapped)


def _reason(text: str | None, candidates: Sequence[int], tree: WordTree) -> str:
    prefix = "" if text is None else f"mapped to {text!r}, "
    return prefix + (f"several nodes: {', '.join(tree.ids[node] for node in candidates)}" if candidates else NO_NODE)


def unmapped_message(unmapped: Mapping[str, str], tree: str) -> str:
    """Return the error message for unmapped classes, in one line."""
    named = [name if reason == NO_NODE else f"{name} ({reason})" for name, reason in unmapped.items()]
    classes = "1 class has" if len(unmapped) == 1 else f"{len(unmapped)} classes have"
    return f"{classes} no node in {tree}: {describe(named, MAX_NAMED)}"


def unmapped_hint(unmapped: Mapping[str, str]) -> str:
    """Return the hint for unmapped classes."""
    return (
        f"add them to the taxonomy as names or aliases, or map them with `names: {{{next(iter(unmapped))}: ID}}` "
        "('' excludes a class)"
    )


def to_nodes(boxes: BoxLabels, nodes: Sequence[int | None]) -> BoxLabels:
    """Replace the classes of boxes by their nodes.

    A box of an excluded class becomes an ignored box (of node 0).
    """
    node = np.array([-1 if node is None else node for node in nodes], np.int64)[boxes.label]
    return BoxLabels(boxes.xyxy, np.maximum(node, 0), boxes.ignore | (node < 0))


def dataset_classes(
    names: Sequence[str], nodes: Sequence[int | None], category_ids: Sequence[int] | None = None
) -> tuple[DatasetClass, ...]:
    """Return the classes of a data set with their nodes, and with COCO category ids if there are any."""
    ids = category_ids or (None,) * len(names)
    return tuple(DatasetClass(*each) for each in zip(names, nodes, ids, strict=True))
