"""The region loss: Darknet's deltas as an ordinary differentiable loss (`region_layer.c`; gradients are equal).

Darknet writes the negative gradient of each number by hand; the scalar below is the function it belongs to:
squared errors (halved) for centre, size and objectness, cross entropy for the label, all summed over boxes.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from yolo9k.boxes import cxcywh_to_xyxy, iou
from yolo9k.config.schema import LossConfig
from yolo9k.detection.assign import Assignment, GroundTruth, assign, best_overlap, last_of_each
from yolo9k.detection.codec import Codec, GridBoxes
from yolo9k.samples import Batch
from yolo9k.wordtree.softmax import HierarchicalSoftmax

MIN_OBJECTNESS = 0.3  # YOLO9000 section 4: an image's label is assumed to overlap its box by so much
WARMUP_SCALE = 0.01  # Darknet `region_layer.c`: how hard unmatched boxes are pulled to their anchors at first


class Head(Protocol):
    """What the loss asks of the anchor head."""

    def geometry(self, features: Tensor) -> Tensor:
        """Raw x, y, w, h, objectness of every box: (B, A, 5, H, W)."""

    def class_logits(self, features: Tensor, positions: Tensor, nodes: Tensor | None = None) -> Tensor:
        """Class logits at chosen boxes: (M, Q)."""

    def class_maps(self, features: Tensor, images: Tensor, nodes: Tensor | None) -> Tensor:
        """Class logits at all boxes of chosen images: (M, A, Q, H, W)."""


class RegionLoss(nn.Module):
    """Sums of the losses of a batch, by part: `box`, `objectness`, `classification`, and `warmup` while it lasts.

    Divide by the number of images of an update.
    """

    def __init__(self, codec: Codec, scores: HierarchicalSoftmax, options: LossConfig) -> None:
        super().__init__()
        self.codec, self.scores, self.options = codec, scores, options

    def forward(self, head: Head, features: Tensor, batch: Batch, seen: int) -> dict[str, Tensor]:
        """The losses of one batch; `seen` counts the images of the run, this update's included."""
        geometry = head.geometry(features).float()
        boxes = self.codec.decode(geometry)
        rows, columns = geometry.shape[-2:]
        cell_wh = torch.tensor([batch.size_wh[0] / columns, batch.size_wh[1] / rows] * 2, device=geometry.device)
        truths = GroundTruth(batch.image_index, batch.xyxy / cell_wh, batch.label, batch.ignore)
        with torch.no_grad():
            predicted_wh = None if self.options.bias_match else torch.stack([boxes.w, boxes.h], dim=-1)
            shape = (geometry.shape[0], geometry.shape[1], geometry.shape[3], geometry.shape[4])
            chosen = assign(truths, self.codec.anchors, predicted_wh, shape)
            matched = _mask(chosen, shape)
            spared = (best_overlap(truths, boxes.xyxy()) > self.options.thresh).view(shape)
        raw = geometry.permute(0, 1, 3, 4, 2).reshape(-1, 5)[chosen.flat]  # (N, 5)
        grid_wh = torch.tensor([shape[3], shape[2]], device=raw.device, dtype=raw.dtype)
        losses = {
            "box": self._box(raw, truths, chosen, grid_wh),
            "objectness": self._objectness(raw, boxes, truths, chosen),
            "classification": self._classification(head, features, truths, chosen),
        }
        background = ~(matched | spared)
        if len(batch.image_label):
            flat, losses["image_label"] = self._image_labels(head, features, boxes, batch)
            losses["objectness"] = losses["objectness"] + self._raised(boxes, flat)
            background = self._background_with_image_labels(background, batch.labelled_image, flat)
            matched[batch.labelled_image] = True  # none of their boxes is pulled to its anchor
        nothing = 0.5 * self.options.noobject_scale * (boxes.objectness.square() * background).sum()
        losses["objectness"] = losses["objectness"] + nothing
        if seen < self.options.anchor_warmup:
            losses["warmup"] = self._warmup(geometry, ~matched)
        return losses

    def _box(self, raw: Tensor, truths: GroundTruth, chosen: Assignment, grid_wh: Tensor) -> Tensor:
        cxcywh = truths.cxcywh
        target = self.codec.encode(cxcywh, chosen.positions[:, [3, 2]], chosen.positions[:, 1])
        found = torch.cat([self.codec.activate(raw[:, :2]), raw[:, 2:4]], dim=1)
        weight = self.options.coord_scale * (2 - (cxcywh[:, 2:] / grid_wh).prod(dim=1))  # small boxes weigh more
        return (0.5 * weight * (found - target).square().sum(dim=1))[chosen.active].sum()

    def _warmup(self, geometry: Tensor, unmatched: Tensor) -> Tensor:
        """Pulls boxes without a truth to their anchor at the centre of the cell."""
        x, y, w, h, _ = geometry.unbind(2)
        x, y = (self.codec.activate(axis) - self.codec.centre for axis in (x, y))
        return 0.5 * WARMUP_SCALE * ((x.square() + y.square() + w.square() + h.square()) * unmatched).sum()

    def _objectness(self, raw: Tensor, boxes: GridBoxes, truths: GroundTruth, chosen: Assignment) -> Tensor:
        target = self._rescored(boxes, truths, chosen) if self.options.rescore else 1.0
        error = 0.5 * self.options.object_scale * (raw[:, 4].sigmoid() - target).square()
        return error[chosen.active].sum()

    @torch.no_grad()
    def _rescored(self, boxes: GridBoxes, truths: GroundTruth, chosen: Assignment) -> Tensor:
        """(N,) the IoU of each truth with the box predicted for it."""
        fields = (boxes.cx, boxes.cy, boxes.w, boxes.h)
        own = torch.stack([field.flatten()[chosen.flat] for field in fields], dim=1)
        return iou(cxcywh_to_xyxy(own), truths.xyxy)

    def _classification(self, head: Head, features: Tensor, truths: GroundTruth, chosen: Assignment) -> Tensor:
        if self.scores.kind == "logistic":
            logits = head.class_logits(features, chosen.positions)
            loss = self.scores.loss_logistic(logits, _labels_of_box(truths, chosen, logits.shape[1]))
            return self.options.class_scale * loss[chosen.active].sum()
        # Of two truths in one box the later wins, group by group: where their paths part, both are learnt.
        losses = self._path_losses(head, features, chosen.positions, truths.label)
        on_path = self.scores.on_path[truths.label]
        group = self.scores.group[self.scores.path[truths.label]]
        key = chosen.flat[:, None] * self.scores.num_groups + group
        counts = last_of_each(key, on_path & ~truths.ignore[:, None])
        return self.options.class_scale * torch.where(counts, losses, 0.0).sum()

    def _path_losses(self, head: Head, features: Tensor, positions: Tensor, label: Tensor) -> Tensor:
        """(N, D) losses of the labels of boxes; of the head's weights, only the rows of their paths are read.

        So many boxes that all rows are fewer read them all.
        """
        rows = self.scores.path_rows(label)
        if rows is not None and rows.numel() < len(self.codec.anchors) * self.scores.num_nodes:
            return self.scores.path_losses(head.class_logits(features, positions, rows), label)
        return self.scores.path_losses(self.scores.gather_path(head.class_logits(features, positions), label), label)

    # --- images with a label and no box

    def _image_labels(self, head: Head, features: Tensor, boxes: GridBoxes, batch: Batch) -> tuple[Tensor, Tensor]:
        """(M,) the box that fits each label best, as a flat index, and the loss of the labels at these boxes."""
        flat = self._best_boxes(head, features, boxes, batch)
        positions = torch.stack(torch.unravel_index(flat, boxes.objectness.shape), dim=1)
        losses = self._path_losses(head, features, positions, batch.image_label)
        return flat, self.options.class_scale * losses.sum()

    @torch.no_grad()
    def _best_boxes(self, head: Head, features: Tensor, boxes: GridBoxes, batch: Batch) -> Tensor:
        """The box of each image that fits its label best: flat indices; the first wins a tie."""
        image, label = batch.labelled_image, batch.image_label
        fit = boxes.objectness[image]
        if self.options.image_label_box == "fit":
            logits = head.class_maps(features, image, self.scores.path_rows(label)).movedim(2, 1)  # (M, R, A, H, W)
            fit = fit * (-self.scores.path_losses(logits, label).sum(1)).exp()
        return image * boxes.objectness[0].numel() + fit.flatten(1).argmax(1)

    def _raised(self, boxes: GridBoxes, flat: Tensor) -> Tensor:
        """What keeps the objectness of the chosen boxes from falling below .3; Darknet computes it and drops it."""
        if self.options.image_labels == "darknet":
            return flat.new_zeros((), dtype=torch.float32)
        missing = (MIN_OBJECTNESS - boxes.objectness.flatten()[flat]).clamp(min=0)
        return 0.5 * self.options.object_scale * missing.square().sum()

    def _background_with_image_labels(self, background: Tensor, image: Tensor, flat: Tensor) -> Tensor:
        """Paper: nothing in these images is background, for nobody boxed what is there. Darknet: all but one box."""
        changed = background.clone()
        changed[image] = self.options.image_labels == "darknet"
        changed.view(-1)[flat] = False
        return changed


def _mask(chosen: Assignment, shape: tuple[int, int, int, int]) -> Tensor:
    """(B, A, H, W) bool: boxes that answer for a truth."""
    mask = torch.zeros(shape, dtype=torch.int64, device=chosen.flat.device).flatten()
    return mask.scatter_reduce(0, chosen.flat, chosen.active.long(), "amax").bool().view(shape)


def _labels_of_box(truths: GroundTruth, chosen: Assignment, num_labels: int) -> Tensor:
    """(N, K) of 0 and 1: the labels of all truths that fell into the same box."""
    same_box = (chosen.flat[:, None] == chosen.flat[None]) & ~truths.ignore[None]  # (N, N)
    one_hot = nn.functional.one_hot(truths.label, num_labels).float()
    return (same_box.float() @ one_hot).clamp(max=1)
