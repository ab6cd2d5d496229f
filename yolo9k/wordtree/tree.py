"""`WordTree`: the label tree (YOLO9000 section 4; Darknet `src/tree.c`).

Parents come before their children, and the children of one node are consecutive: a *sibling group*. The roots are the
first group. The network predicts one logit per node, and a softmax over each group converts them to probabilities.
A flat label set is a single group.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from yolo9k.errors import DataError, quote

HIER_THRESH = 0.5  # Darknet's default: a descent continues while the path probability is above it


@dataclass(frozen=True)
class WordTree:
    """A label set: `ids` are unique, `names` are for display, `parents` are node indices, -1 for roots.

    `aliases` maps alternative names to nodes. Raises `DataError` if nodes are not ordered as described above, if an id
    occurs twice, or if there is no label.
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
                f"label tree: {len(self.ids)} ids, {len(self.names)} names and {len(self.parents)} parents; "
                "the counts must be equal"
            )
        self._check_ids()
        self._check_order()

    def _check_ids(self) -> None:
        seen: dict[str, int] = {}
        for node, name in enumerate(self.ids):
            if name in seen:
                raise DataError(f"label {node}: {quote(name)} was already label {seen[name]}; labels must differ")
            seen[name] = node

    def _check_order(self) -> None:
        if self.parents[0] != -1:
            raise self._error(0, f"the first node must be a root (-1), not {self.parents[0]}")
        closed: set[int] = set()
        for node, parent in enumerate(self.parents):
            if not -1 <= parent < node:
                raise self._error(node, f"parent {parent} must come before its child: -1 to {node - 1}")
            if node and parent != self.parents[node - 1]:
                closed.add(self.parents[node - 1])
                if parent in closed:
                    raise self._error(node, "siblings must be consecutive")

    def _error(self, node: int, message: str) -> DataError:
        return DataError(f"label {node} ({quote(self.ids[node])[1:-1]}): {message}")

    @classmethod
    def flat(cls, names: Sequence[str]) -> "WordTree":
        """Return a tree of depth one, in which the id of each label is its name."""
        return cls(tuple(names), tuple(names), (-1,) * len(names))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_flat(self) -> bool:
        """Return whether all labels are roots."""
        return all(parent == -1 for parent in self.parents)

    @cached_property
    def depth(self) -> np.ndarray:
        """Return the count of ancestors of each node, (K,)."""
        depth = np.zeros(len(self), np.int64)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                depth[node] = depth[parent] + 1
        return depth

    @cached_property
    def group(self) -> np.ndarray:
        """Return the index of the sibling group of each node, (K,); groups are in order of their nodes."""
        parents = np.asarray(self.parents)
        return np.concatenate([[0], np.cumsum(parents[1:] != parents[:-1])]).astype(np.int64)

    @cached_property
    def group_start(self) -> np.ndarray:
        """Return the first node of each group and, at the end, the count of nodes, (G + 1,)."""
        starts = np.flatnonzero(np.diff(self.group, prepend=-1))
        return np.append(starts, len(self)).astype(np.int64)

    @cached_property
    def child_group(self) -> np.ndarray:
        """Return the index of the sibling group of each node's children, (K,); -1 for leaves."""
        child_group = np.full(len(self), -1, np.int64)
        for group, start in enumerate(self.group_start[:-1]):
            if self.parents[start] >= 0:
                child_group[self.parents[start]] = group
        return child_group

    def path(self, node: int) -> list[int]:
        """Return a node and its ancestors, the node first."""
        path = [node]
        while (node := self.parents[node]) >= 0:
            path.append(node)
        return path

    def children(self, node: int) -> range:
        """Return the children of a node (-1: the roots)."""
        group = 0 if node < 0 else int(self.child_group[node])
        return range(0) if group < 0 else range(int(self.group_start[group]), int(self.group_start[group + 1]))

    def subtree(self, node: int) -> list[int]:
        """Return a node and its descendants, in ascending order."""
        nodes = {node}
        for other in range(node + 1, len(self)):  # parents come before their children
            if self.parents[other] in nodes:
                nodes.add(other)
        return sorted(nodes)

    def with_descendants(self, nodes: Iterable[int]) -> list[int]:
        """Return nodes and all their descendants, each once, in ascending order."""
        return sorted({below for node in nodes for below in self.subtree(node)})

    @cached_property
    def spans(self) -> np.ndarray:
        """Return the begin and end of each node's subtree in depth-first order, (K, 2).

        Node b is a or a descendant of a if spans[a, 0] <= spans[b, 0] < spans[a, 1].
        """
        sizes = np.ones(len(self), np.int64)
        for node in range(len(self) - 1, -1, -1):
            if self.parents[node] >= 0:
                sizes[self.parents[node]] += sizes[node]
        begin, next_child_begin = np.zeros(len(self), np.int64), {-1: 0}
        for node, parent in enumerate(self.parents):
            begin[node] = next_child_begin[parent]
            next_child_begin[parent] += sizes[node]
            next_child_begin[node] = begin[node] + 1
        return np.stack([begin, begin + sizes], axis=1)

    def pruned(self, nodes: Sequence[int]) -> tuple["WordTree", np.ndarray]:
        """Return the tree of all sibling groups on the paths of `nodes`, and the index here of each node in it.

        Groups are complete, so the nodes have the same probabilities in both trees.
        """
        groups = {int(self.group[ancestor]) for node in nodes for ancestor in self.path(node)}
        kept = np.flatnonzero(np.isin(self.group, sorted(groups)))
        new_index = {int(old): new for new, old in enumerate(kept)}
        parents = tuple(new_index.get(self.parents[old], -1) for old in kept)
        ids, names = (tuple(texts[old] for old in kept) for texts in (self.ids, self.names))
        return WordTree(ids, names, parents), kept

    @cached_property
    def leaves(self) -> np.ndarray:
        """Return whether each node has no children, (K,) bool."""
        return self.child_group < 0

    @cached_property
    def _nodes_by_text(self) -> dict[str, list[int]]:
        nodes: dict[str, list[int]] = {}
        for node, name in enumerate(self.names):
            nodes.setdefault(name, []).append(node)
        for alias, node in self.aliases.items():
            nodes.setdefault(alias, []).append(node)
        for node, key in enumerate(self.ids):
            nodes[key] = [node]  # an id is never ambiguous
        return nodes

    def find_all(self, text: str) -> Sequence[int]:
        """Return the node with this id or, if there is none, all nodes with this name or alias."""
        return self._nodes_by_text.get(text, ())

    def find(self, text: str) -> int:
        """Return the node with this id, name or alias. Raises `DataError` unless there is exactly one."""
        nodes = self.find_all(text)
        if len(nodes) == 1:
            return nodes[0]
        if nodes:
            raise DataError(f"{quote(text)} is the name of several labels: {describe([self.ids[n] for n in nodes])}")
        raise DataError(f"{quote(text)} is not a label of this set ({describe(self.names)})")

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, as stored in checkpoints."""
        return {
            "ids": list(self.ids),
            "names": list(self.names),
            "parents": list(self.parents),
            "aliases": dict(self.aliases),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "WordTree":
        """Create from the result of `to_dict`; it may be damaged.

        Raises `ValueError`, `KeyError` or `TypeError` for other types, and `DataError` as `WordTree` does.
        """
        ids, names, parents = (tuple(stored[key]) for key in ("ids", "names", "parents"))
        aliases = dict(stored.get("aliases", {}))
        if not all(type(text) is str for text in (*ids, *names, *aliases)):
            raise ValueError("labels: ids, names and aliases must be texts")
        if not all(type(node) is int for node in (*parents, *aliases.values())):
            raise ValueError("labels: parents and the nodes of aliases must be whole numbers")
        if not all(0 <= node < len(ids) for node in aliases.values()):
            raise ValueError(f"labels: the nodes of aliases must be 0 to {len(ids) - 1}")
        return cls(ids, names, parents, aliases)


def darknet_order(children: Mapping[str, Sequence[str]], top: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return ids and parents in the order of Darknet's `9k.tree`: the children of a node, then the subtree of each.

    `children`: those of each inner node; `top`: key of the roots in `children`, not a node itself.
    """
    index: dict[str, int] = {}
    parents: list[int] = []
    stack = [top]
    while stack:
        node = stack.pop()
        block = children.get(node, ())
        for child in block:
            parents.append(index.get(node, -1))
            index[child] = len(index)
        stack += reversed(block)
    return tuple(index), tuple(parents)


def describe(names: Sequence[str], max_names: int = 6) -> str:
    """Return a short list for messages: the first names and, if there are more, the total count."""
    shown = ", ".join(quote(name)[1:-1] for name in names[:max_names])
    return shown if len(names) <= max_names else f"{shown}, … {len(names)} in total"
