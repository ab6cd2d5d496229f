"""The interface of a transform (augmentation): samples as read from disk in, one training sample out."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from yolo9k.samples import Sample


class Transform(Protocol):
    """Makes one training sample out of the samples that were read for it.

    `num_samples`: samples that a call receives, 1 for most transforms, more to combine images (mosaic, mixup). The
    first is the requested one; the others are drawn at random from the same source, so all of them have boxes or all
    have an image-level label. A transform is pickled when worker processes are spawned. To use a new one, pass it to
    `TrainingDataset`, as the tasks in `yolo9k/training/tasks` do.
    """

    num_samples: int

    def __call__(self, samples: Sequence[Sample], size_wh: tuple[int, int], rng: np.random.Generator) -> Sample:
        """Return a sample of size `size_wh` (uint8, C-contiguous), with its labels in pixels of the new image.

        All randomness must come from `rng`: a resumed run repeats the same augmentation. `Sample.unreadable` of the
        result is filled in by the caller. Raises `ConfigError` if the transform cannot be applied.
        """


@runtime_checkable
class SizedTransform(Transform, Protocol):
    """A transform of one sample that knows to which size it will shrink an image, before the image is read.

    Its images may be reduced ones (`images.read_reduced`): it must regard `Sample.size_wh`, not the shape.
    """

    def needed_wh(
        self, image_wh: tuple[int, int], size_wh: tuple[int, int], rng: np.random.Generator
    ) -> tuple[float, float] | None:
        """Return width and height of the whole image after shrinking, in pixels; `None`: all pixels are needed.

        `rng` is a generator in the state of the one that the call with this image will get.
        """
