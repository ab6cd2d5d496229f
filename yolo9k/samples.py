"""Types shared by all parts: box labels, samples, batches and detections.

Boxes are float `xyxy` in pixels of their image. Ragged data are flat arrays with an `image_index`: no padding, and no
limit on the number of boxes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo9k.boxes import is_tensor, xyxy_to_xywh

if TYPE_CHECKING:
    import supervision
    import torch


@dataclass(frozen=True)
class BoxLabels:
    """Box labels of one image.

    `xyxy` (N, 4) float32 pixels; `label` (N,) int64, nodes of the label tree; `ignore` (N,) bool, true for VOC's
    *difficult* and COCO's *crowd* boxes: never matched, never clustered, never a false negative.
    """

    xyxy: np.ndarray
    label: np.ndarray
    ignore: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.xyxy)
        if self.xyxy.shape != (n, 4) or self.label.shape != (n,) or self.ignore.shape != (n,):
            shapes = self.xyxy.shape, self.label.shape, self.ignore.shape
            raise ValueError(f"box labels need shapes (N, 4), (N,), (N,), got {shapes}")

    @classmethod
    def of(cls, xyxy: Any, label: Any, ignore: Any = None) -> "BoxLabels":
        """Make box labels from anything array-like; an empty list means no boxes."""
        label = np.asarray(label, dtype=np.int64).reshape(-1)
        ignored = np.zeros(len(label), bool) if ignore is None else np.asarray(ignore, bool).reshape(-1)
        return cls(np.asarray(xyxy, dtype=np.float32).reshape(-1, 4), label, ignored)

    def __len__(self) -> int:
        return len(self.label)

    def __getitem__(self, chosen: np.ndarray) -> "BoxLabels":
        """Select boxes with a mask or an index array."""
        return BoxLabels(self.xyxy[chosen], self.label[chosen], self.ignore[chosen])


@dataclass(frozen=True)
class Sample:
    """One image with its labels: `image` uint8 (H, W, 3) RGB; box labels or one image-level label, not both.

    `unreadable`: names of the unreadable images that this sample replaces. `resized`: names of its images whose size
    differs from the annotated one, so that their boxes were scaled or turned. `full_wh`: width and height of the whole
    image, if `image` may be smaller (`images.read_reduced`); boxes are in pixels of the whole image.
    """

    image: np.ndarray
    boxes: BoxLabels
    name: str
    image_label: int | None = None
    unreadable: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()
    full_wh: tuple[int, int] | None = None

    @property
    def size_wh(self) -> tuple[int, int]:
        """Return width and height of the whole image."""
        return self.full_wh or (self.image.shape[1], self.image.shape[0])


@dataclass(frozen=True)
class Batch:
    """Images of one size with their labels in flat tensors.

    `images` (B, 3, H, W): uint8 until they reach the device, then float in [0, 1] (`normalised`).
    Box labels: `image_index` (N,), `xyxy` (N, 4) pixels, `label` (N,), `ignore` (N,).
    Image-level labels: `labelled_image` (M,) index of the image, `image_label` (M,) node. `unreadable`, `resized`: see
    `Sample`.
    """

    images: "torch.Tensor"
    image_index: "torch.Tensor"
    xyxy: "torch.Tensor"
    label: "torch.Tensor"
    ignore: "torch.Tensor"
    labelled_image: "torch.Tensor"
    image_label: "torch.Tensor"
    names: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    resized: tuple[str, ...] = ()

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Batch":
        """Collate samples whose images have the same size."""
        import torch

        images = torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2)
        counts = [len(s.boxes) for s in samples]
        labelled = [(i, s.image_label) for i, s in enumerate(samples) if s.image_label is not None]
        return cls(
            images=images,
            image_index=torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(counts)),
            xyxy=torch.from_numpy(np.concatenate([s.boxes.xyxy for s in samples])),
            label=torch.from_numpy(np.concatenate([s.boxes.label for s in samples])),
            ignore=torch.from_numpy(np.concatenate([s.boxes.ignore for s in samples])),
            labelled_image=torch.tensor([i for i, _ in labelled], dtype=torch.int64),
            image_label=torch.tensor([label for _, label in labelled], dtype=torch.int64),
            names=tuple(s.name for s in samples),
            unreadable=tuple(name for s in samples for name in s.unreadable),
            resized=tuple(name for s in samples for name in s.resized),
        )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size_wh(self) -> tuple[int, int]:
        """Return width and height of the images."""
        return self.images.shape[-1], self.images.shape[-2]

    def part(self, start: int, stop: int) -> "Batch":
        """Return the images from `start` to `stop` (exclusive) with their labels."""
        boxes = (self.image_index >= start) & (self.image_index < stop)
        labelled = (self.labelled_image >= start) & (self.labelled_image < stop)
        return replace(
            self,
            images=self.images[start:stop],
            image_index=self.image_index[boxes] - start,
            xyxy=self.xyxy[boxes],
            label=self.label[boxes],
            ignore=self.ignore[boxes],
            labelled_image=self.labelled_image[labelled] - start,
            image_label=self.image_label[labelled],
            names=self.names[start:stop],
        )

    def _map(self, change: Any) -> "Batch":
        tensors = {k: change(v) for k, v in vars(self).items() if is_tensor(v)}
        return replace(self, **tensors)

    def to(self, device: "torch.device | str") -> "Batch":
        """Copy the batch to a device; asynchronous if the memory is pinned."""
        return self._map(lambda t: t.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Copy the batch to page-locked memory (called by the data loader)."""
        return self._map(lambda t: t.pin_memory())

    def normalised(self) -> "torch.Tensor":
        """Return the images as network input: float32 in [0, 1], no mean subtraction."""
        return self.images if self.images.is_floating_point() else self.images.float().div_(255)


