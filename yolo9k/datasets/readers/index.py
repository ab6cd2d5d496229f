"""ImageSequence by the million: a few arrays for all, kept between runs, and an object for each that is asked for."""

import logging
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from yolo9k.datasets.readers.records import Issue
from yolo9k.images import ImageSource
from yolo9k.progress import Track, silent
from yolo9k.samples import BoxLabels

TICK_NS = 2_000_000_000  # the coarsest clock of a file system (FAT's): within one tick a change leaves no trace
BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, OverflowError, zipfile.BadZipFile)
NO_BOXES = BoxLabels.of([], [])
KEY_BYTES = 8  # of a name that are compared at once

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageRecord:
    """An image with a label of the whole of it."""

    source: ImageSource
    image_label: int

    @property
    def boxes(self) -> BoxLabels:
        """None: nobody said where in the image its label is."""
        return NO_BOXES


@dataclass(frozen=True)
class Names:
    """Texts as two arrays: text i are the bytes of `blob` up to `ends[i]`, from where the one before ends."""

    blob: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> "Names":
        """The texts, which must not be changed after."""
        blob = b"".join(texts)
        ends = np.cumsum(np.fromiter(map(len, texts), np.uint64, len(texts)), dtype=np.uint64)
        return cls(np.frombuffer(blob, np.uint8), ends.astype(np.min_scalar_type(len(blob))))

    @classmethod
    def joined(cls, parts: Sequence["Names"]) -> "Names":
        """The texts of all parts, one part after the other."""
        starts = np.cumsum([0, *(len(part.blob) for part in parts)])
        ends = [moved(part.ends, by) for part, by in zip(parts, starts[:-1], strict=True)]
        return cls(joined([part.blob for part in parts]), joined(ends))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = int(self.ends[index - 1]) if index else 0
        return os.fsdecode(self.blob[start : int(self.ends[index])].tobytes())

    def order(self) -> np.ndarray:
        """(N,) the numbers of the texts, which have no zero bytes, sorted by bytes; equal ones stay as they are."""
        ends = self.ends.astype(np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        order = np.arange(len(self))
        if not len(self) or not len(self.blob):
            return order
        longest = int((ends - starts).max())
        for first in reversed(range(0, longest, KEY_BYTES)):
            order = order[np.argsort(self._key(starts + first, ends)[order], kind="stable")]
        return order

    def _key(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """(N,) the bytes of each text from `starts` on as one number, zeros behind its end."""
        key = np.zeros(len(starts), np.uint64)
        last = len(self.blob) - 1
        for offset in range(KEY_BYTES):
            place = starts + offset
            byte = np.where(place < ends, self.blob[np.minimum(place, last)], 0)
            key = (key << np.uint64(8)) | byte.astype(np.uint64)
        return key


class ImageIndex(ABC):
    """ImageSequence with labels as one sequence of `ImageRecord`, made when asked for; some may be left out."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: np.ndarray | None = None

    def __len__(self) -> int:
        return self._count if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> ImageRecord:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._record(self._row(index))

    @abstractmethod
    def counts(self, num_labels: int) -> np.ndarray:
        """(K,) number of images of each label."""

    @abstractmethod
    def name(self, index: int, root: Path) -> str:
        """What an image of the data set at `root` is called, wherever that lies."""

    @abstractmethod
    def _record(self, row: int) -> ImageRecord:
        """The image of a row of the arrays."""

    def keep(self, root: Path, wanted: Callable[[str], bool], track: Track = silent) -> None:
        """Leave out the images whose name is not wanted."""
        names = (self.name(index, root) for index in track(range(len(self)), "Choosing images", len(self)))
        self._choose(np.fromiter(map(wanted, names), bool, len(self)))

    def _row(self, index: int) -> int:
        return index if self._rows is None else int(self._rows[index])

    def _choose(self, chosen: np.ndarray) -> None:
        """Go on with a choice, a mask or numbers, of the images so far."""
        rows = np.arange(self._count) if self._rows is None else self._rows
        self._rows = rows[chosen].astype(np.min_scalar_type(self._count))


class Listed(Protocol):
    """What a reader of images with labels gives: the classes in order, what is odd, and the images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The data set's own."""

    @property
    def errors(self) -> tuple[Issue, ...]:
        """What is odd."""

    def images(self, labels: Mapping[str, int]) -> ImageIndex:
        """The images of the classes that have a label."""


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The arrays as one; one alone is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def moved(numbers: np.ndarray, by: int) -> np.ndarray:
    """Numbers raised by `by`, in a type that holds them."""
    return numbers + np.array(by, np.uint64) if by else numbers


# --- lists that are kept


def store_arrays(place: Path, **arrays: object) -> None:
    """Write arrays beside their place, then rename them; where that cannot be, they are made again the next time."""
    temporary = place.with_name(f"{place.name}.{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        temporary.replace(place)
    except OSError as error:
        log.warning("%s: the list of images cannot be kept: %s", place, error.strerror or error)
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def load_arrays(place: Path) -> dict[str, np.ndarray]:
    """What `store_arrays` wrote. Raises one of `BROKEN` where nothing is there, or something else."""
    with np.load(place, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
