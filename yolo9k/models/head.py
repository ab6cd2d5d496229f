"""The anchor head: one 1x1 convolution that can be asked for parts of its output."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GEOMETRY = 5  # x, y, w, h, objectness
FIRST_OBJECTNESS = 0.1


class AnchorHead(nn.Module):
    """A 1x1 convolution with Darknet's channel order: anchor-major, then x, y, w, h, objectness, K labels.

    The three questions agree where they overlap; what is not asked for is not computed.
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

        `positions` (M, 4): image, anchor, row, column; `nodes` (Q,) label numbers, none for all K.
        Gives (M, Q).
        """
        weight, bias = self._rows()
        image, anchor, row, column = positions.unbind(1)
        rows = slice(GEOMETRY, None) if nodes is None else nodes + GEOMETRY
        chosen = features.permute(0, 2, 3, 1)[image, row, column]  # (M, C)
        every_anchor = F.linear(chosen, weight[:, rows].flatten(0, 1), bias[:, rows].flatten())
        by_anchor = every_anchor.unflatten(1, (self.num_anchors, -1))
        return by_anchor[torch.arange(len(positions), device=positions.device), anchor]

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
        return logits if nodes is None else logits[:, nodes]

    def dense(self, raw: Tensor) -> Tensor:
        """The map itself."""
        return raw
