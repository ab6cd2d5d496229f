"""From raw maps to scored boxes: thresholds and non-maximum suppression."""

from dataclasses import dataclass

import torch
import torchvision.ops
from torch import Tensor

from yolo9k.detection.codec import decode
from yolo9k.detection.loss import Head
from yolo9k.wordtree.scores import LabelScores

MOST_CANDIDATES = 10_000  # (box, label) pairs of an image that enter suppression, the best ones
FAR = 1e6  # pixels; boxes of an untrained network may be larger than numbers are


@dataclass(frozen=True)
class Candidates:
    """Scored boxes of a batch, one row per (box, label): `xyxy` in pixels of the network's input."""

    image_index: Tensor
    xyxy: Tensor
    score: Tensor
    label: Tensor

    def __getitem__(self, chosen: Tensor) -> "Candidates":
        return Candidates(self.image_index[chosen], self.xyxy[chosen], self.score[chosen], self.label[chosen])


def candidates(
    head: Head, features: Tensor, anchors: Tensor, size_wh: tuple[int, int], scores: LabelScores, conf: float
) -> Candidates:
    """Every (box, label) whose score, objectness times P(label), is above `conf`; `size_wh` of the network's input.

    Class logits are computed only for boxes whose objectness is above `conf`, as in Darknet.
    """
    boxes = decode(head.geometry(features), anchors)
    positions = (boxes.objectness > conf).nonzero()  # (M, 4): image, anchor, row, column
    image, anchor, row, column = positions.unbind(1)
    objectness = boxes.objectness[image, anchor, row, column]
    probability = scores.absolute(head.class_logits(features, positions)).exp()
    score = objectness[:, None] * probability
    box, label = (score > conf).nonzero().unbind(1)
    rows, columns = boxes.objectness.shape[2:]
    flat = (anchor * rows + row) * columns + column
    cell_wh = torch.tensor([size_wh[0] / columns, size_wh[1] / rows] * 2, device=features.device)
    xyxy = boxes.xyxy()[image, flat] * cell_wh
    return Candidates(image[box], xyxy[box], score[box, label], label)


def suppress(found: Candidates, iou: float, *, agnostic: bool, max_detections: int) -> Candidates:
    """Non-maximum suppression inside each image and label (`agnostic`: inside each image), best score first.

    A box goes when its IoU with a better one is above `iou`. At most `max_detections` of an image are kept.
    """
    found = found[found.score.argsort(descending=True, stable=True)]
    found = found[_rank_in_image(found.image_index) < MOST_CANDIDATES]
    groups = found.image_index
    if not agnostic and len(found.label):
        groups = groups * (found.label.max() + 1) + found.label
    kept = found[keep(found.xyxy, found.score, groups, iou)]
    return kept[_rank_in_image(kept.image_index) < max_detections]


def keep(xyxy: Tensor, score: Tensor, groups: Tensor, iou: float) -> Tensor:
    """Rows that survive inside their group, best first.

    torchvision keeps groups apart by shifting each by the largest coordinate: that wants corners of at least 0, and
    more digits than float32 has for thousands of labels. MPS has no float64, so it leaves this to the CPU.
    """
    device = torch.device("cpu") if xyxy.device.type == "mps" else xyxy.device
    wide = xyxy.to(device).double().clamp(-FAR, FAR)
    smallest = wide.min() if len(wide) else 0
    kept = torchvision.ops.batched_nms(wide - smallest, score.to(device).double(), groups.to(device), iou)
    return kept.to(xyxy.device)


def _rank_in_image(image_index: Tensor) -> Tensor:
    """(N,) how many earlier rows belong to the same image."""
    order = image_index.argsort(stable=True)
    by_image = image_index[order]
    start = torch.searchsorted(by_image, by_image)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - start
    return rank
