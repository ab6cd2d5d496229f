"""Millions of labelled images in little memory: a few arrays for all, an index cache between runs, objects on access.

`ImageIndex` is the base of the indexes of class folders and of tar shards.
"""

import hashlib
import logging
import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from yolo9k.datasets.readers.records import Issue
from yolo9k.errors import MachineError
from yolo9k.fetch import cache_folder
from yolo9k.images import ImageSource
from yolo9k.io import replacing
from yolo9k.progress import Track, silent
from yolo9k.samples import BoxLabels

MTIME_RESOLUTION_NS = 2_000_000_000  # of FAT, the coarsest: two changes within it may have the same time
CACHE_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, OverflowError, zipfile.BadZipFile)
NO_BOXES = BoxLabels.of([], [])
KEY_BYTES = 8  # bytes per sort key

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageRecord:
    """An image with an image-level label."""

    source: ImageSource
    image_label: int

    @property
    def boxes(self) -> BoxLabels:
        """Return no boxes."""
        return NO_BOXES

    def boxes_in(self, image_wh: tuple[int, int]) -> BoxLabels:  # of a `LabelledImage`
        """Return no boxes."""
        return NO_BOXES


@dataclass(frozen=True)
class PackedStrings:
    """N strings as two arrays: string i is `blob[ends[i - 1] : ends[i]]`, in the encoding of the file system."""

    blob: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> "PackedStrings":
        """Pack strings."""
        blob = b"".join(texts)
        ends = np.cumsum(np.fromiter(map(len, texts), np.uint64, len(texts)), dtype=np.uint64)
        return cls(np.frombuffer(blob, np.uint8), ends.astype(np.min_scalar_type(len(blob))))

    @classmethod
    def concatenate(cls, parts: Sequence["PackedStrings"]) -> "PackedStrings":
        """Concatenate several of them."""
        starts = np.cumsum([0, *(len(part.blob) for part in parts)])
        ends = [add_offset(part.ends, start) for part, start in zip(parts, starts[:-1], strict=True)]
        return cls(concatenate([part.blob for part in parts]), concatenate(ends))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        start = int(self.ends[index - 1]) if index else 0
        return os.fsdecode(self.blob[start : int(self.ends[index])].tobytes())

    def argsort(self) -> np.ndarray:
        """Return the indices (N,) that sort the strings by their bytes, stable; no string may have zero bytes.

        A radix sort over keys of 8 bytes, because Python strings would need too much memory.
        """
        ends = self.ends.astype(np.int64)
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        order = np.arange(len(self))
        if not len(self) or not len(self.blob):
            return order
        max_length = int((ends - starts).max())
        for offset in reversed(range(0, max_length, KEY_BYTES)):
            order = order[np.argsort(self._sort_key(starts + offset, ends)[order], kind="stable")]
        return order

    def _sort_key(self, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Return (N,) the 8 bytes of each string from `starts` as one integer, with zeros after the end."""
        key = np.zeros(len(starts), np.uint64)
        last = len(self.blob) - 1
        for offset in range(KEY_BYTES):
            position = starts + offset
            byte = np.where(position < ends, self.blob[np.minimum(position, last)], 0)
            key = (key << np.uint64(8)) | byte.astype(np.uint64)
        return key


class ImageIndex(ABC):
    """A sequence of `ImageRecord` that are created on access, from the rows of arrays; rows can be excluded."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: np.ndarray | None = None  # the rows in use; None: all

    def __len__(self) -> int:
        return self._count if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> ImageRecord:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._record(self._row(index))

    @abstractmethod
    def counts(self, num_labels: int) -> np.ndarray:
        """Return (K,) the image count of each label."""

    @abstractmethod
    def name(self, index: int, root: Path) -> str:
        """Return the name of an image within the data set at `root`; it does not depend on where the root is."""

    @abstractmethod
    def _record(self, row: int) -> ImageRecord:
        """Return the image of a row of the arrays."""

    def filter(self, root: Path, keep: Callable[[str], bool], track: Track = silent) -> None:
        """Exclude the images for whose name `keep` returns false."""
        names = (self.name(index, root) for index in track(range(len(self)), "Choosing images", len(self)))
        self._select(np.fromiter(map(keep, names), bool, len(self)))

    def _row(self, index: int) -> int:
        return index if self._rows is None else int(self._rows[index])

    def _select(self, chosen: np.ndarray) -> None:
        """Reduce or reorder the images by a mask or by indices."""
        rows = np.arange(self._count) if self._rows is None else self._rows
        self._rows = rows[chosen].astype(np.min_scalar_type(self._count))


class ImageReadResult(Protocol):
    """What a reader of image-level labels returns: the class names in order, the issues, and the images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names of the data set."""

    @property
    def errors(self) -> tuple[Issue, ...]:
        """Return the issues found."""

    def images(self, labels: Mapping[str, int]) -> ImageIndex:
        """Return the images of the classes that have a label."""


def concatenate(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate arrays; a single one is not copied."""
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def add_offset(indices: np.ndarray, offset: int) -> np.ndarray:
    """Add an offset to unsigned indices, in a type that holds the result."""
    return indices + np.array(offset, np.uint64) if offset else indices


# --- the index cache


def index_cache_file(kind: str, path: Path) -> Path:
    """Return the cache file for the index of a folder or tar file; `kind`: a subfolder of the cache."""
    return cache_folder() / kind / f"{hashlib.blake2b(os.fsencode(path), digest_size=12).hexdigest()}.npz"


def save_index_cache(cache_file: Path, **arrays: object) -> None:
    """Write arrays to a cache file; a failure is only logged, and the index is built again by the next run."""
    try:
        with replacing(cache_file, "the index cache") as draft, draft.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except MachineError as error:
        log.warning("%s", error)


def load_index_cache(cache_file: Path) -> dict[str, np.ndarray]:
    """Read what `save_index_cache` wrote. Raises one of `CACHE_ERRORS` if it is missing or broken."""
    with np.load(cache_file, allow_pickle=False) as cache:
        return {name: cache[name] for name in cache.files}
