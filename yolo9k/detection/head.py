"""The `Head` protocol: what the loss and inference need from an anchor head (`yolo9k.models.head` implements it)."""

from typing import Protocol

from torch import Tensor


class Head(Protocol):
    """An anchor head that computes only the requested part of its output.

    All three methods take the same `features`: the input of the head (B, C, H, W), or the raw map
    (B, A * (5 + K), H, W) if that is computed already.
    """

    def geometry(self, features: Tensor) -> Tensor:
        """Return raw x, y, w, h, objectness of all predicted boxes: (B, A, 5, H, W)."""

    def class_logits(self, features: Tensor, positions: Tensor, nodes: Tensor | None = None) -> Tensor:
        """Return class logits of M predicted boxes: (M, Q).

        `positions` (M, 4): image, anchor, row, column. `nodes`: the requested labels, (Q,) the same for all boxes or
        (M, Q) per box. `None`: all K labels.
        """

    def class_maps(self, features: Tensor, images: Tensor, nodes: Tensor | None) -> Tensor:
        """Return class logits of all predicted boxes of M images: (M, A, Q, H, W).

        `images` (M,): image indices. `nodes` (M, Q): the requested labels per image. `None`: all K labels.
        """
