"""The region layer (Darknet `region_layer.c`): activation, loss and detections of a raw map, as a cfg says."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from yolo9k.boxes import cxcywh_to_xyxy
from yolo9k.config.schema import LossConfig
from yolo9k.darknet.cfg import Section
from yolo9k.darknet.images import correct_boxes
from yolo9k.detection.codec import Codec
from yolo9k.detection.loss import RegionLoss
from yolo9k.detection.postprocess import keep
from yolo9k.errors import DataError
from yolo9k.models.head import RawMap
from yolo9k.samples import Batch
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

WARMUP_IMAGES = 12_800  # `region_layer.c`: while fewer were seen, boxes are pulled to their anchors
SLOTS_END, IMAGE_LABEL = 0.0, 100_000.0  # x of the slot after the last truth; above: an image with a label only
UNSET_ANCHOR = 0.5  # cells, where the cfg says none
MAX_CLASSES = 1 << 20


class Region:
    """A `[region]` section: `anchors` (A, 2) in cells, `classes`, `kind` of scores, and options of the `loss`.

    Raises `WeightsError` with the line for what is out of range or not supported.
    """

    def __init__(self, section: Section) -> None:
        self.section = section
        self.classes = section.integer("classes", 20, least=1, most=MAX_CLASSES)
        num = section.integer("num", 1, least=1, most=1024)
        for key, only in (("coords", 4), ("background", 0)):
            if section.get(key, only) != only:
                raise section.error(key, f"is not supported; only {only} is")
        self.anchors = self._anchors(num)
        has_softmax = bool(section.get("softmax", 0)) or "tree" in section.values
        self.kind: Literal["softmax", "logistic"] = "softmax" if has_softmax else "logistic"
        self.loss = LossConfig(
            object_scale=self._scale("object_scale"),
            noobject_scale=self._scale("noobject_scale"),
            class_scale=self._scale("class_scale"),
            coord_scale=self._scale("coord_scale"),
            thresh=self._thresh(),
            rescore=bool(section.get("rescore", 0)),
            bias_match=bool(section.get("bias_match", 0)),
            anchor_warmup=WARMUP_IMAGES,
            image_labels="darknet",
            image_label_box="fit",
        )

    def _anchors(self, num: int) -> Tensor:
        written = self.section.get("anchors", (UNSET_ANCHOR,) * 2 * num)
        if len(written) != 2 * num:
            raise self.section.error("anchors", f"{len(written)} numbers; num={num} needs {2 * num}, width and height")
        if min(written) <= 0:
            raise self.section.error("anchors", f"must be above 0, not {min(written):g}")
        return torch.tensor(written, dtype=torch.float32, device="cpu").view(num, 2)

    def _scale(self, key: str) -> float:
        value = float(self.section.get(key, 1.0))
        if value < 0:
            raise self.section.error(key, f"must be 0 or more, not {value:g}")
        return value

    def _thresh(self) -> float:
        value = float(self.section.get("thresh", 0.5))
        if not 0 <= value <= 1:
            raise self.section.error("thresh", f"must be from 0 to 1, not {value:g}")
        return value

    def scores(self, labels: WordTree | None) -> HierarchicalSoftmax:
        """How the class part becomes probabilities. Raises `WeightsError` where the tree that it needs is not here."""
        if "tree" in self.section.values:
            if labels is None:
                raise self.section.error("tree", f"{self.section.values['tree']} is not here; say where the tree is")
            return HierarchicalSoftmax(labels)
        return HierarchicalSoftmax(WordTree.flat([str(k) for k in range(self.classes)]), self.kind)

    def by_anchor(self, raw: Tensor) -> Tensor:
        """(B, A * (5 + K), H, W), or what is shaped so already, to (B, A, 5 + K, H, W)."""
        return raw if raw.dim() == 5 else raw.unflatten(1, (len(self.anchors), 5 + self.classes))

    def activate(self, raw: Tensor, scores: HierarchicalSoftmax) -> Tensor:
        """The layer's output, shaped as its input: sigmoid of x, y, objectness; probabilities inside sibling groups."""
        parts = self.by_anchor(raw)
        xy, wh, objectness, classes = parts.split([2, 2, 1, self.classes], dim=2)
        rows = classes.movedim(2, -1).reshape(-1, self.classes)
        probability = scores.conditional(rows).exp().view(classes.movedim(2, -1).shape).movedim(-1, 2)
        return torch.cat([xy.sigmoid(), wh, objectness.sigmoid(), probability], dim=2).view(raw.shape)


