"""Probabilities and losses of labels over a tree (YOLO9000 section 4), computed in float32.

Inside every sibling group the probabilities are a softmax; a node's absolute probability is the product along
its path to a root. For a flat tree all of this is the plain softmax.

Letters: M rows (boxes), K nodes, D the longest path, R the most nodes in the groups of one path.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolo9k.wordtree.tree import WordTree

GroupProbability = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Descents:
    """Where rows ended: `node` (M,); `path` (M, D): the probability of each node of the way by its depth, else NaN."""

    node: Tensor
    path: Tensor


class HierarchicalSoftmax(nn.Module):
    """Turns class logits into probabilities and losses.

    `kind`: `softmax` over sibling groups, or `logistic`: each label by itself (flat label sets only).
    """

    group: Tensor
    path: Tensor
    on_path: Tensor
    parent: Tensor
    child_group: Tensor
    members: Tensor
    depth: Tensor
    by_depth: Tensor
    by_group_size: Tensor
    back: Tensor
    rows: Tensor
    slot: Tensor
    place: Tensor

    def __init__(self, tree: WordTree, kind: Literal["softmax", "logistic"] = "softmax") -> None:
        super().__init__()
        self.kind, self.flat = kind, tree.is_flat
        self.num_nodes, self.num_groups = len(tree), int(tree.group[-1]) + 1
        paths = _paths(tree)
        tables = {
            "group": tree.group,
            "parent": np.asarray(tree.parents),
            "child_group": tree.child_group,
            "members": _members(tree),
            "depth": tree.depth,
            "by_depth": tree.depth.argsort(kind="stable"),
            **paths,
            **({} if self.flat else _path_rows(tree, paths["path"], paths["on_path"])),
        }
        group_sizes = np.diff(tree.group_start)[tree.group]
        tables["by_group_size"] = group_sizes.argsort(kind="stable")
        tables["back"] = tables["by_group_size"].argsort()
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table), persistent=False)
        self.level_sizes = np.bincount(tree.depth).tolist()
        self.num_leaves = int(tree.leaves.sum())
        self.group_sizes = list(zip(*(a.tolist() for a in np.unique(group_sizes, return_counts=True)), strict=True))

    # --- all labels

    def conditional(self, logits: Tensor) -> Tensor:
        """Logits (M, K) to log P(node | parent), (M, K)."""
        logits = logits.float()
        if self.kind == "logistic":
            return F.logsigmoid(logits)
        if self.flat:
            return F.log_softmax(logits, dim=-1)
        # Groups of one size are one softmax; labels come first, so that what is picked out is contiguous.
        parts = logits.t()[self.by_group_size].split([count for _, count in self.group_sizes])
        sizes = [size for size, _ in self.group_sizes]
        inside = [
            F.log_softmax(part.view(len(part) // size, size, len(logits)), dim=1).view(part.shape)
            for part, size in zip(parts, sizes, strict=True)
        ]
        return torch.cat(inside)[self.back].t()

    def absolute(self, logits: Tensor) -> Tensor:
        """Logits (M, K) to log P(node), (M, K): sums along the paths, level by level."""
        total = self.conditional(logits)
        if self.flat:
            return total
        by_node = total.t()
        for nodes in self.by_depth.split(self.level_sizes)[1:]:
            by_node = by_node.index_add_(0, nodes, by_node[self.parent[nodes]])
        return by_node.t()

    def loss(self, logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross entropy in every group on the label's path: (M, K), (M,) to (M,). Logistic: `loss_logistic`.

        `smoothing` as in `path_losses`.
        """
        return self.path_losses(self.gather_path(logits, label), label, smoothing).sum(1)

    def loss_logistic(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross entropy of every label: (M, K) logits, (M, K) of 0 and 1, to (M,)."""
        return F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none").sum(1)

    # --- the groups on a label's path: all that its probability and its loss need

    def path_rows(self, label: Tensor) -> Tensor | None:
        """(M, R) the nodes of all groups on the path of each label (M,), filled up with node 0; none: all nodes."""
        return None if self.flat else self.rows[label]

    def gather_path(self, logits: Tensor, label: Tensor) -> Tensor:
        """Of all logits (M, K) those of `path_rows`, (M, R)."""
        return logits if self.flat else logits.gather(1, self.rows[label])

    def path_losses(self, logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
        """Cross entropy of each label in every group on its path, the label's own group first.

        `logits` (M, R, ...) of `path_rows(label)`; gives (M, D, ...), zeros beyond a label's own path. What is below
        the label gets no gradient: it is unknown, not wrong. `smoothing`: the share of the truth that is spread evenly
        over each group, as in `torch.nn.functional.cross_entropy`. Raises `ValueError` for it with logistic labels.
        """
        logits = logits.float()
        if smoothing and self.kind == "logistic":
            raise ValueError("logistic labels are no group that a truth could be spread over")
        if self.flat:
            own = _like(label[:, None], logits)
            log_probability = F.logsigmoid(logits) if self.kind == "logistic" else F.log_softmax(logits, dim=1)
            aimed = log_probability.gather(1, own)
            return -torch.lerp(aimed, log_probability.mean(1, keepdim=True), smoothing) if smoothing else -aimed
        slot, place = _like(self.slot[label], logits), _like(self.place[label], logits)
        shape = (len(logits), place.shape[1] + 1, *logits.shape[2:])  # the last slot takes what only fills up
        top = logits.new_full(shape, float("-inf")).scatter_reduce(1, slot, logits.detach(), "amax")
        offset = logits - top.gather(1, slot)
        total = torch.zeros_like(top).scatter_add(1, slot, offset.exp())
        below_top = logits.gather(1, place) - top[:, :-1]  # first, so that no digits are lost where logits are large
        if smoothing:
            below_top = torch.lerp(below_top, _group_means(offset, slot, top)[:, :-1], smoothing)
        losses = torch.where(total > 0, total, 1.0).log()[:, :-1] - below_top
        return torch.where(_like(self.on_path[label], logits), losses, 0.0)

    # --- the likeliest labels

    def top_leaves(self, log_probability: Tensor, most: int) -> Tensor:
        """From log P(node) (M, K) the labels without any below them, the likeliest first: (M, T), `most` or all."""
        inner = self.child_group >= 0
        return log_probability.masked_fill(inner, float("-inf")).topk(min(most, self.num_leaves), dim=1).indices

    def path_probabilities(self, log_probability: Tensor, node: Tensor) -> Tensor:
        """The probabilities on the way to nodes (M, ...) by depth, then NaN: (M, ..., D), from log P(node) (M, K)."""
        up = self.depth[node][..., None] - torch.arange(self.path.shape[1], device=node.device)
        way = self.path[node].gather(-1, up.clamp(min=0))
        found = log_probability.gather(1, way.flatten(1)).view(way.shape).exp()
        return torch.where(up >= 0, found, float("nan"))

    # --- one label, found from the roots down

    def descend(self, probability: Tensor, threshold: float) -> Tensor:
        """`descend_with` on probabilities that are all there, (M, K); gives the nodes (M,)."""
        padded = torch.cat([probability, probability.new_full((len(probability), 1), -1.0)], dim=1)

        def ask(rows: Tensor, group: Tensor) -> Tensor:
            return padded[rows[:, None], self.members[group]]

        return self.descend_with(ask, probability.new_ones(len(probability)), threshold).node

    def descend_with(
        self,
        ask: GroupProbability,
        start: Tensor,
        threshold: float,
        *,
        rule: Literal["paper", "darknet"] = "paper",
        start_node: Tensor | None = None,
    ) -> Descents:
        """From the roots (or `start_node`, of probability `start` (M,)) to the likeliest child while above `threshold`.

        `ask(rows (m,), group (m,))` gives P(node | parent) of each row's group, (m, S), places beyond its members
        below 0. `paper` compares the product of what it gave; Darknet's detector feeds absolute probabilities to the
        same product, so that ancestors count repeatedly (`tree.c: hierarchy_top_prediction`). Where not even a root
        is above the threshold, the likeliest root is given.
        """
        product, absolute = start.clone(), start.clone()
        node = torch.full_like(start, -1, dtype=torch.int64) if start_node is None else start_node.clone()
        path = start.new_full((len(start), len(self.level_sizes)), float("nan"))
        group = torch.zeros_like(node) if start_node is None else self.child_group[node]
        going = (group >= 0).nonzero().flatten()
        for _ in self.level_sizes:
            if not len(going):
                break
            best, place = ask(going, group[going]).max(1)
            child = self.members[group[going], place]
            fed = best * absolute[going] if rule == "darknet" else best
            deeper = product[going] * fed > threshold
            takes = deeper | (node[going] < 0)
            going, child, best, fed, deeper = (t[takes] for t in (going, child, best, fed, deeper))
            node[going], group[going] = child, self.child_group[child]
            product[going], absolute[going] = product[going] * fed, absolute[going] * best
            path[going, self.depth[child]] = absolute[going]
            going = going[deeper & (group[going] >= 0)]
        return Descents(node, path)


def _like(table: Tensor, logits: Tensor) -> Tensor:
    """A table (M, X) as wide as logits (M, R, ...) are behind their second dimension: (M, X, ...)."""
    trailing = logits.shape[table.dim() :]
    return table.view(*table.shape, *(1 for _ in trailing)).expand(*table.shape, *trailing)


def _group_means(values: Tensor, slot: Tensor, like: Tensor) -> Tensor:
    """The mean of the values (M, R, ...) in each slot, in the shape of `like` (M, D + 1, ...); 0 for an empty slot."""
    sums, counts = (torch.zeros_like(like).scatter_add(1, slot, each) for each in (values, torch.ones_like(values)))
    return sums / counts.clamp(min=1)


def _members(tree: WordTree) -> np.ndarray:
    """(G, S) the nodes of each group, filled up with K, which is no node."""
    sizes = np.diff(tree.group_start)
    places = tree.group_start[:-1, None] + np.arange(sizes.max())
    return np.where(np.arange(sizes.max()) < sizes[:, None], places, len(tree))


def _paths(tree: WordTree) -> dict[str, np.ndarray]:
    """`path` (K, D): each node and its ancestors, the root repeated; `on_path` (K, D): false for repetitions."""
    longest = int(tree.depth.max()) + 1
    parent, columns = np.asarray(tree.parents), [np.arange(len(tree))]
    for _ in range(1, longest):
        above = parent[columns[-1]]
        columns.append(np.where(above < 0, columns[-1], above))
    return {"path": np.stack(columns, axis=1), "on_path": np.arange(longest) <= tree.depth[:, None]}


def _path_rows(tree: WordTree, path: np.ndarray, on_path: np.ndarray) -> dict[str, np.ndarray]:
    """Where the logits of a path stand when only those of its groups are computed, own group first.

    `rows` (K, R) node numbers; `slot` (K, R) which group of the path each belongs to, D for what fills up;
    `place` (K, D) the column of each node of the path.
    """
    start, sizes = tree.group_start[:-1], np.diff(tree.group_start)
    group = tree.group[path]
    counts = np.where(on_path, sizes[group], 0)
    ends = counts.cumsum(axis=1)
    columns = np.arange(ends[:, -1].max())
    slot = np.stack([np.searchsorted(row, columns, side="right") for row in ends])  # groups that end before
    padded_group = np.append(group, np.zeros((len(tree), 1), np.int64), axis=1)
    offsets = np.append(np.zeros((len(tree), 1), np.int64), ends, axis=1)
    within = columns - np.take_along_axis(offsets, slot, axis=1)
    filled = slot < path.shape[1]
    rows = np.where(filled, start[np.take_along_axis(padded_group, slot, axis=1)] + within, 0)
    place = np.where(on_path, offsets[:, :-1] + path - start[group], 0)
    return {"rows": rows, "slot": slot, "place": place}
