"""Class decoders: convert class logits to labels, either all labels above a threshold or one label per box.

They compute only the logits they need: those of the sibling groups on the paths of the requested nodes.

Letters: M boxes, Q requested labels, D the length of the longest path in the label tree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import torch
from torch import Tensor

from yolo9k.detection.head import Head
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

MAX_LOGITS = 1 << 24  # max count of logits in memory at once
MAX_CANDIDATES = 10_000  # max (box, label) pairs per image that enter NMS, the best ones
MAX_ROWS = 1 << 23  # (box, label) pairs of a batch from which on those that cannot enter NMS are dropped

Activation = Literal["softmax", "logistic"]
DescentRule = Literal["paper", "darknet"]


@dataclass(frozen=True)
class DecodedLabels:
    """Labels of boxes, one row per (box, label).

    `box` (N,): index of the box; `label` (N,): node; `score` (N,). `path` (N, D): the probability of each node on the
    path to the label, by depth, NaN below the label. `None` if a box can have several labels.
    """

    box: Tensor
    label: Tensor
    score: Tensor
    path: Tensor | None = None


class ClassDecoder(Protocol):
    """Converts class logits to labels with scores."""

    @property
    def spans(self) -> Tensor | None:
        """Return `WordTree.spans` if NMS treats a label and its ancestors as one label; `None`: separate labels."""

    def __call__(
        self, head: Head, features: Tensor, positions: Tensor, objectness: Tensor, conf: float
    ) -> DecodedLabels:
        """Return the labels with a score above `conf`.

        `features`: input of the head; `positions` (M, 4): image, anchor, row, column of the boxes; `objectness` (M,).
        """


class NodeProbabilities:
    """Computes probabilities of nodes from the sibling groups on their paths. `nodes`: `None`: all nodes."""

    def __init__(self, tree: WordTree, kind: Activation, nodes: Sequence[int] | None, device: torch.device) -> None:
        self.rows: Tensor | None = None
        if nodes is not None and not tree.is_flat:
            tree, rows = tree.pruned(nodes)
            self.rows = torch.from_numpy(rows).to(device)
        self.scores = HierarchicalSoftmax(tree, kind).to(device)

    def chunks(self, head: Head, features: Tensor, positions: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the indices (m,) of some boxes and their log P(node), (m, Q), until all boxes are done."""
        size = max(1, MAX_LOGITS // self.scores.num_nodes)
        for boxes in torch.arange(len(positions), device=positions.device).split(size):
            yield boxes, self.scores.absolute(head.class_logits(features, positions[boxes], self.rows))

    def columns(self, nodes: Tensor) -> Tensor:
        """Return the column of each node in the output of `chunks`."""
        return nodes if self.rows is None else torch.searchsorted(self.rows, nodes)


class MultiLabel:
    """Assigns to each box all labels whose score, objectness x P(label), is above the threshold.

    `nodes`: the labels to choose from; `None`: all labels.
    """

    spans: Tensor | None = None

    def __init__(
        self, tree: WordTree, kind: Activation, device: torch.device, nodes: Sequence[int] | None = None
    ) -> None:
        self.probabilities = NodeProbabilities(tree, kind, nodes, device)
        self.nodes = torch.arange(len(tree)) if nodes is None else torch.tensor(nodes, dtype=torch.int64)
        self.nodes = self.nodes.to(device)
        self.columns = None if nodes is None else self.probabilities.columns(self.nodes)

    def __call__(
        self, head: Head, features: Tensor, positions: Tensor, objectness: Tensor, conf: float
    ) -> DecodedLabels:
        """See `ClassDecoder`."""
        none = positions.new_zeros(0), positions.new_zeros(0), objectness.new_zeros(0)
        parts = [DecodedLabels(*none)]
        rows = 0
        for boxes, log_probability in self.probabilities.chunks(head, features, positions):
            requested = log_probability if self.columns is None else log_probability[:, self.columns]
            scores = objectness[boxes, None] * requested.exp()
            row, column = (scores > conf).nonzero().unbind(1)
            parts.append(DecodedLabels(boxes[row], self.nodes[column], scores[row, column]))
            rows += len(row)
            if rows > MAX_ROWS:
                parts = [_best(_joined(parts), positions[:, 0])]
                rows = len(parts[0].box)
        return _joined(parts)


def _joined(parts: Sequence[DecodedLabels]) -> DecodedLabels:
    columns = ((part.box, part.label, part.score) for part in parts)
    return DecodedLabels(*map(torch.cat, zip(*columns, strict=True)))


def _best(decoded: DecodedLabels, image: Tensor) -> DecodedLabels:
    """Return the rows that can enter NMS, in their order; `image` (M,): of each box."""
    order = decoded.score.argsort(descending=True, stable=True)
    kept = order[rank_in_image(image[decoded.box[order]]) < MAX_CANDIDATES].sort().values
    return DecodedLabels(decoded.box[kept], decoded.label[kept], decoded.score[kept])


def rank_in_image(image_index: Tensor) -> Tensor:
    """Return how many earlier rows belong to the same image, (N,)."""
    order = image_index.argsort(stable=True)
    sorted_images = image_index[order]
    start = torch.searchsorted(sorted_images, sorted_images)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - start
    return rank


class BestLabel:
    """Assigns to each box the most probable of some nodes, for example of the leaves."""

    def __init__(self, tree: WordTree, device: torch.device, nodes: Sequence[int]) -> None:
        self.probabilities = NodeProbabilities(tree, "softmax", nodes, device)
        self.nodes = torch.tensor(nodes, dtype=torch.int64, device=device)
        self.columns = self.probabilities.columns(self.nodes)
        self.spans = torch.from_numpy(tree.spans).to(device)
        self.max_path_length = int(tree.depth.max()) + 1

    def most_probable(self, head: Head, features: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the most probable node (M,), its probability (M,) and the probabilities on its path (M, D)."""
        node, probability = [positions.new_zeros(0)], [features.new_zeros(0)]
        path = [features.new_zeros(0, self.max_path_length)]
        for _, log_probability in self.probabilities.chunks(head, features, positions):
            best, index = log_probability[:, self.columns].max(1)
            path_probability = self.probabilities.scores.path_probabilities(log_probability, self.columns[index])
            # A pruned tree can have shorter paths than the whole tree.
            missing = self.max_path_length - path_probability.shape[1]
            padding = path_probability.new_full((len(path_probability), missing), float("nan"))
            node.append(self.nodes[index])
            probability.append(best.exp())
            path.append(torch.cat([path_probability, padding], dim=1))
        return torch.cat(node), torch.cat(probability), torch.cat(path)

    def __call__(
        self, head: Head, features: Tensor, positions: Tensor, objectness: Tensor, conf: float
    ) -> DecodedLabels:
        """See `ClassDecoder`."""
        node, probability, path = self.most_probable(head, features, positions)
        score = objectness * probability
        box = (score > conf).nonzero().flatten()
        return DecodedLabels(box, node[box], score[box], path[box])


class HierarchicalDescent:
    """Assigns to each box the node at which a descent ends: from the roots to the most probable child, repeatedly.

    `threshold`: the descent continues while P(node) is above it. `rule`: `paper` scores boxes by objectness x P(label);
    `darknet` scores them by objectness alone and multiplies absolute probabilities during the descent
    (`region_layer.c`). `under`: start from the most probable of these nodes instead of the roots.
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
        """See `ClassDecoder`."""
        start_node, start, start_path = None, torch.ones_like(objectness), None
        if self.start is not None:
            start_node, start, start_path = self.start.most_probable(head, features, positions)
        group_probability = partial(self._group_probability, head, features, positions)
        descents = self.scores.descend_with(
            group_probability, start, self.threshold, rule=self.rule, start_node=start_node
        )
        path = descents.path if start_path is None else torch.where(descents.path.isnan(), start_path, descents.path)
        probability = path.gather(1, self.scores.depth[descents.node, None]).squeeze(1)
        score = objectness if self.rule == "darknet" else objectness * probability
        box = (score > conf).nonzero().flatten()
        return DecodedLabels(box, descents.node[box], score[box], path[box])

    def _group_probability(
        self, head: Head, features: Tensor, positions: Tensor, rows: Tensor, group: Tensor
    ) -> Tensor:
        """Return P(node | parent) of one sibling group per box, (m, S), padded with -1.

        `rows` (m,): indices into `positions`; `group` (m,): the group of each. Reads only the weights of these groups.
        """
        probability = torch.full((len(rows), self.scores.members.shape[1]), -1.0, device=features.device)
        for index in group.unique().tolist():
            own = (group == index).nonzero().flatten()
            nodes = torch.arange(*self.group_start[index : index + 2], device=group.device)
            logits = head.class_logits(features, positions[rows[own]], nodes)
            probability[own, : len(nodes)] = logits.float().softmax(1)
        return probability
