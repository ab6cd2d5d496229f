"""From raw maps to scored boxes: thresholds and non-maximum suppression."""

from dataclasses import dataclass

import torch
import torchvision.ops
from torch import Tensor

from yolo9k.boxes import iou as box_iou
from yolo9k.detection.class_decoder import ClassDecoder
from yolo9k.detection.codec import Codec
from yolo9k.detection.loss import Head
from yolo9k.detection.thresholds import Thresholds

MAX_CANDIDATES = 10_000  # (box, label) pairs of an image that enter suppression, the best ones
FAR = 1e6  # pixels; boxes of an untrained network may be larger than numbers are


@dataclass(frozen=True)
class Candidates:
    """Scored boxes of a batch, one row per (box, label), `xyxy` in pixels of the network's input.

    `path` as in `DecodedLabels`.
    """

    image_index: Tensor
    xyxy: Tensor
    score: Tensor
    label: Tensor
    path: Tensor | None = None

    def __getitem__(self, chosen: Tensor) -> "Candidates":
        path = None if self.path is None else self.path[chosen]
        return Candidates(self.image_index[chosen], self.xyxy[chosen], self.score[chosen], self.label[chosen], path)


def candidates(
    head: Head, features: Tensor, codec: Codec, size_wh: tuple[int, int], class_decoder: ClassDecoder, conf: float
) -> Candidates:
    """Every (box, label) whose score is above `conf`; `size_wh` of the network's input.

    Class logits are computed only for boxes whose objectness is above `conf`, as in Darknet.
    """
    boxes = codec.decode(head.geometry(features))
    positions = (boxes.objectness > conf).nonzero()  # (M, 4): image, anchor, row, column
    image, anchor, row, column = positions.unbind(1)
    found = class_decoder(head, features, positions, boxes.objectness[image, anchor, row, column], conf)
    rows, columns = boxes.objectness.shape[2:]
    flat = (anchor * rows + row) * columns + column
    cell_wh = torch.tensor([size_wh[0] / columns, size_wh[1] / rows] * 2, device=features.device)
    xyxy = boxes.xyxy()[image, flat] * cell_wh
    return Candidates(image[found.box], xyxy[found.box], found.score, found.label, found.path)


def suppress(found: Candidates, thresholds: Thresholds, *, spans: Tensor | None = None) -> Candidates:
    """Apply non-maximum suppression per image and label (if `agnostic`: per image), best score first.

    A box is removed if its IoU with a better one is above `thresholds.iou`. With the `spans` of a tree, a label and
    its ancestors count as one label. At most `max_detections` per image are kept.
    """
    found = found[found.score.argsort(descending=True, stable=True)]
    found = found[_rank_in_image(found.image_index) < MAX_CANDIDATES]
    if spans is not None and not thresholds.agnostic:
        return found[_keep_lineages(found, thresholds.iou, spans, thresholds.max_detections)]
    groups = found.image_index
    if not thresholds.agnostic and len(found.label):
        groups = groups * (found.label.max() + 1) + found.label
    kept = found[keep(found.xyxy, found.score, groups, thresholds.iou)]
    return kept[_rank_in_image(kept.image_index) < thresholds.max_detections]


def _keep_lineages(found: Candidates, iou: float, spans: Tensor, max_detections: int) -> Tensor:
    """Rows, best first, that no better box suppresses whose label is the same, above or below; few rows: on the CPU."""
    image, xyxy, span = (t.cpu() for t in (found.image_index, found.xyxy, spans[found.label]))
    first, end = span.unbind(1)
    alive = torch.ones_like(image, dtype=torch.bool)
    kept: list[int] = []
    counts: dict[int, int] = {}
    for row, number in enumerate(image.tolist()):
        if not alive[row] or counts.get(number, 0) == max_detections:
            continue
        kept.append(row)
        counts[number] = counts.get(number, 0) + 1
        is_below = (first >= first[row]) & (first < end[row])
        is_above = (first <= first[row]) & (end > first[row])
        alive &= ~((box_iou(xyxy[row], xyxy) > iou) & (is_below | is_above) & (image == number))
    return torch.tensor(kept, dtype=torch.int64, device=found.label.device)


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
