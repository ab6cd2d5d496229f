"""What boxes are called: by every label that is likely enough, or by one, found in the label tree.

Only the rows of the head are computed that the answer needs: the sibling groups on the paths of the nodes in question.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from yolo9k.detection.loss import Head
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

MAX_NUMBERS = 1 << 24  # logits in memory at once

Activation = Literal["softmax", "logistic"]
DescentRule = Literal["paper", "darknet"]


@dataclass(frozen=True)
class DecodedLabels:
    """Labels of boxes, a row for each (box, label).

    `box` (N,) which of the boxes asked about, `label` (N,) nodes, `score` (N,); `path` (N, D): the probability of each
    node on the way to the label, by depth, NaN beyond it; none where boxes have many labels.
    """

    box: Tensor
    label: Tensor
    score: Tensor
    path: Tensor | None = None


class ClassDecoder(Protocol):
    """A way to name boxes."""

    @property
    def spans(self) -> Tensor | None:
        """`WordTree.spans`, where a label and its ancestors shall suppress each other."""

    def __call__(
        self, head: Head, features: Tensor, positions: Tensor, objectness: Tensor, conf: float
    ) -> DecodedLabels:
        """The labels, with scores above `conf`, of the boxes at `positions` (M, 4) with `objectness` (M,)."""


class NodeProbabilities:
    """Probabilities of some nodes (none: of all) from the rows of the groups on their paths."""

    def __init__(self, tree: WordTree, kind: Activation, nodes: Sequence[int] | None, device: torch.device) -> None:
        self.rows: Tensor | None = None
        if nodes is not None and not tree.is_flat:
            tree, rows = tree.pruned(nodes)
            self.rows = torch.from_numpy(rows).to(device)
        self.scores = HierarchicalSoftmax(tree, kind).to(device)

    def parts(self, head: Head, features: Tensor, positions: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """log P(node) of the rows, (m, Q), for some boxes at a time, whose numbers (m,) come first."""
        step = max(1, MAX_NUMBERS // self.scores.num_nodes)
        for boxes in torch.arange(len(positions), device=positions.device).split(step):
            yield boxes, self.scores.absolute(head.class_logits(features, positions[boxes], self.rows))

    def columns(self, nodes: Tensor) -> Tensor:
        """Where nodes stand among the rows."""
        return nodes if self.rows is None else torch.searchsorted(self.rows, nodes)


class MultiLabel:
    """Each box has each of the `nodes` (none: all labels) whose score, objectness x P(label), is high enough."""

    spans: Tensor | None = None

    def __init__(
        self, tree: WordTree, kind: Activation, device: torch.device, nodes: Sequence[int] | None = None
    ) -> None:
        self.branches = NodeProbabilities(tree, kind, nodes, device)
        self.nodes = torch.arange(len(tree)) if nodes is None else torch.tensor(nodes, dtype=torch.int64)
        self.nodes = self.nodes.to(device)
        self.columns = None if nodes is None else self.branches.columns(self.nodes)

    def __call__(
        self, head: Head, features: Tensor, positions: Tensor, objectness: Tensor, conf: float
    ) -> DecodedLabels:
        """As `ClassDecoder`."""
        found = [_no_labels(objectness)]
        for boxes, log_probability in self.branches.parts(head, features, positions):
            wanted = log_probability if self.columns is None else log_probability[:, self.columns]
            score = objectness[boxes, None] * wanted.exp()
            row, column = (score > conf).nonzero().unbind(1)
            found.append(DecodedLabels(boxes[row], self.nodes[column], score[row, column]))
        box, label, score = (torch.cat([getattr(part, name) for part in found]) for name in ("box", "label", "score"))
        return DecodedLabels(box, label, score)


class BestLabel:
    """Each box has the likeliest of some nodes; of the leaves, say."""

    def __init__(self, tree: WordTree, device: torch.device, nodes: Sequence[int]) -> None:
        self.branches = NodeProbabilities(tree, "softmax", nodes, device)
        self.nodes = torch.tensor(nodes, dtype=torch.int64, device=device)
        self.columns = self.branches.columns(self.nodes)
        self.spans = torch.from_numpy(tree.spans).to(device)
        self.levels = int(tree.depth.max()) + 1

    def best(self, head: Head, features: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The node (M,), its probability (M,) and those on the way to it (M, D)."""
        node = [positions.new_zeros(0)]
        probability, path = [features.new_zeros(0)], [features.new_zeros(0, self.levels)]
        for _, log_probability in self.branches.parts(head, features, positions):
            value, place = log_probability[:, self.columns].max(1)
            ways = self.branches.scores.path_probabilities(log_probability, self.columns[place])
            beyond = ways.new_full((len(ways), self.levels - ways.shape[1]), float("nan"))
            node.append(self.nodes[place])
            probability.append(value.exp())
            path.append(torch.cat([ways, beyond], dim=1))
        return torch.cat(node), torch.cat(probability), torch.cat(path)

    def __call__(
        self, head: Head, features: Tensor, positions: Tensor, objectness: Tensor, conf: float
    ) -> DecodedLabels:
        """As `ClassDecoder`."""
        node, probability, path = self.best(head, features, positions)
        score = objectness * probability
        box = (score > conf).nonzero().flatten()
        return DecodedLabels(box, node[box], score[box], path[box])


class HierarchicalDescent:
    """Each box has the node that a descent ends at: from the roots to the likeliest child, group by group.

    `threshold`: the descent goes on while P(node) is above it. `rule`: `paper`, with the score objectness x P(label),
    or `darknet`, whose detector multiplies absolute probabilities and scores by objectness alone (`region_layer.c`).
    `under`: descends from the likeliest of these nodes instead of from the roots.
    """

    def __init__(
        self,
        tree: WordTree,
        scores: HierarchicalSoftmax,
        threshold: float,
        rule: DescentRule = "paper",
        under: Sequence[int] = (),
    ) -> None:
        device = scores.path.device
        self.scores, self.threshold, self.rule = scores, threshold, rule
        self.start = BestLabel(tree, device, under) if under else None
        self.spans = torch.from_numpy(tree.spans).to(device)
        self.group_start = tree.group_start.tolist()

    def __call__(
        self, head: Head, features: Tensor, positions: Tensor, objectness: Tensor, conf: float
    ) -> DecodedLabels:
        """As `ClassDecoder`."""

        def ask(rows: Tensor, group: Tensor) -> Tensor:
            """P(node | parent) in the group of each row, whose weights alone are read."""
            probability = objectness.new_full((len(rows), self.scores.members.shape[1]), -1.0)
            for number in group.unique().tolist():
                own = (group == number).nonzero().flatten()
                nodes = torch.arange(*self.group_start[number : number + 2], device=group.device)
                logits = head.class_logits(features, positions[rows[own]], nodes)
                probability[own, : len(nodes)] = logits.float().softmax(1)
            return probability

        start, node, way = torch.ones_like(objectness), None, None
        if self.start is not None:
            node, start, way = self.start.best(head, features, positions)
        found = self.scores.descend_with(ask, start, self.threshold, rule=self.rule, start_node=node)
        path = found.path if way is None else torch.where(found.path.isnan(), way, found.path)
        probability = path.gather(1, self.scores.depth[found.node, None]).squeeze(1)
        score = objectness if self.rule == "darknet" else objectness * probability
        box = (score > conf).nonzero().flatten()
        return DecodedLabels(box, found.node[box], score[box], path[box])


def _no_labels(objectness: Tensor) -> DecodedLabels:
    none = torch.zeros(0, dtype=torch.int64, device=objectness.device)
    return DecodedLabels(none, none, objectness.new_zeros(0))