@dataclass(frozen=True)
class Detections:
    """Detections of one image, one row per (box, label), highest score first.

    `xyxy` (N, 4) float32 pixels of the image; `score` (N,) in [0, 1]; `label` (N,) nodes; `names`: the names of all
    nodes, so that `names[label[i]]` is a class name. `path` (N, D), only for a label tree with one label per box: the
    path probability of each node from the root to the label, by depth, then NaN.
    """

    xyxy: np.ndarray
    score: np.ndarray
    label: np.ndarray
    names: tuple[str, ...] = field(default=(), repr=False)
    path: np.ndarray | None = None

    def __post_init__(self) -> None:
        n = len(self.xyxy)
        if self.xyxy.shape != (n, 4) or self.score.shape != (n,) or self.label.shape != (n,):
            shapes = self.xyxy.shape, self.score.shape, self.label.shape
            raise ValueError(f"detections need shapes (N, 4), (N,), (N,), got {shapes}")

    @classmethod
    def empty(cls, names: tuple[str, ...] = ()) -> "Detections":
        """Return zero detections."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), names)

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, chosen: Any) -> "Detections":
        """Select rows with a mask, a slice or an index array."""
        path = None if self.path is None else self.path[chosen]
        return replace(self, xyxy=self.xyxy[chosen], score=self.score[chosen], label=self.label[chosen], path=path)

    def __iter__(self) -> Iterator[tuple[np.ndarray, float, str]]:
        """Iterate over rows as (box, score, class name)."""
        for box, score, label in zip(self.xyxy, self.score, self.label, strict=True):
            yield box, float(score), self.name(int(label))

    def name(self, label: int) -> str:
        """Return the class name of a label, or its index if no names are known."""
        return self.names[label] if self.names else str(label)

    def to_coco(self, image_id: int | str, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Convert to COCO result entries; `category_ids[label]` is the category id in the data set."""
        xywh = xyxy_to_xywh(self.xyxy.astype(np.float64))
        return [
            {
                "image_id": image_id,
                "category_id": int(label if category_ids is None else category_ids[label]),
                "bbox": [round(float(v), 4) for v in box],
                "score": round(float(score), 6),
            }
            for box, score, label in zip(xywh, self.score, self.label, strict=True)
        ]

    def to_supervision(self) -> "supervision.Detections":
        """Convert to `supervision.Detections` (needs the extra `supervision`)."""
        import supervision

        names = np.array([self.name(int(label)) for label in self.label], dtype=object)
        return supervision.Detections(
            xyxy=self.xyxy, confidence=self.score, class_id=self.label, data={"class_name": names}
        )
