"""The anchor head: one 1x1 convolution that can be asked for parts of its output."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GEOMETRY = 5  # x, y, w, h, objectness
FIRST_OBJECTNESS = 0.1
FEW_ROWS = 4096  # of the weight matrix; so many are computed for every anchor where one is asked for


class AnchorHead(nn.Module):
    """A 1x1 convolution with Darknet's channel order: anchor-major, then x, y, w, h, objectness, K labels.

    The questions agree where they overlap; what is not asked for is not computed, so that thousands of labels cost
    what twenty cost.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_labels: int) -> None:
        super().__init__()
        self.num_anchors, self.num_labels = num_anchors, num_labels
        self.conv = nn.Conv2d(in_channels, num_anchors * (GEOMETRY + num_labels), 1)

    def initialise(self) -> None:
        """Small weights, and objectness of .1: a new head begins near its anchors and expects little.

        Darknet begins with the variance of every other layer, and spends its first epochs on undoing that.
        """
        assert self.conv.bias is not None
        nn.init.normal_(self.conv.weight, std=0.01)
        nn.init.zeros_(self.conv.bias)
        with torch.no_grad():
            self._rows()[1][:, GEOMETRY - 1] = math.log(FIRST_OBJECTNESS / (1 - FIRST_OBJECTNESS))

    def _rows(self) -> tuple[Tensor, Tensor]:
        """The weights as (A, 5 + K, C) and the biases as (A, 5 + K)."""
        assert self.conv.bias is not None
        shape = self.num_anchors, GEOMETRY + self.num_labels
        return self.conv.weight.view(*shape, -1), self.conv.bias.view(shape)

    def geometry(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the raw x, y, w, h, objectness of every box: (B, A, 5, H, W)."""
        weight, bias = self._rows()
        chosen = weight[:, :GEOMETRY].flatten(0, 1)[..., None, None]
        raw = F.conv2d(features, chosen, bias[:, :GEOMETRY].flatten())
        return raw.unflatten(1, (self.num_anchors, GEOMETRY))

    def class_logits(self, features: Tensor, positions: Tensor, nodes: Tensor | None = None) -> Tensor:
        """Logits of chosen labels at chosen boxes.

        `positions` (M, 4): image, anchor, row, column; `nodes`: label numbers, (Q,) for all boxes, (M, Q) for each
        its own, none for all K. Gives (M, Q).
        """
        image, anchor, row, column = positions.unbind(1)
        chosen = features.permute(0, 2, 3, 1)[image, row, column]  # (M, C)
        if nodes is not None and nodes.dim() == 2:
            weight, bias = self._picked(anchor, nodes)
            return torch.baddbmm(bias[..., None], weight, chosen[..., None]).squeeze(-1)
        weight, bias = self._rows()
        rows = slice(GEOMETRY, None) if nodes is None else nodes + GEOMETRY
        weight, bias = weight[:, rows], bias[:, rows]
        if bias.numel() <= FEW_ROWS:  # nothing here waits to know how many boxes each anchor has
            every_anchor = F.linear(chosen, weight.flatten(0, 1), bias.flatten()).unflatten(1, bias.shape)
            return every_anchor[torch.arange(len(positions), device=positions.device), anchor]
        logits = features.new_empty(len(positions), bias.shape[1])
        for number in range(self.num_anchors):
            own = (anchor == number).nonzero().flatten()
            logits = logits.index_put((own,), F.linear(chosen[own], weight[number], bias[number]))
        return logits

    def class_maps(self, features: Tensor, images: Tensor, nodes: Tensor | None) -> Tensor:
        """Logits at all boxes of some images, `nodes` (M, Q) for each of the `images` (M,), none for all K.

        Gives (M, A, Q, H, W).
        """
        chosen = features[images]
        if nodes is None:
            weight, bias = self._rows()
            rows = weight[:, GEOMETRY:].flatten(0, 1)[..., None, None]
            return F.conv2d(chosen, rows, bias[:, GEOMETRY:].flatten()).unflatten(1, (self.num_anchors, -1))
        anchors = torch.arange(self.num_anchors, device=nodes.device).repeat(len(nodes))
        weight, bias = self._picked(anchors, nodes.repeat_interleave(self.num_anchors, dim=0))
        shape = len(nodes), self.num_anchors * nodes.shape[1]
        flat = torch.baddbmm(bias.view(*shape, 1), weight.view(*shape, -1), chosen.flatten(2))
        return flat.view(len(nodes), self.num_anchors, -1, *features.shape[2:])

    def _picked(self, anchor: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (M, Q, C) and biases (M, Q) of each box's own nodes (M, Q)."""
        assert self.conv.bias is not None
        rows = anchor[:, None] * (GEOMETRY + self.num_labels) + GEOMETRY + nodes
        return F.embedding(rows, self.conv.weight.flatten(1)), self.conv.bias[rows]

    def forward(self, features: Tensor) -> Tensor:
        """`dense`."""
        return self.dense(features)

    def dense(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to everything: (B, A * (5 + K), H, W)."""
        return self.conv(features)


class RawMap:
    """Answers a head's questions from a map that is there already: (B, A * (5 + K), H, W)."""

    def __init__(self, num_anchors: int, num_labels: int) -> None:
        self.num_anchors, self.num_labels = num_anchors, num_labels

    def _by_anchor(self, raw: Tensor) -> Tensor:
        return raw.unflatten(1, (self.num_anchors, GEOMETRY + self.num_labels))

    def geometry(self, raw: Tensor) -> Tensor:
        """The x, y, w, h, objectness of every box: (B, A, 5, H, W)."""
        return self._by_anchor(raw)[:, :, :GEOMETRY]

    def class_logits(self, raw: Tensor, positions: Tensor, nodes: Tensor | None = None) -> Tensor:
        """Logits of chosen labels at chosen boxes, as `AnchorHead.class_logits`."""
        image, anchor, row, column = positions.unbind(1)
        logits = self._by_anchor(raw)[image, anchor, :, row, column][:, GEOMETRY:]
        if nodes is None:
            return logits
        return logits[:, nodes] if nodes.dim() == 1 else logits.gather(1, nodes)

    def class_maps(self, raw: Tensor, images: Tensor, nodes: Tensor | None) -> Tensor:
        """Logits at all boxes of some images, as `AnchorHead.class_maps`."""
        logits = self._by_anchor(raw[images])[:, :, GEOMETRY:]
        if nodes is None:
            return logits
        return logits.gather(2, nodes[:, None, :, None, None].expand(-1, self.num_anchors, -1, *raw.shape[2:]))

    def dense(self, raw: Tensor) -> Tensor:
        """The map itself."""
        return raw
