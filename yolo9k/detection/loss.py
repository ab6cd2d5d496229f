"""The loss of YOLOv2 and YOLO9000: box, objectness, class and image-label terms (Darknet `region_layer.c`).

Darknet writes the negative gradient of each raw value by hand. The terms are the functions with equal gradients:
squared errors (halved) for centre, size and objectness, cross entropy for labels, all summed over boxes.

Letters: B images, A anchors, H and W grid rows and columns, N ground-truth boxes, M image-level labels, K labels, D the
length of the longest path in the label tree.
"""

import torch
from torch import Tensor, nn

from yolo9k.boxes import cxcywh_to_xyxy, iou
from yolo9k.config.schema import LossConfig
from yolo9k.detection.assign import Assignment, GroundTruth, assign, last_of_each
from yolo9k.detection.codec import Codec, GridBoxes
from yolo9k.detection.head import Head
from yolo9k.samples import Batch
from yolo9k.wordtree.softmax import HierarchicalSoftmax

MIN_OBJECTNESS = 0.3  # YOLO9000 section 4: the box of an image-level label is assumed to have at least this IoU
LOSS_NAMES = ("box", "objectness", "classification", "image_label", "warmup")
WARMUP_SCALE = 0.01  # Darknet `region_layer.c`: weight of the anchor warm-up


