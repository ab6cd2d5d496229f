"""From raw maps to scored boxes: thresholds and non-maximum suppression."""

from dataclasses import dataclass

import torch
import torchvision.ops
from torch import Tensor

from yolo9k.detection.codec import decode
from yolo9k.detection.loss import Head
from yolo9k.wordtree.scores import LabelScores

MOST_CANDIDATES = 30_000  # (box, label) pairs of a batch that enter suppression, the best ones


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
    head: Head, features: Tensor, anchors: Tensor, stride: int, scores: LabelScores, conf: float
) -> Candidates:
    """Every (box, label) whose score, objectness times P(label), is above `conf`.

    Class logits are computed only for boxes whose objectness is above `conf`, as in Darknet.
    """
    boxes = decode(head.geometry(features), anchors)
    positions = (boxes.objectness > conf).nonzero()  # (M, 4): image, anchor, row, column
    image, anchor, row, column = positions.unbind(1)
    objectness = boxes.objectness[image, anchor, row, column]
    probability = scores.absolute(head.class_logits(features, positions)).exp()
    score = objectness[:, None] * probability
    box, label = (score > conf).nonzero().unbind(1)
    a_map = boxes.objectness.shape
    flat = (anchor * a_map[2] + row) * a_map[3] + column
    xyxy = boxes.xyxy()[image, flat] * stride
    return Candidates(image[box], xyxy[box], score[box, label], label)


def suppress(found: Candidates, iou: float, *, agnostic: bool, max_detections: int) -> Candidates:
    """Non-maximum suppression inside each image and label (`agnostic`: inside each image), best score first.

    A box goes when its IoU with a better one is above `iou`. At most `max_detections` of an image are kept.
    """
    if len(found.score) > MOST_CANDIDATES:
        found = found[found.score.topk(MOST_CANDIDATES).indices]
    groups = found.image_index
    if not agnostic and len(found.label):
        groups = groups * (found.label.max() + 1) + found.label
    kept = found[torchvision.ops.batched_nms(found.xyxy.float(), found.score.float(), groups, iou)]
    return kept[_rank_in_image(kept.image_index) < max_detections]


def _rank_in_image(image_index: Tensor) -> Tensor:
    """(N,) how many earlier rows belong to the same image."""
    order = image_index.argsort(stable=True)
    by_image = image_index[order]
    start = torch.searchsorted(by_image, by_image)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - start
    return rank
