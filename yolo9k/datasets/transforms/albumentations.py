"""Any albumentations transform, by name and arguments from a config. No other module knows albumentations."""

import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from yolo9k.errors import ConfigError
from yolo9k.samples import BoxLabels, Sample

Entries = Sequence[dict[str, dict[str, Any]]]
Change = Callable[[Sample, np.random.Generator], Sample]


class Transforms:
    """What `data.augment.transforms` names, as a part of a transform: every process builds its own, nothing travels.

    Raises `ConfigError` for a name or an argument that albumentations does not have.
    """

    def __init__(self, entries: Entries) -> None:
        self.entries = entries
        self._change = transforms(entries)  # now: what is wrong is reported before any worker starts

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_change": None}

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample changed. Raises `ConfigError` where it is no image any more."""
        if not self.entries:
            return sample
        self._change = self._change or transforms(self.entries)
        assert self._change is not None
        return self._change(sample, rng)


def transforms(entries: Entries) -> Change | None:
    """What `data.augment.transforms` names, as one function of a sample and a generator; none for no entries.

    Raises `ConfigError` for a name or an argument that albumentations does not have.
    """
    if not entries:
        return None
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network at import otherwise
    import albumentations

    chain = [_build(albumentations, *entry.copy().popitem()) for entry in entries]
    # It refuses a box that leaves the image by a rounding error, or that has no area inside.
    boxes = albumentations.BboxParams(
        format="pascal_voc", label_fields=["number"], min_area=1, clip=True, filter_invalid_bboxes=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a chain of colour changes alone moves no boxes
        compose = albumentations.Compose(chain, bbox_params=boxes)

    def change(sample: Sample, rng: np.random.Generator) -> Sample:
        compose.set_random_seed(int(rng.integers(2**31)))
        changed = compose(image=sample.image, bboxes=sample.boxes.xyxy, number=np.arange(len(sample.boxes)))
        _check_image(changed["image"])
        kept = np.asarray(changed["number"], dtype=np.int64)
        moved = np.asarray(changed["bboxes"], dtype=np.float32).reshape(-1, 4)
        labels = BoxLabels(moved, sample.boxes.label[kept], sample.boxes.ignore[kept])
        return Sample(changed["image"], labels, sample.name, sample.image_label)

    return change


def _build(albumentations: Any, name: str, arguments: dict[str, Any]) -> Any:
    kind = getattr(albumentations, name, None)
    if not (isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform)):
        raise ConfigError(f"data.augment.transforms: {name!r} is no transform of albumentations")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # it only warns of an argument that it does not have
            return kind(**arguments)
    except (TypeError, ValueError, NotImplementedError, UserWarning) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"data.augment.transforms.{name}: {reason or 'cannot be used'}") from error


def _check_image(image: Any) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
        found = f"{image.dtype} {tuple(image.shape)}"
        raise ConfigError(f"data.augment.transforms: the image must stay uint8 (H, W, 3), it became {found}")