class DarknetLoss:
    """The loss of a region section, on Darknet's own truths; its negative gradient is Darknet's delta.

    `map`: the node of each class of the truths (`map=` in the cfg).
    """

    def __init__(self, region: Region, scores: HierarchicalSoftmax, map: Sequence[int] | None = None) -> None:
        self.region, self.scores, self.map = region, scores, map
        self.head = RawMap(len(region.anchors), region.classes)
        self.loss = RegionLoss(Codec(region.anchors), scores, region.loss)

    def __call__(self, raw: Tensor, truths: Tensor, seen: int = WARMUP_IMAGES) -> Tensor:
        """The loss of a batch, summed over images and boxes.

        `raw` (B, A * (5 + K), H, W) or (B, A, 5 + K, H, W); `truths` (B, T, 5): x, y, w, h relative to the input,
        and class; a slot with x = 0 ends an image's list, one with x and y above 100,000 labels the whole image.
        `seen`: images seen so far, these included. Raises `DataError` for a class that the network does not have.
        """
        flat = raw.flatten(1, 2) if raw.dim() == 5 else raw
        batch = self.batch(flat, truths)
        losses = self.loss.to(raw.device)(self.head, flat, batch, seen)
        return torch.stack(list(losses.values())).sum()

    def batch(self, images: Tensor, truths: Tensor) -> Batch:
        """Images (B, C, H, W) and Darknet's truths as a batch, boxes in pixels of the images."""
        slots = torch.as_tensor(truths, dtype=torch.float32, device=images.device)
        listed = (slots[..., 0] != SLOTS_END).cumprod(dim=1).bool()  # (B, T)
        whole = listed & (slots[..., 0] > IMAGE_LABEL) & (slots[..., 1] > IMAGE_LABEL)
        labelled = whole.any(dim=1)
        first = whole.int().argmax(dim=1)
        image_label = slots[torch.arange(len(slots), device=images.device), first, 4].long()[labelled]
        image_index, slot = (listed & ~labelled[:, None]).nonzero().unbind(1)
        boxes = slots[image_index, slot]
        size = torch.tensor([images.shape[-1], images.shape[-2]] * 2, device=images.device)
        # x * W is Darknet's float32; corners in double give the same centre back, also on the border of two cells
        cxcywh = (boxes[:, :4] * size).double()
        label = boxes[:, 4].long()
        if self.map is not None:
            label = self._mapped(label)
        classes = self.region.classes
        _check_range(torch.cat([label, image_label]), classes, f"the network has {classes} classes")
        return Batch(
            images=images,
            image_index=image_index,
            xyxy=cxcywh_to_xyxy(cxcywh),
            label=label,
            ignore=torch.zeros_like(label, dtype=torch.bool),
            labelled_image=labelled.nonzero().flatten(),
            image_label=image_label,
        )

    def _mapped(self, label: Tensor) -> Tensor:
        assert self.map is not None
        _check_range(label, len(self.map), f"the map has {len(self.map)} entries")
        return torch.tensor(self.map, device=label.device)[label]


def _check_range(label: Tensor, below: int, what: str) -> None:
    outside = label[(label < 0) | (label >= below)]
    if len(outside):
        raise DataError(f"class {int(outside[0])}: {what}")


