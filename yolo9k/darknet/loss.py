"""The loss of a region layer on targets in Darknet's own format (Darknet `region_layer.c: forward_region_layer`)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from yolo9k.boxes import cxcywh_to_xyxy
from yolo9k.darknet.region import WARMUP_IMAGES, Region
from yolo9k.detection.codec import Codec
from yolo9k.detection.loss import RegionLoss
from yolo9k.errors import DataError
from yolo9k.models.head import RawMap
from yolo9k.samples import Batch
from yolo9k.wordtree.softmax import HierarchicalSoftmax

END_OF_TARGETS = 0.0  # x of the slot after the last target
IMAGE_LABEL = 100_000.0  # x and y above this: an image-level label


class DarknetLoss:
    """The loss of a region section for targets in Darknet's format (`forward_region_layer`).

    Its negative gradient is Darknet's `delta`. `map`: the node of each target class (`map=` in the cfg); `None`:
    target classes are used as they are.
    """

    def __init__(self, region: Region, scores: HierarchicalSoftmax, map: Sequence[int] | None = None) -> None:
        self.region, self.scores, self.map = region, scores, map
        self.head = RawMap(len(region.anchors), region.classes)
        self.loss = RegionLoss(Codec(region.anchors), scores, region.loss)

    def __call__(self, raw: Tensor, targets: Tensor, seen: int = WARMUP_IMAGES) -> Tensor:
        """Return the loss of a batch, summed over images and boxes.

        `raw`: (B, A * (5 + K), H, W) or (B, A, 5 + K, H, W). `targets`: (B, T, 5) in Darknet's format: x, y, w, h
        relative to the input, and class. A row with x = 0 ends the targets of an image; a row with x and y above
        100,000 is an image-level label. `seen`: images seen so far, including this batch. Raises `DataError` for a
        class outside the network's or the map's range.
        """
        flat = raw.flatten(1, 2) if raw.dim() == 5 else raw
        batch = self.batch(flat, targets)
        losses = self.loss.to(raw.device)(self.head, flat, batch, seen)
        return torch.stack(list(losses.values())).sum()

    def batch(self, images: Tensor, targets: Tensor) -> Batch:
        """Combine images (B, C, H, W) and targets (B, T, 5) into a batch, with boxes in pixels of the images."""
        rows = torch.as_tensor(targets, dtype=torch.float32, device=images.device)
        valid = (rows[..., 0] != END_OF_TARGETS).cumprod(dim=1).bool()  # (B, T)
        image_level = valid & (rows[..., 0] > IMAGE_LABEL) & (rows[..., 1] > IMAGE_LABEL)
        labelled = image_level.any(dim=1)  # the first image-level label replaces all other targets of the image
        first = image_level.int().argmax(dim=1)
        image_label = rows[torch.arange(len(rows), device=images.device), first, 4].long()[labelled]
        image_index, row_index = (valid & ~labelled[:, None]).nonzero().unbind(1)
        boxes = rows[image_index, row_index]
        size = torch.tensor([images.shape[-1], images.shape[-2]] * 2, device=images.device)
        # x * W is float32 as in Darknet. Corners in double return exactly this centre, also on the border of two cells.
        cxcywh = (boxes[:, :4] * size).double()
        label = boxes[:, 4].long()
        if self.map is not None:
            label = self._map_labels(label)
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

    def _map_labels(self, label: Tensor) -> Tensor:
        assert self.map is not None
        _check_range(label, len(self.map), f"the map has {len(self.map)} entries")
        return torch.tensor(self.map, device=label.device)[label]


def _check_range(label: Tensor, count: int, problem: str) -> None:
    invalid = label[(label < 0) | (label >= count)]
    if len(invalid):
        raise DataError(f"class {int(invalid[0])}: {problem}")
