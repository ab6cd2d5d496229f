"""Probabilities and losses of labels over a tree (YOLO9000 section 4), computed in float32.

Inside every sibling group the probabilities are a softmax; a node's absolute probability is the product along
its path to a root. For a flat tree all of this is the plain softmax.
"""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolo9k.wordtree.tree import WordTree


class LabelScores(nn.Module):
    """Turns class logits into probabilities and losses.

    `kind`: `softmax` over sibling groups, or `logistic`: each label by itself (flat label sets only).
    """

    group: Tensor
    path: Tensor
    on_path: Tensor
    parent: Tensor
    child_group: Tensor
    members: Tensor
    by_depth: Tensor

    def __init__(self, tree: WordTree, kind: Literal["softmax", "logistic"] = "softmax") -> None:
        super().__init__()
        self.kind, self.flat = kind, tree.is_flat
        self.num_groups = int(tree.group[-1]) + 1
        tables = {
            "group": tree.group,
            "parent": np.asarray(tree.parents),
            "child_group": tree.child_group,
            "members": _members(tree),
            "by_depth": tree.depth.argsort(kind="stable"),
            **_paths(tree),
        }
        for name, table in tables.items():
            self.register_buffer(name, torch.from_numpy(table), persistent=False)
        self.level_sizes = np.bincount(tree.depth).tolist()

    def conditional(self, logits: Tensor) -> Tensor:
        """Logits (M, K) to log P(node | parent), (M, K)."""
        logits = logits.float()
        if self.kind == "logistic":
            return F.logsigmoid(logits)
        if self.flat:
            return F.log_softmax(logits, dim=-1)
        group = self.group.expand_as(logits)
        shape = (len(logits), self.num_groups)
        top = logits.new_full(shape, float("-inf")).scatter_reduce(1, group, logits.detach(), "amax")
        shifted = logits - top.gather(1, group)
        total = logits.new_zeros(shape).scatter_add(1, group, shifted.exp())
        return shifted - total.log().gather(1, group)

    def absolute(self, logits: Tensor) -> Tensor:
        """Logits (M, K) to log P(node), (M, K): sums along the paths, level by level."""
        total = self.conditional(logits)
        for nodes in self.by_depth.split(self.level_sizes)[1:]:
            total = total.index_add(1, nodes, total[:, self.parent[nodes]])
        return total

    def absolute_of(self, logits: Tensor, label: Tensor) -> Tensor:
        """log P of one label (a tensor of no dimensions) in every row: (M, K) to (M,)."""
        return (self.conditional(logits)[:, self.path[label]] * self.on_path[label]).sum(1)

    def path_losses(self, logits: Tensor, label: Tensor) -> Tensor:
        """Cross entropy of each row's label in every group on its path: (M, K), (M,) to (M, D).

        D is the longest path; beyond a label's own path there are zeros. What is below the label gets no gradient:
        it is unknown, not wrong.
        """
        chosen = self.conditional(logits).gather(1, self.path[label])
        return -torch.where(self.on_path[label], chosen, 0.0)

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """`path_losses` summed: (M, K), (M,) to (M,). Logistic: `loss_logistic`."""
        return self.path_losses(logits, label).sum(1)

    def descend(self, probability: Tensor, threshold: float) -> Tensor:
        """The node that each row ends in: from the roots to the likeliest child while their product is above.

        `probability` (M, K), not logarithms; gives (M,). With conditional probabilities this is the paper's rule;
        Darknet's detector feeds absolute ones, in which ancestors count repeatedly (`tree.c:
        hierarchy_top_prediction`). Where not even a root is above the threshold, the likeliest root is given.
        """
        rows = len(probability)
        product = probability.new_ones(rows)
        group = torch.zeros(rows, dtype=torch.int64, device=probability.device)
        result, going = torch.zeros_like(group), torch.ones_like(group, dtype=torch.bool)
        padded = torch.cat([probability, probability.new_full((rows, 1), -1.0)], dim=1)
        for _ in self.level_sizes:
            members = self.members[group]
            best, place = padded.gather(1, members).max(1)
            node = members.gather(1, place[:, None]).squeeze(1)
            deeper = going & (product * best > threshold)
            ends = torch.where(group == 0, node, self.parent[members[:, 0]])
            result = torch.where(going, torch.where(deeper, node, ends), result)
            product = torch.where(deeper, product * best, product)
            going = deeper & (self.child_group[node] >= 0)
            group = torch.where(going, self.child_group[node], group)
        return result

    def loss_logistic(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross entropy of every label: (M, K) logits, (M, K) of 0 and 1, to (M,)."""
        return F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none").sum(1)


def _members(tree: WordTree) -> np.ndarray:
    """(G, S) the nodes of each group, filled up with K, which is no node."""
    sizes = np.diff(tree.group_start)
    members = np.full((len(sizes), sizes.max()), len(tree), np.int64)
    for group, (start, size) in enumerate(zip(tree.group_start, sizes, strict=False)):
        members[group, :size] = np.arange(start, start + size)
    return members


def _paths(tree: WordTree) -> dict[str, np.ndarray]:
    """`path` (K, D): each node and its ancestors, the root repeated; `on_path` (K, D): false for repetitions."""
    paths = [tree.path(node) for node in range(len(tree))]
    longest = max(map(len, paths))
    path = np.array([nodes + [nodes[-1]] * (longest - len(nodes)) for nodes in paths])
    on_path = np.array([[True] * len(nodes) + [False] * (longest - len(nodes)) for nodes in paths])
    return {"path": path, "on_path": on_path}
