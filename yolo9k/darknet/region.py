"""The region layer: activation and detections as configured by a cfg (Darknet `region_layer.c`, `box.c`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from yolo9k.boxes import cxcywh_to_xyxy
from yolo9k.config.schema import LossConfig
from yolo9k.darknet.cfg import Section
from yolo9k.darknet.images import correct_boxes
from yolo9k.detection.codec import Codec
from yolo9k.detection.postprocess import nms
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

WARMUP_IMAGES = 12_800  # `forward_region_layer`: for the first images, all boxes are pulled to their anchors
DEFAULT_ANCHOR = 0.5  # cells, if the cfg has no anchors (`make_region_layer`)
MAX_CLASSES = 1 << 20


class Region:
    """A parsed `[region]` section (`parser.c: parse_region`).

    `anchors`: (A, 2) in cells. `classes`: number of classes. `class_activation`: "softmax" or "logistic". Raises
    `WeightsError` with the line if an option is out of range or not supported.
    """

    def __init__(self, section: Section) -> None:
        self.section = section
        self.classes = section.integer("classes", 20, minimum=1, maximum=MAX_CLASSES)
        num = section.integer("num", 1, minimum=1, maximum=1024)
        for key, supported in (("coords", 4), ("background", 0)):
            if section.get(key, supported) != supported:
                raise section.error(key, f"not supported; must be {supported}")
        self.anchors = self._anchors(num)
        has_softmax = bool(section.get("softmax", 0)) or "tree" in section.values
        self.class_activation: Literal["softmax", "logistic"] = "softmax" if has_softmax else "logistic"

    @cached_property
    def loss(self) -> LossConfig:
        """The options of the loss. Raises `WeightsError` with the line if one is out of range."""
        return LossConfig(
            object_scale=self._scale("object_scale"),
            noobject_scale=self._scale("noobject_scale"),
            class_scale=self._scale("class_scale"),
            coord_scale=self._scale("coord_scale"),
            thresh=self._thresh(),
            rescore=bool(self.section.get("rescore", 0)),
            bias_match=bool(self.section.get("bias_match", 0)),
            anchor_warmup=WARMUP_IMAGES,
            image_labels="darknet",
            image_label_box="fit",
        )

    def _anchors(self, num: int) -> Tensor:
        anchors = self.section.get("anchors", (DEFAULT_ANCHOR,) * 2 * num)
        if len(anchors) != 2 * num:
            raise self.section.error(
                "anchors", f"{len(anchors)} numbers; num={num} requires {2 * num}, a width and height each"
            )
        if min(anchors) <= 0:
            raise self.section.error("anchors", "must be above 0")
        return torch.tensor(anchors, dtype=torch.float32, device="cpu").view(num, 2)

    def _scale(self, key: str) -> float:
        value = float(self.section.get(key, 1.0))
        if value < 0:
            raise self.section.error(key, "must be at least 0")
        return value

    def _thresh(self) -> float:
        value = float(self.section.get("thresh", 0.5))
        if not 0 <= value <= 1:
            raise self.section.error("thresh", "must be between 0 and 1")
        return value

    def scores(self, labels: WordTree | None) -> HierarchicalSoftmax:
        """Return the module that converts class logits to probabilities.

        `labels`: required for a region with `tree=`, else `WeightsError`; otherwise unused.
        """
        if "tree" in self.section.values:
            if labels is None:
                raise self.section.error("tree", "file not found; pass the path of the label tree")
            return HierarchicalSoftmax(labels)
        return HierarchicalSoftmax(WordTree.flat([str(k) for k in range(self.classes)]), self.class_activation)

    def split_anchors(self, raw: Tensor) -> Tensor:
        """Reshape (B, A * (5 + K), H, W) to (B, A, 5 + K, H, W); the latter is returned unchanged."""
        return raw if raw.dim() == 5 else raw.unflatten(1, (len(self.anchors), 5 + self.classes))

    def activate(self, raw: Tensor, scores: HierarchicalSoftmax) -> Tensor:
        """Compute the layer's output, in the shape of its input (`forward_region_layer`).

        Sigmoid of x, y and objectness; w and h unchanged; class probabilities, conditional ones over a tree.
        """
        parts = self.split_anchors(raw)
        xy, wh, objectness, logits = parts.split([2, 2, 1, self.classes], dim=2)
        rows = logits.movedim(2, -1)
        probability = scores.conditional(rows.reshape(-1, self.classes)).exp().view(rows.shape).movedim(-1, 2)
        return torch.cat([xy.sigmoid(), wh, objectness.sigmoid(), probability], dim=2).view(raw.shape)


@dataclass(frozen=True)
class DarknetDetections:
    """All boxes of a feature map, as Darknet's `get_network_boxes` returns them: values below the threshold are 0.

    `boxes` (N, 4): centre and size, in the order anchor, row, column. `objectness` (N,). `prob` (N, K), or (N, M) with
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
    """Decode the boxes of one image (`get_region_detections`).

    `raw`: the input of the region, (A * (5 + K), H, W) or (A, 5 + K, H, W). `image_wh`: size of the image before it was
    letterboxed to `net_wh`. `thresh`: minimum objectness and score. `hier`: threshold of the descent through a tree;
    `descent`: "darknet" compares it with absolute probabilities, "paper" with conditional ones. `map`: the nodes to
    score; `None`: the score of a tree detection is its objectness alone. `relative`: boxes relative to the image, else
    in its pixels.
    """
    parts = raw.reshape(1, len(region.anchors), 5 + region.classes, *raw.shape[-2:]).float()
    boxes = Codec(region.anchors.to(raw.device)).decode(parts[:, :, :5])
    rows, columns = parts.shape[-2:]
    fields = (boxes.cx / columns, boxes.cy / rows, boxes.w / columns, boxes.h / rows)
    cxcywh = torch.stack([field.flatten() for field in fields], dim=1)
    objectness = boxes.objectness.flatten()
    logits = parts[:, :, 5:].movedim(2, -1).reshape(-1, region.classes)
    kept_objectness = torch.where(objectness > thresh, objectness, 0.0)
    if "tree" not in region.section.values:
        prob = kept_objectness[:, None] * scores.conditional(logits).exp()
    elif map is None:
        log_probability = scores.absolute(logits) if descent == "darknet" else scores.conditional(logits)
        node = scores.descend(log_probability.exp(), hier)
        prob = torch.zeros_like(logits).scatter_(1, node[:, None], kept_objectness[:, None])
    else:
        absolute = scores.absolute(logits).exp()
        prob = objectness[:, None] * absolute[:, torch.tensor(map, device=raw.device)]
    prob = torch.where(prob > thresh, prob, 0.0)
    return DarknetDetections(correct_boxes(cxcywh, image_wh, net_wh, relative=relative), kept_objectness, prob)


