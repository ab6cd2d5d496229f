"""From a data set's own classes to nodes of a label tree. What finds no node is told, never guessed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolo9k.config.datasets import TreeLabels
from yolo9k.datasets.readers.records import OwnClass, read_text
from yolo9k.errors import ConfigError, DataError
from yolo9k.samples import BoxLabels
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.tree import describe

MAX_NAMED = 100  # classes in one message
NO_NODE = "no node"
NAME_LISTS = ("classes.txt", "labels.txt")  # beside the data, as labelling tools write them


def listed_names(paths: Iterable[Path]) -> tuple[str, ...]:
    """The lines of the first file that is there; none where none is. Raises `BadFile` for an unreadable one."""
    path = next((path for path in paths if path.is_file()), None)
    return () if path is None else tuple(line.strip() for line in read_text(path).splitlines() if line.strip())


@dataclass(frozen=True)
class ClassMapping:
    """The node of each class, none for those that are left out; `unmapped` are classes that find none, and why."""

    nodes: tuple[int | None, ...]
    unmapped: Mapping[str, str]


def map_classes(
    own: Sequence[str], labels: TreeLabels, tree: WordTree, mapped: Sequence[int] | None, title: str
) -> ClassMapping:
    """Find the nodes of the classes of the data set `title`.

    `mapped`: the nodes of its `.map`; without one a class is looked for by its name. `labels.names` comes before both.
    Raises `DataError` for a map of another length, `ConfigError` where `labels.names` speaks of other classes.
    """
    if mapped is not None and len(mapped) != len(own):
        raise DataError(
            f"{labels.map}: {len(mapped)} lines for the {len(own)} classes of the data set {title} ({describe(own)})"
        )
    known = set(own)
    strange = [name for name in labels.names if name not in known]
    if strange:
        raise ConfigError(
            f"data set {title}: labels.names: {describe(strange)}: it has no such class; there are {describe(own)}"
        )
    nodes: list[int | None] = []
    unmapped: dict[str, str] = {}
    for number, name in enumerate(own):
        wanted = labels.names.get(name)
        if wanted is None and mapped is not None:
            nodes.append(mapped[number])
            continue
        found = () if wanted == "" else tree.candidates(name if wanted is None else wanted)
        if wanted != "" and len(found) != 1:
            unmapped[name] = _reason(wanted, found, tree)
        nodes.append(found[0] if len(found) == 1 else None)
    return ClassMapping(tuple(nodes), unmapped)


def _reason(wanted: str | None, found: Sequence[int], tree: WordTree) -> str:
    said = "" if wanted is None else f"named {wanted!r}, "
    return said + (f"several nodes: {', '.join(tree.ids[node] for node in found)}" if found else NO_NODE)


def unmapped_message(unmapped: Mapping[str, str], tree: str) -> str:
    """What is wrong with classes that find no node, in one line."""
    named = [name if reason == NO_NODE else f"{name} ({reason})" for name, reason in unmapped.items()]
    classes = "1 class finds" if len(unmapped) == 1 else f"{len(unmapped)} classes find"
    return f"{classes} no node in {tree}: {describe(named, MAX_NAMED)}"


def unmapped_hint(unmapped: Mapping[str, str]) -> str:
    """What can be done about classes that find no node."""
    return (
        f"make them names or aliases in the taxonomy, or say what they are with"
        f" `names: {{{next(iter(unmapped))}: ID}}` "
        f"('' leaves a class out)"
    )


def to_nodes(boxes: BoxLabels, nodes: Sequence[int | None]) -> BoxLabels:
    """Boxes with labels that are classes, as boxes with labels that are nodes.

    A box of a class that is left out becomes an ignored box (of node 0).
    """
    node = np.array([-1 if node is None else node for node in nodes], np.int64)[boxes.label]
    return BoxLabels(boxes.xyxy, np.maximum(node, 0), boxes.ignore | (node < 0))


def own_classes(
    names: Sequence[str], nodes: Sequence[int | None], category_ids: Sequence[int] | None = None
) -> tuple[OwnClass, ...]:
    """The classes of a data set with their nodes, and with COCO's numbers where they have some."""
    numbers = category_ids or (None,) * len(names)
    return tuple(OwnClass(*each) for each in zip(names, nodes, numbers, strict=True))
