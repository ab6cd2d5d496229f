"""How boxes are written into the raw map: encode and decode are inverse (Darknet `region_layer.c`).

Letters: B images, A anchors, H and W grid rows and columns, N boxes. Grid units are cells.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GridBoxes:
    """Decoded boxes of a whole map, each field (B, A, H, W): centre and size in cells, objectness in [0, 1]."""

    cx: Tensor
    cy: Tensor
    w: Tensor
    h: Tensor
    objectness: Tensor

    def xyxy(self) -> Tensor:
        """Corners in cells, (B, A * H * W, 4), in Darknet's order: anchor, row, column."""
        half_w, half_h = self.w / 2, self.h / 2
        corners = (self.cx - half_w, self.cy - half_h, self.cx + half_w, self.cy + half_h)
        return torch.stack(corners, dim=-1).flatten(1, 3)


def decode(geometry: Tensor, anchors: Tensor) -> GridBoxes:
    """Raw (B, A, 5, H, W) and anchors (A, 2) in cells to boxes: sigmoid for centre and objectness, exp for size."""
    x, y, w, h, objectness = geometry.float().unbind(2)
    rows, columns = (torch.arange(n, device=x.device, dtype=x.dtype) for n in x.shape[-2:])
    return GridBoxes(
        cx=columns + x.sigmoid(),
        cy=rows[:, None] + y.sigmoid(),
        w=w.exp() * anchors[:, 0, None, None],
        h=h.exp() * anchors[:, 1, None, None],
        objectness=objectness.sigmoid(),
    )


def encode(cxcywh_grid: Tensor, cell_ij: Tensor, anchor_wh: Tensor) -> Tensor:
    """Boxes (N, 4) in cells, their cells (N, 2) as column, row, and anchors (N, 2) to targets (N, 4).

    The targets are sigmoid(x), sigmoid(y), w and h of the raw map.
    """
    offset = cxcywh_grid[:, :2] - cell_ij
    return torch.cat([offset, (cxcywh_grid[:, 2:] / anchor_wh).log()], dim=1)