def nms_sort(detections: DarknetDetections, iou: float) -> DarknetDetections:
    """Suppress, per class, boxes that overlap a box of higher probability by more than `iou` (`box.c: do_nms_sort`).

    Sets the probability of the class to 0; objectness does not change.
    """
    active = detections.objectness > 0
    box, label = ((detections.prob > 0) & active[:, None]).nonzero().unbind(1)
    kept = nms(cxcywh_to_xyxy(detections.boxes[box]), detections.prob[box, label], label, iou)
    prob = torch.zeros_like(detections.prob)
    prob[box[kept], label[kept]] = detections.prob[box[kept], label[kept]]
    return replace(detections, prob=torch.where(active[:, None], prob, detections.prob))


def nms_obj(detections: DarknetDetections, iou: float) -> DarknetDetections:
    """Suppress boxes that overlap a box of higher objectness by more than `iou` (`box.c: do_nms_obj`).

    Sets objectness and all probabilities to 0.
    """
    objectness = detections.objectness
    (box,) = (objectness > 0).nonzero(as_tuple=True)
    kept = box[nms(cxcywh_to_xyxy(detections.boxes[box]), objectness[box], torch.zeros_like(box), iou)]
    unchanged = objectness == 0  # such boxes take no part
    unchanged[kept] = True
    return replace(
        detections,
        objectness=torch.where(unchanged, objectness, 0.0),
        prob=torch.where(unchanged[:, None], detections.prob, 0.0),
    )
