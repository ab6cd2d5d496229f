"""Apply albumentations transforms, given by name and arguments in a config. No other module imports albumentations."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from yolo9k.errors import ConfigError
from yolo9k.samples import BoxLabels, Sample

Entries = Sequence[dict[str, dict[str, Any]]]


class AlbumentationsChain:
    """The transforms of `data.augment.transforms`, applied in order; without entries, samples stay as they are.

    Each process builds its own chain: it is not pickled. Raises `ConfigError` for an unknown transform or argument.
    """

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self._compose = _compose(entries) if entries else None  # built here to report errors before workers start

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compose": None}

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Transform an image and its boxes. Raises `ConfigError` if the result is not uint8 (H, W, 3)."""
        if not self.entries:
            return sample
        self._compose = self._compose or _compose(self.entries)
        self._compose.set_random_seed(int(rng.integers(2**31)))
        changed = self._compose(image=sample.image, bboxes=sample.boxes.xyxy, index=np.arange(len(sample.boxes)))
        _check_image(changed["image"])
        kept = np.asarray(changed["index"], dtype=np.int64)
        xyxy = np.asarray(changed["bboxes"], dtype=np.float32).reshape(-1, 4)
        boxes = BoxLabels(xyxy, sample.boxes.label[kept], sample.boxes.ignore[kept])
        return Sample(changed["image"], boxes, sample.name, sample.image_label)


def _compose(entries: Entries) -> Any:
    """Build the `albumentations.Compose` of the entries."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise importing it checks for updates online
    import albumentations

    chain = [_build(albumentations, *entry.copy().popitem()) for entry in entries]
    # By default it raises an error for a box that exceeds the image by a rounding error or has no area inside it.
    boxes = albumentations.BboxParams(
        format="pascal_voc", label_fields=["index"], min_area=1, clip=True, filter_invalid_bboxes=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it warns if no transform of the chain moves boxes
        return albumentations.Compose(chain, bbox_params=boxes)


def _build(albumentations: Any, name: str, arguments: dict[str, Any]) -> Any:
    transform = getattr(albumentations, name, None)
    if not (isinstance(transform, type) and issubclass(transform, albumentations.BasicTransform)):
        raise ConfigError(f"data.augment.transforms: {name!r} is not an albumentations transform")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # for an unknown argument it only warns
            return transform(**arguments)
    except (TypeError, ValueError, NotImplementedError, UserWarning) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"data.augment.transforms.{name}: {reason or 'cannot be used'}") from error


def _check_image(image: Any) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
        got = f"{image.dtype} {tuple(image.shape)}"
        raise ConfigError(f"data.augment.transforms: the image must stay uint8 (H, W, 3), got {got}")
