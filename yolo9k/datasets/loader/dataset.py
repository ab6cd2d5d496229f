"""Read and transform the training sample of one request (`TrainingDataset`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from torch.utils.data import Dataset

from yolo9k.datasets.loader.sampler import SampleRequest, augmentation_generator
from yolo9k.datasets.readers.records import ImageSequence, OnError
from yolo9k.datasets.transforms.transform import SizedTransform, Transform
from yolo9k.errors import DataError, Yolo9kError
from yolo9k.images import NeededSize, read_reduced
from yolo9k.samples import Sample

MAX_TRIES = 100  # images tried in place of an unreadable one


@dataclass(frozen=True)
class FailedSample:
    """Stands in for a sample that could not be made; the training loop raises its error.

    An exception raised in a worker would reach the loop with the worker's traceback in its message.
    """

    error: Yolo9kError


class TrainingDataset(Dataset):
    """Maps a `SampleRequest` to a training sample, or to a `FailedSample`.

    `sources`: the images of each source. `on_error`: for an unreadable image, `stop` reports it, `skip` reads the next
    image of the source instead. `reduce`: decode large JPEGs at the size that the transform needs, if it knows it
    (`SizedTransform`).
    """

    def __init__(
        self,
        sources: Sequence[ImageSequence],
        transform: Transform,
        seed: int,
        on_error: OnError = "stop",
        *,
        reduce: bool = True,
    ) -> None:
        self.sources, self.transform, self.seed, self.on_error = tuple(sources), transform, seed, on_error
        self.reduce = reduce and transform.num_samples == 1

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def __getitem__(self, request: SampleRequest) -> Sample | FailedSample:
        images = self.sources[request.source]
        rng = augmentation_generator(self.seed, request.step, request.position)
        try:
            # A transform of one sample draws nothing here, so its random numbers do not depend on this line.
            others = [int(rng.integers(len(images))) for _ in range(self.transform.num_samples - 1)]
            needed = partial(self._needed_wh, request)
            samples = [self._read(images, index, needed) for index in (request.index, *others)]
            unreadable = tuple(name for sample in samples for name in sample.unreadable)
            resized = tuple(name for sample in samples for name in sample.resized)
            return replace(self.transform(samples, request.size_wh, rng), unreadable=unreadable, resized=resized)
        except Yolo9kError as error:
            return FailedSample(error)

    def _needed_wh(self, request: SampleRequest, image_wh: tuple[int, int]) -> tuple[float, float] | None:
        """Return the size to which the transform will shrink the image of a request; `None`: all pixels are needed."""
        if not (self.reduce and isinstance(self.transform, SizedTransform)):
            return None
        rng = augmentation_generator(self.seed, request.step, request.position)
        return self.transform.needed_wh(image_wh, request.size_wh, rng)

    def _read(self, images: ImageSequence, index: int, needed: NeededSize) -> Sample:
        tries = min(MAX_TRIES, len(images)) if self.on_error == "skip" else 1
        unreadable: list[str] = []
        for offset in range(tries):
            record = images[(index + offset) % len(images)]
            try:
                image, image_wh = read_reduced(record.source, needed)
                boxes = record.boxes_in(image_wh)
                name = str(record.source)
                resized = (name,) if boxes is not record.boxes else ()
                full_wh = None if image.shape[1::-1] == image_wh else image_wh
                return Sample(image, boxes, name, record.image_label, tuple(unreadable), resized, full_wh)
            except DataError as error:
                unreadable.append(str(record.source))
                last = error
        raise last
