"""How boxes are written into the raw map: encode and decode are inverse (Darknet `region_layer.c`).

Letters: B images, A anchors, H and W grid rows and columns, N boxes. Grid units are cells.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

Location = Literal["direct", "offset"]


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


class _Axis(Protocol):
    """What a raw x or y says of where a box has its centre.

    `centre`: the activated number that means the middle of the cell.
    """

    centre: float

    def activate(self, raw: Tensor) -> Tensor:
        """The number that targets are compared with."""

    def place(self, activated: Tensor, anchor_side: Tensor) -> Tensor:
        """Its place from the cell's left or upper border, in cells."""

    def number(self, place: Tensor, anchor_side: Tensor) -> Tensor:
        """The inverse of `place`."""


class _Direct:
    """Inside the cell, by a sigmoid (YOLO9000 section 2, "direct location prediction")."""

    centre = 0.5

    def activate(self, raw: Tensor) -> Tensor:
        return raw.sigmoid()

    def place(self, activated: Tensor, anchor_side: Tensor) -> Tensor:
        return activated

    def number(self, place: Tensor, anchor_side: Tensor) -> Tensor:
        return place


class _Offset:
    """Anywhere: the middle of the cell plus a multiple of the anchor's side (Faster R-CNN section 3.1.2).

    YOLO9000 prints x = t * w - x_a for it; the minus is a mistake for a plus.
    """

    centre = 0.0

    def activate(self, raw: Tensor) -> Tensor:
        return raw

    def place(self, activated: Tensor, anchor_side: Tensor) -> Tensor:
        return 0.5 + activated * anchor_side

    def number(self, place: Tensor, anchor_side: Tensor) -> Tensor:
        return (place - 0.5) / anchor_side


_AXES: dict[Location, _Axis] = {"direct": _Direct(), "offset": _Offset()}


class Codec(nn.Module):
    """Boxes as raw numbers and back; `anchors` (A, 2) in cells, `location`: where a box may have its centre.

    Raw w and h are logarithms of multiples of the anchor's sides. Targets are compared with the activated numbers:
    w and h as they are, x and y through `activate`.
    """

    anchors: Tensor

    def __init__(self, anchors: Tensor, location: Location = "direct") -> None:
        super().__init__()
        self.register_buffer("anchors", anchors.float(), persistent=False)
        self._axis = _AXES[location]

    @property
    def centre(self) -> float:
        """The activated x and y of a box in the middle of its cell."""
        return self._axis.centre

    def activate(self, xy: Tensor) -> Tensor:
        """Raw x and y of any shape to the numbers that targets are compared with."""
        return self._axis.activate(xy)

    def decode(self, geometry: Tensor) -> GridBoxes:
        """Raw (B, A, 5, H, W) to boxes."""
        x, y, w, h, objectness = geometry.float().unbind(2)
        anchor_w, anchor_h = self.anchors.T[..., None, None]
        rows, columns = (torch.arange(n, device=x.device, dtype=x.dtype) for n in x.shape[-2:])
        return GridBoxes(
            cx=columns + self._axis.place(self.activate(x), anchor_w),
            cy=rows[:, None] + self._axis.place(self.activate(y), anchor_h),
            w=w.exp() * anchor_w,
            h=h.exp() * anchor_h,
            objectness=objectness.sigmoid(),
        )

    def encode(self, cxcywh_grid: Tensor, cell_ij: Tensor, anchor: Tensor) -> Tensor:
        """Boxes (N, 4) in cells, their cells (N, 2) as column, row, and the numbers (N,) of their anchors to targets.

        The targets (N, 4) are the activated x and y, and w and h of the raw map.
        """
        anchor_wh = self.anchors[anchor]
        xy = self._axis.number(cxcywh_grid[:, :2] - cell_ij, anchor_wh)
        return torch.cat([xy, (cxcywh_grid[:, 2:] / anchor_wh).log()], dim=1)
