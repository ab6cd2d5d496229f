"""The anchor head: one 1x1 convolution that computes only the requested part of its output.

Letters: B images, A anchors, K labels, C input channels, H and W grid rows and columns, M boxes or images, Q requested
labels. `AnchorHead` and `RawMap` implement the protocol `yolo9k.detection.head.Head`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GEOMETRY = 5  # x, y, w, h, objectness
INITIAL_OBJECTNESS = 0.1
MAX_DENSE_ROWS = 4096  # up to this many rows of the weight matrix, compute the rows of all anchors for every box


class AnchorHead(nn.Module):
    """The last `[convolutional]` section of a Darknet detector cfg: 1x1, linear, read by `[region]`.

    The channel order is Darknet's: by anchor, then x, y, w, h, objectness, K labels. The methods agree where their
    outputs overlap. They compute only what is requested, so thousands of labels cost about as much as twenty.
    """

    def __init__(self, in_channels: int, num_anchors: int, num_labels: int) -> None:
        super().__init__()
        self.num_anchors, self.num_labels = num_anchors, num_labels
        self.conv = nn.Conv2d(in_channels, num_anchors * (GEOMETRY + num_labels), 1)

    def initialise(self) -> None:
        """Draw small weights and set the objectness to 0.1: a new head predicts its anchors and few objects.

        Darknet initialises the head like any other layer and spends its first epochs on undoing that.
        """
        assert self.conv.bias is not None
        nn.init.normal_(self.conv.weight, std=0.01)
        nn.init.zeros_(self.conv.bias)
        with torch.no_grad():
            self.rows()[1][:, GEOMETRY - 1] = math.log(INITIAL_OBJECTNESS / (1 - INITIAL_OBJECTNESS))

    def rows(self) -> tuple[Tensor, Tensor]:
        """Return views of the weights, (A, 5 + K, C), and the biases, (A, 5 + K)."""
        assert self.conv.bias is not None
        shape = self.num_anchors, GEOMETRY + self.num_labels
        return self.conv.weight.view(*shape, -1), self.conv.bias.view(shape)

    def geometry(self, features: Tensor) -> Tensor:
        """Return raw x, y, w, h, objectness of all boxes: (B, C, H, W) to (B, A, 5, H, W)."""
        weight, bias = self.rows()
        kernel = weight[:, :GEOMETRY].flatten(0, 1)[..., None, None]
        raw = F.conv2d(features, kernel, bias[:, :GEOMETRY].flatten())
        return raw.unflatten(1, (self.num_anchors, GEOMETRY))

    def class_logits(self, features: Tensor, positions: Tensor, nodes: Tensor | None = None) -> Tensor:
        """Return class logits of M boxes, (M, Q).

        `positions` (M, 4): image, anchor, row, column. `nodes`: label indices, (Q,) the same for all boxes or (M, Q)
        per box; `None`: all K labels.
        """
        image, anchor, row, column = positions.unbind(1)
        inputs = features.permute(0, 2, 3, 1)[image, row, column]  # (M, C)
        if nodes is not None and nodes.dim() == 2:
            weight, bias = self._rows_per_box(anchor, nodes)
            return torch.baddbmm(bias[..., None], weight, inputs[..., None]).squeeze(-1)
        weight, bias = self.rows()
        rows = slice(GEOMETRY, None) if nodes is None else nodes + GEOMETRY
        weight, bias = weight[:, rows], bias[:, rows]
        if bias.numel() <= MAX_DENSE_ROWS:  # no synchronisation with the GPU to count the boxes of each anchor
            all_anchors = F.linear(inputs, weight.flatten(0, 1), bias.flatten()).unflatten(1, bias.shape)
            return all_anchors[torch.arange(positions.shape[0], device=positions.device), anchor]
        logits = features.new_empty(positions.shape[0], bias.shape[1])
        for index in range(self.num_anchors):
            own = (anchor == index).nonzero().flatten()
            logits = logits.index_put((own,), F.linear(inputs[own], weight[index], bias[index]))
        return logits

    def class_maps(self, features: Tensor, images: Tensor, nodes: Tensor | None) -> Tensor:
        """Return class logits of all boxes of M images, (M, A, Q, H, W).

        `images` (M,): image indices; `nodes` (M, Q): label indices per image; `None`: all K labels.
        """
        inputs = features[images]
        if nodes is None:
            weight, bias = self.rows()
            kernel = weight[:, GEOMETRY:].flatten(0, 1)[..., None, None]
            return F.conv2d(inputs, kernel, bias[:, GEOMETRY:].flatten()).unflatten(1, (self.num_anchors, -1))
        anchors = torch.arange(self.num_anchors, device=nodes.device).repeat(len(nodes))
        weight, bias = self._rows_per_box(anchors, nodes.repeat_interleave(self.num_anchors, dim=0))
        shape = len(nodes), self.num_anchors * nodes.shape[1]
        logits = torch.baddbmm(bias.view(*shape, 1), weight.view(*shape, -1), inputs.flatten(2))
        return logits.view(len(nodes), self.num_anchors, -1, *features.shape[2:])

    def _rows_per_box(self, anchor: Tensor, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights (M, Q, C) and biases (M, Q) of each box's own `nodes` (M, Q); `anchor` (M,)."""
        assert self.conv.bias is not None
        rows = anchor[:, None] * (GEOMETRY + self.num_labels) + GEOMETRY + nodes
        return F.embedding(rows, self.conv.weight.flatten(1)), self.conv.bias[rows]

    def forward(self, features: Tensor) -> Tensor:
        """See `dense`."""
        return self.dense(features)

    def dense(self, features: Tensor) -> Tensor:
        """Return the whole raw map: (B, C, H, W) to (B, A * (5 + K), H, W)."""
        return self.conv(features)


