"""The label tree (YOLO9000 section 4; Darknet `src/tree.c`).

Nodes are numbered so that parents come before children and the children of one node are consecutive: a *sibling
group*. The roots are the first group. The network predicts one number per node and a softmax inside every group.
A flat label set is one group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from yolo9k.errors import DataError


@dataclass(frozen=True)
class WordTree:
    """A label set: `ids` are unique keys, `names` what people read, `parents` node numbers or -1 for roots.

    `aliases` maps further spellings to node numbers. Raises `DataError` where the tree breaks a rule above.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    parents: tuple[int, ...]
    aliases: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.ids:
            raise DataError("a label set needs at least one label")
        if not len(self.ids) == len(self.names) == len(self.parents):
            raise DataError(
                f"label tree: {len(self.ids)} ids, {len(self.names)} names and {len(self.parents)} parents differ"
            )
        self._check_ids()
        self._check_order()

    def _check_ids(self) -> None:
        seen: dict[str, int] = {}
        for node, name in enumerate(self.ids):
            if name in seen:
                raise DataError(f"label {node}: {name!r} was already label {seen[name]}; labels must differ")
            seen[name] = node

    def _check_order(self) -> None:
        if self.parents[0] != -1:
            raise DataError(f"label 0 ({self.ids[0]}): the first node must be a root (-1), not {self.parents[0]}")
        closed: set[int] = set()
        for node, parent in enumerate(self.parents):
            if not -1 <= parent < node:
                raise DataError(
                    f"label {node} ({self.ids[node]}): parent {parent} must come before its child: -1 to {node - 1}"
                )
            if node and parent != self.parents[node - 1]:
                closed.add(self.parents[node - 1])
                if parent in closed:
                    raise DataError(f"label {node} ({self.ids[node]}): siblings must be consecutive")

    @classmethod
    def flat(cls, names: Sequence[str]) -> "WordTree":
        """A tree of depth one: the id of a label is its name, its number its place in the list."""
        return cls(tuple(names), tuple(names), (-1,) * len(names))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_flat(self) -> bool:
        """Whether all labels are roots."""
        return all(parent == -1 for parent in self.parents)

    @cached_property
    def depth(self) -> np.ndarray:
        """(K,) number of ancestors of each node."""
        depth = np.zeros(len(self), np.int64)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                depth[node] = depth[parent] + 1
        return depth

    @cached_property
    def group(self) -> np.ndarray:
        """(K,) the sibling group of each node; groups are numbered in order of appearance."""
        parents = np.asarray(self.parents)
        return np.concatenate([[0], np.cumsum(parents[1:] != parents[:-1])]).astype(np.int64)

    @cached_property
    def group_start(self) -> np.ndarray:
        """(G + 1,) first node of each group, and the number of nodes at the end."""
        starts = np.flatnonzero(np.diff(self.group, prepend=-1))
        return np.append(starts, len(self)).astype(np.int64)

    @cached_property
    def child_group(self) -> np.ndarray:
        """(K,) the sibling group of each node's children, -1 for leaves."""
        child_group = np.full(len(self), -1, np.int64)
        for group, start in enumerate(self.group_start[:-1]):
            if self.parents[start] >= 0:
                child_group[self.parents[start]] = group
        return child_group

    def path(self, node: int) -> list[int]:
        """The node and its ancestors, the node first."""
        path = [node]
        while (node := self.parents[node]) >= 0:
            path.append(node)
        return path

    def children(self, node: int) -> range:
        """The nodes right below a node (-1: the roots); they are consecutive."""
        group = 0 if node < 0 else int(self.child_group[node])
        return range(0) if group < 0 else range(int(self.group_start[group]), int(self.group_start[group + 1]))

    def under(self, node: int) -> list[int]:
        """The node and everything below it, in order of their numbers."""
        inside = {node}
        for other in range(node + 1, len(self)):  # parents come before their children
            if self.parents[other] in inside:
                inside.add(other)
        return sorted(inside)

    @cached_property
    def spans(self) -> np.ndarray:
        """(K, 2) the places of each node and of what follows its subtree, depth first: b is below or is a where
        spans[a, 0] <= spans[b, 0] < spans[a, 1].
        """
        sizes = np.ones(len(self), np.int64)
        for node in range(len(self) - 1, -1, -1):
            if self.parents[node] >= 0:
                sizes[self.parents[node]] += sizes[node]
        first, free = np.zeros(len(self), np.int64), {-1: 0}
        for node, parent in enumerate(self.parents):
            first[node] = free[parent]
            free[parent] += sizes[node]
            free[node] = first[node] + 1
        return np.stack([first, first + sizes], axis=1)

    def pruned(self, nodes: Sequence[int]) -> tuple["WordTree", np.ndarray]:
        """The tree of all sibling groups on the paths of some nodes, and the number here of each of its nodes.

        Groups are whole, so probabilities of the nodes are the same in both trees.
        """
        groups = {int(self.group[above]) for node in nodes for above in self.path(node)}
        kept = np.flatnonzero(np.isin(self.group, sorted(groups)))
        number = {int(old): new for new, old in enumerate(kept)}
        parents = tuple(number.get(self.parents[old], -1) for old in kept)
        ids, names = (tuple(texts[old] for old in kept) for texts in (self.ids, self.names))
        return WordTree(ids, names, parents), kept

    @cached_property
    def leaves(self) -> np.ndarray:
        """(K,) bool: nodes without children."""
        return self.child_group < 0

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        numbers: dict[str, list[int]] = {}
        for node, name in enumerate(self.names):
            numbers.setdefault(name, []).append(node)
        for alias, node in self.aliases.items():
            numbers.setdefault(alias, []).append(node)
        for node, key in enumerate(self.ids):
            numbers[key] = [node]  # an id is never ambiguous
        return numbers

    def candidates(self, text: str) -> Sequence[int]:
        """The nodes with this id, or else with this name or alias."""
        return self._numbers.get(text, ())

    def find(self, text: str) -> int:
        """The number of the node with this id, name or alias.

        Raises `DataError` where none or several have it.
        """
        found = self.candidates(text)
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(f"{text!r} is the name of several labels: {', '.join(self.ids[n] for n in found)}")
        raise DataError(f"{text!r} is no label of this set ({describe(self.names)})")

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, as checkpoints store them."""
        return {
            "ids": list(self.ids),
            "names": list(self.names),
            "parents": list(self.parents),
            "aliases": dict(self.aliases),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "WordTree":
        """The inverse of `to_dict`."""
        return cls(
            tuple(stored["ids"]),
            tuple(stored["names"]),
            tuple(int(p) for p in stored["parents"]),
            dict(stored.get("aliases", {})),
        )


def in_blocks(children: Mapping[str, Sequence[str]], top: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Ids and parents in the order of Darknet's `9k.tree`: a node's children as one block, then below each in turn.

    `children` of every node that has some, and of `top`, which is no node itself.
    """
    number: dict[str, int] = {}
    parents: list[int] = []
    stack = [top]
    while stack:
        node = stack.pop()
        block = children.get(node, ())
        for child in block:
            parents.append(number.get(node, -1))
            number[child] = len(number)
        stack += reversed(block)
    return tuple(number), tuple(parents)


def describe(names: Sequence[str], most: int = 6) -> str:
    """A short listing for messages: the first names and how many there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … {len(names)} in all"