@dataclass(frozen=True)
class DarknetDetections:
    """What Darknet's `get_network_boxes` gives: all boxes of a map, those below the threshold with zeros.

    `boxes` (N, 4) centre and size, in the order anchor, row, column; `objectness` (N,); `prob` (N, K), or (N, M) with
    a map of M entries.
    """

    boxes: Tensor
    objectness: Tensor
    prob: Tensor


def detect_boxes(
    region: Region,
    scores: HierarchicalSoftmax,
    raw: Tensor,
    image_wh: tuple[int, int],
    net_wh: tuple[int, int],
    *,
    thresh: float = 0.5,
    hier: float = 0.5,
    map: Sequence[int] | None = None,
    relative: bool = True,
    descent: Literal["darknet", "paper"] = "darknet",
) -> DarknetDetections:
    """The boxes of one image (`region_layer.c: get_region_detections`).

    `raw` (A * (5 + K), H, W) or (A, 5 + K, H, W), the input of the region; `image_wh` of the image before it was
    letterboxed to `net_wh`. Boxes are relative to the image, or in its pixels. `hier`: threshold of the descent
    through a tree, on absolute probabilities as in Darknet, or on conditional ones as in the paper. Without a map a
    tree's score is the objectness alone.
    """
    parts = raw.reshape(1, len(region.anchors), 5 + region.classes, *raw.shape[-2:]).float()
    boxes = Codec(region.anchors.to(raw.device)).decode(parts[:, :, :5])
    rows, columns = parts.shape[-2:]
    fields = (boxes.cx / columns, boxes.cy / rows, boxes.w / columns, boxes.h / rows)
    cxcywh = torch.stack([field.flatten() for field in fields], dim=1)
    objectness = boxes.objectness.flatten()
    logits = parts[:, :, 5:].movedim(2, -1).reshape(-1, region.classes)
    scale = torch.where(objectness > thresh, objectness, 0.0)
    if "tree" not in region.section.values:
        prob = scale[:, None] * scores.conditional(logits).exp()
    elif map is None:
        rule = scores.absolute if descent == "darknet" else scores.conditional
        node = scores.descend(rule(logits).exp(), hier)
        prob = torch.zeros_like(logits).scatter_(1, node[:, None], scale[:, None])
    else:
        absolute = scores.absolute(logits).exp()
        prob = objectness[:, None] * absolute[:, torch.tensor(map, device=raw.device)]
    prob = torch.where(prob > thresh, prob, 0.0)
    return DarknetDetections(correct_boxes(cxcywh, image_wh, net_wh, relative=relative), scale, prob)


def nms_sort(found: DarknetDetections, iou: float) -> DarknetDetections:
    """Class by class, boxes that overlap a better one by more than `iou` lose that class (`box.c: do_nms_sort`)."""
    box, label = ((found.prob > 0) & (found.objectness > 0)[:, None]).nonzero().unbind(1)
    kept = keep(cxcywh_to_xyxy(found.boxes[box]), found.prob[box, label], label, iou)
    prob = torch.zeros_like(found.prob)
    prob[box[kept], label[kept]] = found.prob[box[kept], label[kept]]
    return replace(found, prob=torch.where((found.objectness > 0)[:, None], prob, found.prob))


def nms_obj(found: DarknetDetections, iou: float) -> DarknetDetections:
    """Boxes that overlap one of higher objectness by more than `iou` lose all (`box.c: do_nms_obj`)."""
    (box,) = (found.objectness > 0).nonzero(as_tuple=True)
    kept = box[keep(cxcywh_to_xyxy(found.boxes[box]), found.objectness[box], torch.zeros_like(box), iou)]
    survives = torch.zeros_like(found.objectness, dtype=torch.bool)
    survives[kept] = True
    survives |= found.objectness == 0  # which takes no part
    return replace(
        found,
        objectness=torch.where(survives, found.objectness, 0.0),
        prob=torch.where(survives[:, None], found.prob, 0.0),
    )
