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

    def __init__(self, tree: WordTree, kind: Literal["softmax", "logistic"] = "softmax") -> None:
        super().__init__()
        self.kind, self.flat = kind, tree.is_flat
        self.num_groups = int(tree.group[-1]) + 1
        paths = [tree.path(node) for node in range(len(tree))]
        longest = max(map(len, paths))
        path = np.array([nodes + [nodes[-1]] * (longest - len(nodes)) for nodes in paths])
        on_path = np.array([[True] * len(nodes) + [False] * (longest - len(nodes)) for nodes in paths])
        self.register_buffer("group", torch.from_numpy(tree.group), persistent=False)
        self.register_buffer("path", torch.from_numpy(path), persistent=False)  # (K, D), the root repeated
        self.register_buffer("on_path", torch.from_numpy(on_path), persistent=False)

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
        """Logits (M, K) to log P(node), (M, K): sums along the paths."""
        conditional = self.conditional(logits)
        if self.flat:
            return conditional
        return (conditional[:, self.path] * self.on_path).sum(-1)

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Cross entropy of each row's label, summed over the groups on its path: (M, K), (M,) to (M,).

        What is below the label gets no gradient: it is unknown, not wrong. Logistic: `loss_logistic`.
        """
        chosen = self.conditional(logits).gather(1, self.path[label])
        return -(chosen * self.on_path[label]).sum(1)

    def loss_logistic(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross entropy of every label: (M, K) logits, (M, K) of 0 and 1, to (M,)."""
        return F.binary_cross_entropy_with_logits(logits.float(), labels, reduction="none").sum(1)