class RegionLoss(nn.Module):
    """The losses of a batch by term, summed over images: `box`, `objectness`, `classification`.

    Also `image_label` if the batch has image-level labels, and `warmup` during the anchor warm-up. Divide by the batch
    size to get the loss of a step.
    """

    def __init__(self, codec: Codec, scores: HierarchicalSoftmax, options: LossConfig) -> None:
        super().__init__()
        self.codec, self.scores, self.options = codec, scores, options

    def forward(self, head: Head, features: Tensor, batch: Batch, seen: int) -> dict[str, Tensor]:
        """Return the losses of a batch; `seen`: number of training images so far, including those of this step."""
        geometry = head.geometry(features).float()
        boxes = self.codec.decode(geometry)
        targets = GroundTruth.of(batch, boxes)
        assignment = assign(
            targets, boxes, self.codec.anchors, ignore_iou=self.options.thresh, bias_match=self.options.bias_match
        )
        best_box = self._best_boxes(head, features, boxes, batch)
        assignment = assignment.with_image_labels(batch.labelled_image, best_box, self.options.image_labels)
        raw = geometry.permute(0, 1, 3, 4, 2).reshape(-1, 5)[assignment.flat_index]  # (N, 5)
        losses = {
            "box": self._box(raw, boxes, targets, assignment),
            "objectness": self._positive_objectness(raw, boxes, targets, assignment)
            + self._image_label_objectness(boxes, best_box)
            + self._background_objectness(boxes, assignment),
            "classification": self._classification(head, features, targets, assignment),
        }
        if len(batch.image_label):
            losses["image_label"] = self._image_label_classification(head, features, boxes, batch, best_box)
        if seen < self.options.anchor_warmup:
            losses["warmup"] = self._anchor_warmup(geometry, assignment)
        return losses

    # --- geometry

    def _box(self, raw: Tensor, boxes: GridBoxes, targets: GroundTruth, assignment: Assignment) -> Tensor:
        """Return the loss of centres and sizes; small boxes have a higher weight."""
        cxcywh, grid_wh = targets.cxcywh, raw.new_tensor([boxes.shape[3], boxes.shape[2]])
        target = self.codec.encode(cxcywh, assignment.positions[:, [3, 2]], assignment.positions[:, 1])
        predicted = torch.cat([self.codec.activate(raw[:, :2]), raw[:, 2:4]], dim=1)
        weight = self.options.coord_scale * (2 - (cxcywh[:, 2:] / grid_wh).prod(dim=1))
        return (0.5 * weight * (predicted - target).square().sum(dim=1))[assignment.active].sum()

    def _anchor_warmup(self, geometry: Tensor, assignment: Assignment) -> Tensor:
        """Return the loss that pulls boxes without ground truth to their anchor in the middle of the cell."""
        x, y, w, h, _ = geometry.unbind(2)
        x, y = (self.codec.activate(axis) - self.codec.centre for axis in (x, y))
        error = x.square() + y.square() + w.square() + h.square()
        return 0.5 * WARMUP_SCALE * (error * assignment.anchored).sum()

    # --- objectness

    def _positive_objectness(
        self, raw: Tensor, boxes: GridBoxes, targets: GroundTruth, assignment: Assignment
    ) -> Tensor:
        """Return the objectness loss of positives; the target is the IoU with the ground truth (`rescore`), or 1."""
        target = self._rescored(boxes, targets, assignment) if self.options.rescore else 1.0
        error = 0.5 * self.options.object_scale * (raw[:, 4].sigmoid() - target).square()
        return error[assignment.active].sum()

    @torch.no_grad()
    def _rescored(self, boxes: GridBoxes, targets: GroundTruth, assignment: Assignment) -> Tensor:
        """Return the IoU of each ground truth with its predicted box, (N,)."""
        return iou(cxcywh_to_xyxy(boxes.cxcywh(assignment.positions)), targets.xyxy)

    def _image_label_objectness(self, boxes: GridBoxes, best_box: Tensor) -> Tensor:
        """Return the loss that raises the objectness of the boxes of image-level labels to `MIN_OBJECTNESS`.

        0 in Darknet, which computes this term, but then overwrites it.
        """
        if self.options.image_labels == "darknet":
            return best_box.new_zeros((), dtype=torch.float32)
        missing = (MIN_OBJECTNESS - boxes.objectness.flatten()[best_box]).clamp(min=0)
        return 0.5 * self.options.object_scale * missing.square().sum()

    def _background_objectness(self, boxes: GridBoxes, assignment: Assignment) -> Tensor:
        """Return the loss that lowers the objectness of negatives to 0."""
        return 0.5 * self.options.noobject_scale * (boxes.objectness.square() * assignment.negative).sum()

    # --- classification

    def _classification(self, head: Head, features: Tensor, targets: GroundTruth, assignment: Assignment) -> Tensor:
        """Return the classification loss of positives."""
        if self.scores.kind == "logistic":
            rows = _learning_rows(assignment, assignment.active)
            logits = head.class_logits(features, assignment.positions[rows])
            labels = _multi_hot_labels(targets, assignment, logits.shape[1], rows)
            return self.options.class_scale * self.scores.loss_logistic(logits, labels)[assignment.active[rows]].sum()
        # If ground truths share a predicted box, the last one is kept per sibling group: groups that only an earlier
        # path visits are still learnt.
        on_path = self.scores.on_path[targets.label]
        group = self.scores.group[self.scores.path[targets.label]]
        key = assignment.flat_index[:, None] * self.scores.num_groups + group
        active = last_of_each(key, on_path & ~targets.ignore[:, None])
        rows = _learning_rows(assignment, active.any(dim=1))
        losses = self._path_losses(head, features, assignment.positions[rows], targets.label[rows])
        return self.options.class_scale * torch.where(active[rows], losses, 0.0).sum()

    def _path_losses(self, head: Head, features: Tensor, positions: Tensor, label: Tensor) -> Tensor:
        """Return the losses (N, D) of labels (N,) at predicted boxes (N, 4), per sibling group on the label's path.

        Reads only the weights of these groups, unless all weights of the head are fewer.
        """
        rows = self.scores.path_group_nodes(label)
        if rows is not None and rows.numel() < len(self.codec.anchors) * self.scores.num_nodes:
            return self.scores.path_losses(head.class_logits(features, positions, rows), label)
        return self.scores.path_losses(self.scores.gather_path(head.class_logits(features, positions), label), label)

    # --- image-level labels

    @torch.no_grad()
    def _best_boxes(self, head: Head, features: Tensor, boxes: GridBoxes, batch: Batch) -> Tensor:
        """Return the predicted box that learns each image-level label: (M,) indices into the flattened (B, A, H, W).

        The box with the highest objectness or, if `image_label_box` is `fit`, the highest objectness x P(label); the
        first if equal.
        """
        image, label = batch.labelled_image, batch.image_label
        if not len(image):
            return image
        score = boxes.objectness[image]
        if self.options.image_label_box == "fit":
            rows = self.scores.path_group_nodes(label)
            logits = head.class_maps(features, image, rows).movedim(2, 1)  # (M, R, A, H, W)
            score = score * (-self.scores.path_losses(logits, label).sum(1)).exp()
        return image * boxes.objectness[0].numel() + score.flatten(1).argmax(1)

    def _image_label_classification(
        self, head: Head, features: Tensor, boxes: GridBoxes, batch: Batch, best_box: Tensor
    ) -> Tensor:
        """Return the classification loss of image-level labels at their boxes."""
        positions = torch.stack(torch.unravel_index(best_box, boxes.shape), dim=1)
        return self.options.class_scale * self._path_losses(head, features, positions, batch.image_label).sum()


def _learning_rows(assignment: Assignment, active: Tensor) -> Tensor | slice:
    """Return which ground truths need class logits: all, or the active ones if there are more than predicted boxes.

    With that many, most share their predicted box with a later one; choosing fewer would cost a GPU synchronisation.
    """
    return slice(None) if len(active) <= assignment.positive.numel() else active


def _multi_hot_labels(targets: GroundTruth, assignment: Assignment, num_labels: int, rows: Tensor | slice) -> Tensor:
    """Return 0 or 1 per label, (n, K), of some rows: the labels of all ground truths with their predicted box."""
    order = assignment.flat_index.argsort(stable=True)
    ordered = assignment.flat_index[order]
    box = torch.zeros_like(order)  # of each row: which of the predicted boxes that occur
    box[order[1:]] = (ordered[1:] != ordered[:-1]).cumsum(0)
    labels = torch.zeros(min(len(box), assignment.positive.numel()), num_labels, device=box.device)
    labels.index_put_((box, targets.label), (~targets.ignore).float(), accumulate=True)
    return labels.clamp(max=1)[box[rows]]
