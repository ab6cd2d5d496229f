"""Post-processing: convert raw maps to scored boxes, and apply thresholds and non-maximum suppression (NMS)."""

from dataclasses import dataclass

import torch
import torchvision.ops
from torch import Tensor

from yolo9k.boxes import cxcywh_to_xyxy
from yolo9k.boxes import iou as box_iou
from yolo9k.detection.class_decoder import MAX_CANDIDATES, ClassDecoder, rank_in_image
from yolo9k.detection.codec import Codec
from yolo9k.detection.head import Head
from yolo9k.detection.thresholds import Thresholds

MAX_COORDINATE = 1e6  # pixels; an untrained network can predict boxes of infinite size


@dataclass(frozen=True)
class Candidates:
    """Scored boxes of a batch before or after NMS, one row per (box, label); `xyxy` in pixels of the network's input.

    `path` as in `DecodedLabels`.
    """

    image_index: Tensor
    xyxy: Tensor
    score: Tensor
    label: Tensor
    path: Tensor | None = None

    def __getitem__(self, selected: Tensor) -> "Candidates":
        path = None if self.path is None else self.path[selected]
        return Candidates(
            self.image_index[selected], self.xyxy[selected], self.score[selected], self.label[selected], path
        )


def find_candidates(
    head: Head, features: Tensor, codec: Codec, size_wh: tuple[int, int], class_decoder: ClassDecoder, conf: float
) -> Candidates:
    """Return every (box, label) with a score above `conf`; `features`: see `Head`; `size_wh` of the network's input.

    Class logits are computed only for boxes whose objectness is above `conf`, as in Darknet.
    """
    boxes = codec.decode(head.geometry(features))
    positions = (boxes.objectness > conf).nonzero()  # image, anchor, row, column
    objectness = boxes.objectness[tuple(positions.unbind(1))]
    xyxy = cxcywh_to_xyxy(boxes.cxcywh(positions)) * boxes.pixels_per_cell(size_wh)
    decoded = class_decoder(head, features, positions, objectness, conf)
    return Candidates(positions[decoded.box, 0], xyxy[decoded.box], decoded.score, decoded.label, decoded.path)


def suppress(boxes: Candidates, thresholds: Thresholds, *, spans: Tensor | None = None) -> Candidates:
    """Apply NMS per image and label (if `agnostic`: per image); return the remaining rows, best score first.

    A box is removed if its IoU with a better one is above `thresholds.iou`. With the `spans` of a tree, a label and
    its ancestors count as one label. At most `max_detections` per image are kept.
    """
    boxes = boxes[boxes.score.argsort(descending=True, stable=True)]
    boxes = boxes[rank_in_image(boxes.image_index) < MAX_CANDIDATES]
    if spans is not None and not thresholds.agnostic:
        return boxes[_nms_in_tree(boxes, thresholds, spans)]
    groups = boxes.image_index
    if not thresholds.agnostic and len(boxes.label):
        groups = groups * (boxes.label.max() + 1) + boxes.label
    kept = boxes[nms(boxes.xyxy, boxes.score, groups, thresholds.iou)]
    return kept[rank_in_image(kept.image_index) < thresholds.max_detections]


def _nms_in_tree(boxes: Candidates, thresholds: Thresholds, spans: Tensor) -> Tensor:
    """Return the rows to keep, best first: a box suppresses boxes with the same label, its ancestors or descendants.

    `boxes`: best score first. Runs on the CPU: a descent returns one label per box, so there are few rows.
    """
    image_index, xyxy, span = (t.cpu() for t in (boxes.image_index, boxes.xyxy, spans[boxes.label]))
    first, end = span.unbind(1)
    alive = torch.ones_like(image_index, dtype=torch.bool)
    kept: list[int] = []
    counts: dict[int, int] = {}
    for row, image in enumerate(image_index.tolist()):
        if not alive[row] or counts.get(image, 0) == thresholds.max_detections:
            continue
        kept.append(row)
        counts[image] = counts.get(image, 0) + 1
        is_descendant = (first >= first[row]) & (first < end[row])
        is_ancestor = (first <= first[row]) & (end > first[row])
        overlaps = (box_iou(xyxy[row], xyxy) > thresholds.iou) & (image_index == image)
        alive &= ~(overlaps & (is_descendant | is_ancestor))
    return torch.tensor(kept, dtype=torch.int64, device=boxes.label.device)


def nms(xyxy: Tensor, score: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Return the indices of boxes that NMS keeps inside each group, best score first.

    `xyxy` (N, 4); `score` (N,); `groups` (N,): integer ids; `iou`: NMS IoU threshold. torchvision separates groups by
    shifting their boxes by multiples of the largest coordinate. That requires coordinates of at least 0, and float64
    if there are thousands of groups. MPS has no float64: there, NMS runs on the CPU.
    """
    device = torch.device("cpu") if xyxy.device.type == "mps" else xyxy.device
    bounded = xyxy.to(device).double().clamp(-MAX_COORDINATE, MAX_COORDINATE)
    smallest = bounded.min() if len(bounded) else 0
    kept = torchvision.ops.batched_nms(bounded - smallest, score.to(device).double(), groups.to(device), iou)
    return kept.to(xyxy.device)
