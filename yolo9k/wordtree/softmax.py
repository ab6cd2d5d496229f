"""`HierarchicalSoftmax`: probabilities and losses of labels over a tree (YOLO9000 section 4), computed in float32.

A softmax over each sibling group returns the conditional probabilities P(node | parent). The absolute probability
P(node) is their product along the path from a root to the node. In a flat tree all of this is the plain softmax.

Letters: M rows (boxes or images), K nodes, G sibling groups, S size of the largest group, D length of the longest path,
R largest count of nodes in the groups of one path.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolo9k.errors import DataError
from yolo9k.wordtree.tree import WordTree

MAX_TABLE = 1 << 28  # entries of a table over nodes; YOLO9000's have 10 million

GroupProbability = Callable[[Tensor, Tensor], Tensor]  # (rows, group) to P(node | parent), see `descend_with`


@dataclass(frozen=True)
class Descents:
    """The results of M descents: `node` (M,) at which each stopped, and the probabilities of the nodes on its path.

    `path` (M, D): P(node) by depth, NaN for depths that were not visited.
    """

    node: Tensor
    path: Tensor


class HierarchicalSoftmax(nn.Module):
    """Converts class logits to probabilities and losses.

    `kind`: `softmax` over sibling groups, or `logistic`: each label independently (flat label sets only).
    The tables of the tree are buffers, which move with the module; checkpoints do not contain them.
    """

    group: Tensor  # (K,) sibling group of each node
    parent: Tensor  # (K,) parent of each node, -1 for roots
    child_group: Tensor  # (K,) sibling group of the children, -1 for leaves
    members: Tensor  # (G, S) nodes of each group, padded with K
    depth: Tensor  # (K,) count of ancestors of each node
    path: Tensor  # (K, D) each node and its ancestors, padded with the root
    on_path: Tensor  # (K, D) false for padding
    nodes_by_depth: Tensor  # (K,)
    nodes_by_group_size: Tensor  # (K,)
    position_by_group_size: Tensor  # (K,) index of each node in `nodes_by_group_size`
    group_nodes: Tensor  # (K, R) nodes of all groups on the path, see `_path_groups`
    group_on_path: Tensor  # (K, R)
    path_columns: Tensor  # (K, D)

    def __init__(self, tree: WordTree, kind: Literal["softmax", "logistic"] = "softmax") -> None:
        super().__init__()
        self.kind, self.flat = kind, tree.is_flat
        self.num_nodes, self.num_groups = len(tree), int(tree.group[-1]) + 1
        self.num_leaves = int(tree.leaves.sum())
        _check_size(tree)
        group_size = np.diff(tree.group_start)[tree.group]
        nodes_by_group_size = group_size.argsort(kind="stable")
        paths = _paths(tree)
        tables = {
            "group": tree.group,
            "parent": np.asarray(tree.parents),
            "child_group": tree.child_group,
            "members": _members(tree),
            "depth": tree.depth,
            "nodes_by_depth": tree.depth.argsort(kind="stable"),
            "nodes_by_group_size": nodes_by_group_size,
            "position_by_group_size": nodes_by_group_size.argsort(),
            **paths,
            **({} if self.flat else _path_groups(tree, paths["path"], paths["on_path"])),
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table), persistent=False)
        self.nodes_per_depth: list[int] = np.bincount(tree.depth).tolist()
        sizes, counts = np.unique(group_size, return_counts=True)
        self.nodes_per_group_size: list[tuple[int, int]] = list(zip(sizes.tolist(), counts.tolist(), strict=True))

    # --- probabilities of all labels

    def conditional(self, logits: Tensor) -> Tensor:
        """Return log P(node | parent) from logits, both (M, K)."""
        logits = logits.float()
        if self.kind == "logistic":
            return F.logsigmoid(logits)
        if self.flat:
            return F.log_softmax(logits, dim=-1)
        # One softmax for all groups of the same size. Nodes come first, so that the selected rows are contiguous.
        sizes, counts = zip(*self.nodes_per_group_size, strict=True)
        same_size = logits.t()[self.nodes_by_group_size].split(counts)
        log_probability = [
            F.log_softmax(part.view(part.shape[0] // size, size, logits.shape[0]), dim=1).view(part.shape)
            for part, size in zip(same_size, sizes, strict=True)
        ]
        return torch.cat(log_probability)[self.position_by_group_size].t()

    def absolute(self, logits: Tensor) -> Tensor:
        """Return log P(node) from logits, both (M, K): the sum along each path, computed depth by depth."""
        conditional = self.conditional(logits)
        if self.flat:
            return conditional
        by_node = conditional.t()
        for nodes in self.nodes_by_depth.split(self.nodes_per_depth)[1:]:
            by_node = by_node.index_add_(0, nodes, by_node[self.parent[nodes]])
        return by_node.t()

    def loss(self, logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the cross entropy, summed over the groups on the label's path: (M, K), (M,) to (M,).

        `smoothing` as in `path_losses`. For logistic labels see `loss_logistic`.
        """
        return self.path_losses(self.gather_path(logits, label), label, smoothing).sum(1)

    def loss_logistic(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the binary cross entropy summed over labels: logits (M, K), labels (M, K) of 0 and 1, to (M,)."""
        return F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none").sum(1)

    # --- the groups on a label's path, which are all that its probability and its loss need

    def path_group_nodes(self, label: Tensor) -> Tensor | None:
        """Return the nodes (M, R) of all groups on the path of each label (M,), padded with node 0.

        `None`: all nodes, because the tree is flat.
        """
        return None if self.flat else self.group_nodes[label]

    def gather_path(self, logits: Tensor, label: Tensor) -> Tensor:
        """Select the logits (M, R) of `path_group_nodes` from all logits (M, K)."""
        return logits if self.flat else logits.gather(1, self.group_nodes[label])

    def path_losses(self, logits: Tensor, label: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the cross entropy of each label in every group on its path, (M, D, ...); the label's own group first.

        `logits` (M, R, ...) are those of `path_group_nodes(label)`. Losses are 0 beyond the root. Descendants of the
        label get no gradient: they are unknown, not wrong. `smoothing`: the fraction of the target that is spread
        evenly over each group, as in `torch.nn.functional.cross_entropy`. Raises `ValueError` if it is used with
        logistic labels.
        """
        logits = logits.float()
        if smoothing and self.kind == "logistic":
            raise ValueError("label smoothing: not possible for logistic labels, which form no group")
        if self.flat:
            target = _expand(label[:, None], logits)
            log_probability = F.logsigmoid(logits) if self.kind == "logistic" else F.log_softmax(logits, dim=1)
            of_target = log_probability.gather(1, target)
            return -torch.lerp(of_target, log_probability.mean(1, keepdim=True), smoothing) if smoothing else -of_target
        group, target = _expand(self.group_on_path[label], logits), _expand(self.path_columns[label], logits)
        shape = (len(logits), target.shape[1] + 1, *logits.shape[2:])  # the last group collects the padding
        # log softmax in every group: logit - max - log(sum(exp(logit - max)))
        highest = logits.new_full(shape, float("-inf")).scatter_reduce(1, group, logits.detach(), "amax")
        offset = logits - highest.gather(1, group)
        total = torch.zeros_like(highest).scatter_add(1, group, offset.exp())
        # Subtracting the maximum first keeps the precision for large logits.
        target_offset = logits.gather(1, target) - highest[:, :-1]
        if smoothing:
            target_offset = torch.lerp(target_offset, _group_means(offset, group, highest)[:, :-1], smoothing)
        losses = torch.where(total > 0, total, 1.0).log()[:, :-1] - target_offset
        return torch.where(_expand(self.on_path[label], logits), losses, 0.0)

    # --- the most probable leaves

    def top_leaves(self, log_probability: Tensor, k: int) -> Tensor:
        """Return the `k` most probable leaves (all if there are fewer), (M, T), from log P(node) (M, K)."""
        inner = self.child_group >= 0
        return log_probability.masked_fill(inner, float("-inf")).topk(min(k, self.num_leaves), dim=1).indices

    def path_probabilities(self, log_probability: Tensor, node: Tensor) -> Tensor:
        """Return the probabilities of the nodes on the paths to `node` (M, ...), (M, ..., D), from log P(node) (M, K).

        Ordered by depth, NaN beyond the node.
        """
        levels_up = self.depth[node][..., None] - torch.arange(self.path.shape[1], device=node.device)
        by_depth = self.path[node].gather(-1, levels_up.clamp(min=0))
        probability = log_probability.gather(1, by_depth.flatten(1)).view(by_depth.shape).exp()
        return torch.where(levels_up >= 0, probability, float("nan"))

    # --- descent from the roots

    def descend(self, probability: Tensor, threshold: float) -> Tensor:
        """Return the nodes (M,) at which descents over P(node | parent) (M, K) stop; see `descend_with`."""
        padded = torch.cat([probability, probability.new_full((len(probability), 1), -1.0)], dim=1)

        def group_probability(rows: Tensor, group: Tensor) -> Tensor:
            return padded[rows[:, None], self.members[group]]

        return self.descend_with(group_probability, probability.new_ones(len(probability)), threshold).node

    def descend_with(
        self,
        group_probability: GroupProbability,
        start_probability: Tensor,
        threshold: float,
        *,
        rule: Literal["paper", "darknet"] = "paper",
        start_node: Tensor | None = None,
    ) -> Descents:
        """Descend to the most probable child while the path probability is above `threshold` (YOLO9000 section 4).

        A descent begins above the roots, or at `start_node` (M,); `start_probability` (M,) is the probability there.
        `group_probability(rows (m,), group (m,))` returns P(node | parent) of a group for each row, (m, S), padded with
        negative values; only visited groups are requested. If no root is above the threshold, the result is the most
        probable root.

        `rule`: `paper` compares P(node) with the threshold. `darknet` multiplies absolute instead of conditional
        probabilities, so ancestors count repeatedly and the descent stops earlier (`tree.c: hierarchy_top_prediction`,
        called by `region_layer.c` with absolute probabilities).
        """
        compared, absolute = start_probability.clone(), start_probability.clone()  # `compared` with the threshold
        node = torch.full_like(compared, -1, dtype=torch.int64) if start_node is None else start_node.clone()
        path = compared.new_full((len(compared), len(self.nodes_per_depth)), float("nan"))
        group = torch.zeros_like(node) if start_node is None else self.child_group[node]
        active = (group >= 0).nonzero().flatten()  # the rows that have not stopped
        for _ in self.nodes_per_depth:
            if not len(active):
                break
            conditional, position = group_probability(active, group[active]).max(1)
            child = self.members[group[active], position]
            factor = conditional * absolute[active] if rule == "darknet" else conditional
            above = compared[active] * factor > threshold
            moves = above | (node[active] < 0)  # to a root even below the threshold
            active, child, conditional, factor, above = (
                each[moves] for each in (active, child, conditional, factor, above)
            )
            node[active], group[active] = child, self.child_group[child]
            compared[active], absolute[active] = compared[active] * factor, absolute[active] * conditional
            path[active, self.depth[child]] = absolute[active]
            active = active[above & (group[active] >= 0)]
        return Descents(node, path)


def _expand(table: Tensor, logits: Tensor) -> Tensor:
    """Repeat a table (M, X) over the trailing dimensions of logits (M, R, ...): (M, X, ...)."""
    trailing = logits.shape[table.dim() :]
    return table.view(*table.shape, *(1 for _ in trailing)).expand(*table.shape, *trailing)


def _group_means(values: Tensor, group: Tensor, like: Tensor) -> Tensor:
    """Return the mean of the values (M, R, ...) of each group in the shape of `like` (M, D + 1, ...); 0 if empty."""
    sums, counts = (torch.zeros_like(like).scatter_add(1, group, each) for each in (values, torch.ones_like(values)))
    return sums / counts.clamp(min=1)


def _check_size(tree: WordTree) -> None:
    """Raise `DataError` if the tables of a tree, with all groups on the path of each node, would fill the memory."""
    sizes = np.diff(tree.group_start)[tree.group].tolist()
    widths: list[int] = []
    for size, parent in zip(sizes, tree.parents, strict=True):
        widths.append(size + (widths[parent] if parent >= 0 else 0))
    if not tree.is_flat and len(tree) * max(widths) > MAX_TABLE:
        raise DataError(
            f"label tree: {len(tree):,} nodes with up to {max(widths):,} siblings on their paths are too many for a "
            f"network: nodes x siblings must be at most {MAX_TABLE:,}; use fewer levels or smaller groups"
        )


def _members(tree: WordTree) -> np.ndarray:
    """Return the nodes of each group, (G, S), padded with K, which is no node."""
    sizes = np.diff(tree.group_start)
    nodes = tree.group_start[:-1, None] + np.arange(sizes.max())
    return np.where(np.arange(sizes.max()) < sizes[:, None], nodes, len(tree))


def _paths(tree: WordTree) -> dict[str, np.ndarray]:
    """Return `path` (K, D): each node and its ancestors, padded with the root; `on_path` (K, D): false for padding."""
    max_length = int(tree.depth.max()) + 1
    parent, columns = np.asarray(tree.parents), [np.arange(len(tree))]
    for _ in range(1, max_length):
        ancestor = parent[columns[-1]]
        columns.append(np.where(ancestor < 0, columns[-1], ancestor))
    return {"path": np.stack(columns, axis=1), "on_path": np.arange(max_length) <= tree.depth[:, None]}


def _path_groups(tree: WordTree, path: np.ndarray, on_path: np.ndarray) -> dict[str, np.ndarray]:
    """Return the layout of the logits if only those of the groups on a path are computed, the label's own group first.

    `group_nodes` (K, R): nodes, padded with 0; `group_on_path` (K, R): index on the path of the group of each, D for
    padding; `path_columns` (K, D): column of each node of the path.
    """
    start, sizes = tree.group_start[:-1], np.diff(tree.group_start)
    group = tree.group[path]
    counts = np.where(on_path, sizes[group], 0)
    ends = counts.cumsum(axis=1)
    columns = np.arange(ends[:, -1].max())
    group_on_path = np.stack([np.searchsorted(row, columns, side="right") for row in ends])
    padding = np.zeros((len(tree), 1), np.int64)
    padded_group = np.append(group, padding, axis=1)
    begins = np.append(padding, ends, axis=1)
    within_group = columns - np.take_along_axis(begins, group_on_path, axis=1)
    is_node = group_on_path < path.shape[1]
    nodes = start[np.take_along_axis(padded_group, group_on_path, axis=1)] + within_group
    return {
        "group_nodes": np.where(is_node, nodes, 0),
        "group_on_path": group_on_path,
        "path_columns": np.where(on_path, begins[:, :-1] + path - start[group], 0),
    }
