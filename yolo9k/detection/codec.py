"""Decode the raw map of the head to boxes, and encode boxes as regression targets (Darknet `region_layer.c`).

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

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return (B, A, H, W)."""
        batch, anchors, rows, columns = self.objectness.shape
        return batch, anchors, rows, columns

    def xyxy(self) -> Tensor:
        """Return corners in cells, (B, A * H * W, 4), in Darknet's order: anchor, row, column."""
        half_w, half_h = self.w / 2, self.h / 2
        corners = (self.cx - half_w, self.cy - half_h, self.cx + half_w, self.cy + half_h)
        return torch.stack(corners, dim=-1).flatten(1, 3)

    def cxcywh(self, positions: Tensor) -> Tensor:
        """Return centres and sizes in cells, (N, 4), of the boxes at `positions` (N, 4): image, anchor, row, column."""
        index = tuple(positions.unbind(1))
        return torch.stack([field[index] for field in (self.cx, self.cy, self.w, self.h)], dim=1)

    def pixels_per_cell(self, size_wh: tuple[int, int]) -> Tensor:
        """Return the factor (4,) that converts `xyxy` in cells to pixels; `size_wh`: the network's input size."""
        rows, columns = self.objectness.shape[2:]
        return torch.tensor([size_wh[0] / columns, size_wh[1] / rows] * 2, device=self.objectness.device)


class _CentreCoding(Protocol):
    """How a raw x or y encodes the box centre.

    Three quantities: `raw` is the output of the head, `activated` the value that the loss compares, and `offset` the
    distance in cells from the left or top border of the cell to the centre. `centre`: the activated value of a box in
    the middle of its cell.
    """

    centre: float

    def activate(self, raw: Tensor) -> Tensor:
        """Convert the raw value to the activated value."""

    def to_offset(self, activated: Tensor, anchor_side: Tensor) -> Tensor:
        """Convert the activated value to the offset; `anchor_side` in cells."""

    def from_offset(self, offset: Tensor, anchor_side: Tensor) -> Tensor:
        """Convert the offset to the activated value."""


class _DirectLocation:
    """Centre inside the cell, by a sigmoid (YOLO9000 section 2, "direct location prediction")."""

    centre = 0.5

    def activate(self, raw: Tensor) -> Tensor:
        return raw.sigmoid()

    def to_offset(self, activated: Tensor, anchor_side: Tensor) -> Tensor:
        return activated

    def from_offset(self, offset: Tensor, anchor_side: Tensor) -> Tensor:
        return offset


class _AnchorOffset:
    """Centre anywhere: the middle of the cell plus a multiple of the anchor's side (Faster R-CNN section 3.1.2).

    YOLO9000 section 2 prints it as x = t * w - x_a; the minus is a typo for a plus.
    """

    centre = 0.0

    def activate(self, raw: Tensor) -> Tensor:
        return raw

    def to_offset(self, activated: Tensor, anchor_side: Tensor) -> Tensor:
        return 0.5 + activated * anchor_side

    def from_offset(self, offset: Tensor, anchor_side: Tensor) -> Tensor:
        return (offset - 0.5) / anchor_side


_CENTRE_CODINGS: dict[Location, _CentreCoding] = {"direct": _DirectLocation(), "offset": _AnchorOffset()}


class Codec(nn.Module):
    """Converts raw values to boxes and boxes to regression targets.

    `anchors` (A, 2): widths and heights in cells. `location`: `direct` puts the centre of a box inside its cell,
    `offset` anywhere. Raw w and h are log(side / anchor side). The loss compares targets with activated values: raw w
    and h, and x and y after `activate`.
    """

    anchors: Tensor

    def __init__(self, anchors: Tensor, location: Location = "direct") -> None:
        super().__init__()
        self.register_buffer("anchors", anchors.float(), persistent=False)
        self._centre_coding = _CENTRE_CODINGS[location]

    @property
    def centre(self) -> float:
        """Return the activated x and y of a box in the middle of its cell."""
        return self._centre_coding.centre

    def activate(self, xy: Tensor) -> Tensor:
        """Convert raw x and y, of any shape, to the values that the loss compares with targets."""
        return self._centre_coding.activate(xy)

    def decode(self, geometry: Tensor) -> GridBoxes:
        """Decode raw x, y, w, h, objectness (B, A, 5, H, W) to boxes, in float32."""
        x, y, w, h, objectness = geometry.float().unbind(2)
        anchor_w, anchor_h = self.anchors.T[..., None, None]
        rows, columns = (torch.arange(n, device=x.device, dtype=x.dtype) for n in x.shape[-2:])
        return GridBoxes(
            cx=columns + self._centre_coding.to_offset(self.activate(x), anchor_w),
            cy=rows[:, None] + self._centre_coding.to_offset(self.activate(y), anchor_h),
            w=w.exp() * anchor_w,
            h=h.exp() * anchor_h,
            objectness=objectness.sigmoid(),
        )

    def encode(self, cxcywh_grid: Tensor, cell_ij: Tensor, anchor: Tensor) -> Tensor:
        """Encode boxes as regression targets (N, 4): activated x and y, raw w and h.

        `cxcywh_grid` (N, 4) in cells; `cell_ij` (N, 2): column and row of their cells; `anchor` (N,): anchor indices.
        """
        anchor_wh = self.anchors[anchor]
        xy = self._centre_coding.from_offset(cxcywh_grid[:, :2] - cell_ij, anchor_wh)
        return torch.cat([xy, (cxcywh_grid[:, 2:] / anchor_wh).log()], dim=1)
