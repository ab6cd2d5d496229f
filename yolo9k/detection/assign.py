"""Assign ground truth to predicted boxes (Darknet `region_layer.c: forward_region_layer`).

Letters: B images, A anchors, H and W grid rows and columns, N ground-truth boxes, M image-level labels.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from yolo9k.boxes import area, intersection, iou, shape_iou, xyxy_to_cxcywh
from yolo9k.detection.codec import GridBoxes
from yolo9k.samples import Batch

MAX_PAIRS = 1 << 21  # of ground truth and predicted boxes in memory at once; ordinary batches have fewer


@dataclass(frozen=True)
class GroundTruth:
    """Box labels in cells: `image_index` (N,), `xyxy` (N, 4), `label` (N,), `ignore` (N,) bool."""

    image_index: Tensor
    xyxy: Tensor
    label: Tensor
    ignore: Tensor

    @classmethod
    def of(cls, batch: Batch, boxes: GridBoxes) -> "GroundTruth":
        """Convert the box labels of a batch from pixels to cells of the map of `boxes`."""
        xyxy_grid = batch.xyxy / boxes.pixels_per_cell(batch.size_wh)
        return cls(batch.image_index, xyxy_grid, batch.label, batch.ignore)

    @property
    def cxcywh(self) -> Tensor:
        """Return centres and sizes, (N, 4)."""
        return xyxy_to_cxcywh(self.xyxy)


@dataclass(frozen=True)
class Assignment:
    """Which predicted box learns which ground truth, and the role of each predicted box in the loss.

    One row per ground truth:
    `positions` (N, 4): image, anchor, row, column; `flat_index` (N,): the same as an index into the flattened
    (B, A, H, W); `active` (N,) bool: false for ignored ground truth, and if a later row has the same predicted box.

    Masks over predicted boxes, (B, A, H, W) bool; each box is positive, ignored or negative:
    `positive`: learns a ground truth; `ignored`: no objectness loss; `negative`: background.
    `anchored`: pulled to its anchor during the anchor warm-up.
    """

    positions: Tensor
    flat_index: Tensor
    active: Tensor
    positive: Tensor
    ignored: Tensor
    negative: Tensor
    anchored: Tensor

    def with_image_labels(
        self, labelled_image: Tensor, best_box: Tensor, mode: Literal["paper", "darknet"]
    ) -> "Assignment":
        """Return the assignment with the masks of images that have an image-level label instead of boxes.

        `labelled_image` (M,): image indices; `best_box` (M,): index of the box that learns the label, into the
        flattened (B, A, H, W). It is ignored: the label has its own loss. `mode`: all other boxes are ignored in the
        paper, because nobody labelled where the objects are, and negative in Darknet. None of them is anchored.
        """
        negative, anchored = self.negative.clone(), self.anchored.clone()
        negative[labelled_image] = mode == "darknet"
        negative.view(-1)[best_box] = False
        anchored[labelled_image] = False
        return replace(self, ignored=~(self.positive | negative), negative=negative, anchored=anchored)


@torch.no_grad()
def assign(
    targets: GroundTruth, boxes: GridBoxes, anchors: Tensor, *, ignore_iou: float, bias_match: bool = True
) -> Assignment:
    """Assign each ground truth to the cell of its centre and the anchor with the highest shape IoU (first if equal).

    `boxes`: predicted boxes; `anchors` (A, 2) in cells; `bias_match`: if false, compare the shapes of the predicted
    boxes instead of the anchors (Darknet's `bias_match=0`). If several ground truths share a predicted box, the last
    one is kept. A predicted box is negative unless it is positive or its overlap with a ground truth is above
    `ignore_iou` (see `max_overlap`).
    """
    _, num_anchors, rows, columns = boxes.shape
    cxcywh = targets.cxcywh
    column = cxcywh[:, 0].long().clamp(0, columns - 1)  # a centre on the right or bottom border: the last cell
    row = cxcywh[:, 1].long().clamp(0, rows - 1)
    image = targets.image_index
    shapes = anchors[None] if bias_match else torch.stack([boxes.w, boxes.h], dim=-1)[image, :, row, column]
    anchor = shape_iou(cxcywh[:, None, 2:], shapes).argmax(dim=1)
    flat_index = ((image * num_anchors + anchor) * rows + row) * columns + column
    active = last_of_each(flat_index, ~targets.ignore)
    positive = _mask(flat_index, active, boxes.shape)
    ignored = (max_overlap(targets, boxes.xyxy()) > ignore_iou).view(boxes.shape) & ~positive
    return Assignment(
        positions=torch.stack([image, anchor, row, column], dim=1),
        flat_index=flat_index,
        active=active,
        positive=positive,
        ignored=ignored,
        negative=~(positive | ignored),
        anchored=~positive,
    )


def last_of_each(key: Tensor, active: Tensor) -> Tensor:
    """Return whether no later active entry has the same key, in the shape of `key`; inactive entries: false.

    Deterministic on every device.
    """
    eligible = active.flatten()
    unique_keys = -1 - torch.arange(len(eligible), device=key.device)  # so that inactive entries hide no active ones
    keys = torch.where(eligible, key.flatten(), unique_keys)
    order = keys.argsort(stable=True)
    sorted_keys = keys[order]
    is_last = torch.ones_like(eligible)
    is_last[:-1] = sorted_keys[1:] != sorted_keys[:-1]
    last = torch.zeros_like(eligible)
    last[order] = is_last
    return (last & eligible).view(key.shape)


def max_overlap(targets: GroundTruth, boxes_xyxy: Tensor) -> Tensor:
    """Return the highest overlap of each predicted box with the ground truth of its image: (B, P, 4) cells to (B, P).

    The overlap is the IoU; with an ignored ground truth, it is the fraction of the predicted box inside, as in
    pycocotools, because a crowd box may cover many objects. At most `MAX_PAIRS` pairs are compared at once.
    """
    dtype = torch.promote_types(boxes_xyxy.dtype, targets.xyxy.dtype)
    highest = boxes_xyxy.new_zeros(boxes_xyxy.shape[:2], dtype=dtype)
    size = max(1, MAX_PAIRS // max(1, boxes_xyxy.shape[1]))
    for part in torch.arange(len(targets.label), device=boxes_xyxy.device).split(size):
        image_index, target = targets.image_index[part], targets.xyxy[part, None]
        boxes = boxes_xyxy[image_index]  # (n, P, 4)
        fraction_inside = intersection(boxes, target) / area(boxes).clamp(min=1e-9)
        overlap = torch.where(targets.ignore[part, None], fraction_inside, iou(boxes, target))
        highest = highest.scatter_reduce(0, image_index[:, None].expand_as(overlap), overlap, "amax")
    return highest


def _mask(flat_index: Tensor, active: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Return a bool mask of shape (B, A, H, W), true at the indices of active rows."""
    mask = torch.zeros(shape, dtype=torch.int64, device=flat_index.device).flatten()
    return mask.scatter_reduce(0, flat_index, active.long(), "amax").bool().view(shape)
