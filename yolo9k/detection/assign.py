"""Which box of the map answers for which truth (Darknet `region_layer.c: forward_region_layer`)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from yolo9k.boxes import area, intersection, iou, shape_iou, xyxy_to_cxcywh


@dataclass(frozen=True)
class GroundTruth:
    """Box labels in cells: `image_index` (N,), `xyxy` (N, 4), `label` (N,), `ignore` (N,) bool."""

    image_index: Tensor
    xyxy: Tensor
    label: Tensor
    ignore: Tensor

    @property
    def cxcywh(self) -> Tensor:
        """Centres and sizes, (N, 4)."""
        return xyxy_to_cxcywh(self.xyxy)


@dataclass(frozen=True)
class Assignment:
    """One row per truth.

    `positions` (N, 4): image, anchor, row, column; `flat` (N,): the same as one index into (B, A, H, W);
    `active` (N,) bool: false for ignored truths and for those whose box a later truth took.
    """

    positions: Tensor
    flat: Tensor
    active: Tensor


def assign(
    truths: GroundTruth, anchors: Tensor, predicted_wh: Tensor | None, map_shape: tuple[int, int, int, int]
) -> Assignment:
    """Each truth goes to the cell of its centre and the anchor whose shape overlaps it most; the first wins a tie.

    `anchors` (A, 2) cells; `predicted_wh` (B, A, H, W, 2): where given, predicted shapes are compared instead
    (Darknet's `bias_match=0`); `map_shape` is (B, A, H, W). Of several truths in one box the last wins.
    """
    _, num_anchors, rows, columns = map_shape
    cxcywh = truths.cxcywh
    column = cxcywh[:, 0].long().clamp(0, columns - 1)  # a centre on the far border belongs to the last cell
    row = cxcywh[:, 1].long().clamp(0, rows - 1)
    image = truths.image_index
    candidates = anchors[None] if predicted_wh is None else predicted_wh[image, :, row, column]
    anchor = shape_iou(cxcywh[:, None, 2:], candidates).argmax(dim=1)
    flat = ((image * num_anchors + anchor) * rows + row) * columns + column
    positions = torch.stack([image, anchor, row, column], dim=1)
    return Assignment(positions, flat, last_of_each(flat, ~truths.ignore))


def last_of_each(key: Tensor, active: Tensor) -> Tensor:
    """Whether no later active entry has the same key; of the shape of `key`, the same on every device.

    Inactive entries are never the last.
    """
    counts = active.flatten()
    own = -1 - torch.arange(len(counts), device=key.device)  # inactive entries share their key with nobody
    keys = torch.where(counts, key.flatten(), own)
    order = keys.argsort(stable=True)
    ordered = keys[order]
    ends = torch.ones_like(counts)
    ends[:-1] = ordered[1:] != ordered[:-1]
    last = torch.zeros_like(counts)
    last[order] = ends
    return (last & counts).view(key.shape)


def best_overlap(truths: GroundTruth, boxes_xyxy: Tensor) -> Tensor:
    """The largest overlap of every predicted box with a truth of its image: (B, M, 4) cells to (B, M).

    IoU for ordinary truths; for ignored ones the share of the predicted box inside it, as pycocotools judges
    crowds, since such a truth may stand for many objects.
    """
    own = boxes_xyxy[truths.image_index]  # (N, M, 4)
    truth = truths.xyxy[:, None]
    covered = intersection(own, truth) / area(own).clamp(min=1e-9)
    overlap = torch.where(truths.ignore[:, None], covered, iou(own, truth))
    index = truths.image_index[:, None].expand_as(overlap)
    return overlap.new_zeros(boxes_xyxy.shape[:2]).scatter_reduce(0, index, overlap, "amax")