class SplitHead(nn.Module):
    """An anchor head for inference whose weights are split once into those of boxes and those of labels.

    A traced graph would otherwise hold the whole weights, and split them in each pass.
    """

    class_weight: Tensor  # (A, K, C)
    class_bias: Tensor  # (A, K)

    def __init__(self, head: AnchorHead) -> None:
        super().__init__()
        self.num_anchors, self.num_labels = head.num_anchors, head.num_labels
        weight, bias = (each.detach() for each in head.rows())
        self.box_conv = nn.Conv2d(weight.shape[2], self.num_anchors * GEOMETRY, 1)
        self.box_conv.weight.data = weight[:, :GEOMETRY].flatten(0, 1)[..., None, None].clone()
        self.box_conv.bias.data = bias[:, :GEOMETRY].flatten().clone()  # type: ignore[union-attr]
        self.register_buffer("class_weight", weight[:, GEOMETRY:].clone())
        self.register_buffer("class_bias", bias[:, GEOMETRY:].clone())

    def geometry(self, features: Tensor) -> Tensor:
        """Return raw x, y, w, h, objectness of all boxes: (B, C, H, W) to (B, A, 5, H, W)."""
        return self.box_conv(features).unflatten(1, (self.num_anchors, GEOMETRY))

    def class_logits(self, features: Tensor, positions: Tensor, nodes: Tensor | None = None) -> Tensor:
        """Return all class logits of M boxes, (M, K); see `AnchorHead.class_logits`."""
        image, anchor, row, column = positions.unbind(1)
        inputs = features.permute(0, 2, 3, 1)[image, row, column]  # (M, C)
        logits = features.new_zeros(positions.shape[0], self.num_labels)
        for index in range(self.num_anchors):
            own = (anchor == index).nonzero().flatten()
            logits = logits.index_put((own,), F.linear(inputs[own], self.class_weight[index], self.class_bias[index]))
        return logits

    def class_maps(self, features: Tensor, images: Tensor | None = None, nodes: Tensor | None = None) -> Tensor:
        """Return all class logits of all boxes of all images, (B, A, K, H, W)."""
        kernel = self.class_weight.flatten(0, 1)[..., None, None]
        return F.conv2d(features, kernel, self.class_bias.flatten()).unflatten(1, (self.num_anchors, -1))


class RawMap:
    """A head that reads from a raw map (B, A * (5 + K), H, W) that is already computed."""

    def __init__(self, num_anchors: int, num_labels: int) -> None:
        self.num_anchors, self.num_labels = num_anchors, num_labels

    def _by_anchor(self, raw: Tensor) -> Tensor:
        return raw.unflatten(1, (self.num_anchors, GEOMETRY + self.num_labels))

    def geometry(self, raw: Tensor) -> Tensor:
        """Return raw x, y, w, h, objectness of all boxes: (B, A, 5, H, W)."""
        return self._by_anchor(raw)[:, :, :GEOMETRY]

    def class_logits(self, raw: Tensor, positions: Tensor, nodes: Tensor | None = None) -> Tensor:
        """Return class logits of M boxes, (M, Q); arguments as in `AnchorHead.class_logits`."""
        image, anchor, row, column = positions.unbind(1)
        logits = self._by_anchor(raw)[image, anchor, :, row, column][:, GEOMETRY:]
        if nodes is None:
            return logits
        return logits[:, nodes] if nodes.dim() == 1 else logits.gather(1, nodes)

    def class_maps(self, raw: Tensor, images: Tensor, nodes: Tensor | None) -> Tensor:
        """Return class logits of all boxes of M images, (M, A, Q, H, W); arguments as in `AnchorHead.class_maps`."""
        logits = self._by_anchor(raw[images])[:, :, GEOMETRY:]
        if nodes is None:
            return logits
        return logits.gather(2, nodes[:, None, :, None, None].expand(-1, self.num_anchors, -1, *raw.shape[2:]))

    def dense(self, raw: Tensor) -> Tensor:
        """Return the map itself."""
        return raw


def cast_convolutions(network: nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights of all convolutions but those of anchor heads, in place."""
    for child in network.children():
        if isinstance(child, nn.Conv2d):
            child.to(dtype)
        elif not isinstance(child, AnchorHead):
            cast_convolutions(child, dtype)
