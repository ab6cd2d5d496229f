"""Image folders: every folder is a class, the images in it (at any depth) have its label and no box.

ImageNet's whole release is fourteen million files in 21 thousand folders. They are listed once, the list is a few
arrays and is cached, and an image becomes an object only when it is asked for.
"""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from yolo9k.datasets.readers.index import (
    BROKEN,
    TICK_NS,
    ImageIndex,
    ImageRecord,
    Names,
    joined,
    load_arrays,
    moved,
    store_arrays,
)
from yolo9k.datasets.readers.records import Entry, Issue, Selection
from yolo9k.errors import DataError
from yolo9k.fetch import cache_folder
from yolo9k.images import is_image_name
from yolo9k.progress import Track, silent

VERSION = 1  # of the cached lists


@dataclass(frozen=True)
class Listing:
    """The images below `root`, sorted by folder and name.

    `folders` (F): paths below the root, whose first part is the class. File i lies in `folders[folder[i]]`, and its
    name are the bytes of `names` up to `ends[i]`, from where the one before ends. `changed_ns` (F + 1): when each
    folder was changed, the root at last.
    """

    root: Path
    folders: tuple[str, ...]
    changed_ns: np.ndarray
    names: np.ndarray
    ends: np.ndarray
    folder: np.ndarray

    def __len__(self) -> int:
        return len(self.folder)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return sum(array.nbytes for array in (self.changed_ns, self.names, self.ends, self.folder))


class ImageFolderIndex(ImageIndex):
    """The images of some listings as one sequence of `ImageRecord`.

    `labels` gives the label of each class; images of other classes are left out.
    """

    def __init__(self, listings: Sequence[Listing], labels: Mapping[str, int]) -> None:
        starts = np.cumsum([0, *(len(listing.folders) for listing in listings)])
        self._folders = [str(listing.root / folder) for listing in listings for folder in listing.folders]
        self._label = np.array([labels.get(_class_of(f), -1) for part in listings for f in part.folders], np.int64)
        self._names = Names.joined([Names(listing.names, listing.ends) for listing in listings])
        self._folder = joined([moved(part.folder, by) for part, by in zip(listings, starts[:-1], strict=True)])
        super().__init__(len(self._folder))
        if (self._label < 0).any():
            self._choose(self._label[self._folder] >= 0)

    def counts(self, num_labels: int) -> np.ndarray:
        """(K,) number of images of each label."""
        folder = self._folder if self._rows is None else self._folder[self._rows]
        images = np.bincount(folder, minlength=len(self._folders))
        kept = self._label >= 0
        return np.bincount(self._label[kept], images[kept], num_labels).astype(np.int64)

    def name(self, index: int, root: Path) -> str:
        """The path of an image below `root`."""
        row = self._row(index)
        folder = Path(self._folders[self._folder[row]])
        below = folder.relative_to(root) if folder.is_relative_to(root) else folder
        return f"{below.as_posix()}/{self._names[row]}"

    def _record(self, row: int) -> ImageRecord:
        folder = self._folder[row]
        return ImageRecord(Path(self._folders[folder], self._names[row]), int(self._label[folder]))


class Folders(NamedTuple):
    """What a reading gives: a listing of each entry, the classes in order, and what is odd."""

    listings: tuple[Listing, ...]
    classes: tuple[str, ...]
    errors: tuple[Issue, ...]

    def images(self, labels: Mapping[str, int]) -> ImageFolderIndex:
        """The images of the classes that have a label."""
        return ImageFolderIndex(self.listings, labels)


def _class_of(folder: str) -> str:
    return folder.partition("/")[0]


def read_folders(selection: Selection, track: Track = silent) -> Folders:
    """The images of the entries, which are folders of class folders.

    Classes that the config does not name are the sorted names of the folders in all splits. Images beside the class
    folders, and folders that are no class, are errors. Raises `DataError` for a folder that cannot be read.
    """
    needed = selection.entries if selection.labels else selection.all_entries
    tops = {entry: _look_into(_place(selection.root, entry)) for entry in needed}
    classes = selection.labels or tuple(sorted({name for top in tops.values() for name in top.classes}))
    known, errors, listings = set(classes), [], []
    for entry in selection.entries:
        place = _place(selection.root, entry)
        errors += [
            Issue("unknown class", str(place / name), f"{name!r} is none of the labels")
            for name in tops[entry].classes
            if name not in known
        ]
        if tops[entry].loose:
            message = f"{len(tops[entry].loose)} images lie in no class folder, first {min(tops[entry].loose)}"
            errors.append(Issue("no class", str(place), message))
        listings.append(list_images(place, track))
    return Folders(tuple(listings), classes, tuple(errors))


def _place(root: Path, entry: Entry) -> Path:
    if not isinstance(entry, str):
        raise DataError(f"{root}: a split of kind folder is text (a folder of class folders), not {entry}")
    if not (root / entry).is_dir():
        raise DataError(f"{root / entry}: no such folder of class folders")
    return root / entry


class Top(NamedTuple):
    """What lies right below a root: class folders, sorted, and images without a class."""

    classes: list[str]
    loose: list[str]


def _look_into(root: Path) -> Top:
    found = _scan(root)
    return Top([name for name in found.folders if not name.startswith("__")], [os.fsdecode(n) for n in found.images])


def list_images(root: Path, track: Track = silent) -> Listing:
    """The images below a folder of class folders: from the cache while no folder has changed, else listed anew.

    Raises `DataError` for a folder that cannot be read.
    """
    root = root.resolve()
    place = cache_folder() / "folders" / f"{hashlib.blake2b(os.fsencode(root), digest_size=12).hexdigest()}.npz"
    listing = _load(place, root)
    if listing is None:
        before_ns = time.time_ns() - TICK_NS
        listing = scan_images(root, track)
        if listing.changed_ns.max() < before_ns:
            _store(listing, place)
    return listing


class Scanned(NamedTuple):
    """One folder: when it was changed, what tells it from all others, its folders and images, sorted."""

    changed_ns: int
    key: tuple[int, int]
    folders: list[str]
    images: list[bytes]


def _scan(path: Path) -> Scanned:
    """Look into one folder; hidden ones in it do not count. Raises `DataError`."""
    folders, images = [], []
    try:
        status = path.stat()  # before its content: a later change makes the list old
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.name)
                elif is_image_name(entry.name):
                    images.append(os.fsencode(entry.name))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    shown = sorted(name for name in folders if not name.startswith("."))
    return Scanned(status.st_mtime_ns, (status.st_dev, status.st_ino), shown, sorted(images))


def scan_images(root: Path, track: Track = silent) -> Listing:
    """List the images below a folder of class folders. Raises `DataError`."""
    folders: list[str] = []
    changed_ns: list[int] = []
    blobs: list[bytes] = []
    lengths: list[np.ndarray] = []
    root_changed_ns = _scan(root).changed_ns
    for name in track(_look_into(root).classes, f"Listing images in {root.name}"):
        for below, found in _walk(root, name):
            folders.append(below)
            changed_ns.append(found.changed_ns)
            blobs.append(b"".join(found.images))
            lengths.append(np.fromiter(map(len, found.images), np.uint16, len(found.images)))
    blob = b"".join(blobs)
    ends = np.cumsum(np.concatenate([np.zeros(0, np.uint16), *lengths]), dtype=np.uint64)
    return Listing(
        root=root,
        folders=tuple(folders),
        changed_ns=np.array([*changed_ns, root_changed_ns], np.int64),
        names=np.frombuffer(blob, np.uint8),
        ends=ends.astype(np.min_scalar_type(len(blob))),
        folder=np.repeat(np.arange(len(folders), dtype=np.uint32), [len(part) for part in lengths]),
    )


def _walk(root: Path, name: str) -> Iterator[tuple[str, Scanned]]:
    """A folder below the root and all folders in it; links back to one that they lie in are not followed."""
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(name, frozenset())]
    while waiting:
        below, above = waiting.pop()
        found = _scan(root / below)
        if found.key in above:
            continue
        yield below, found
        waiting += [(f"{below}/{inner}", above | {found.key}) for inner in reversed(found.folders)]


# --- the cache


def _store(listing: Listing, place: Path) -> None:
    store_arrays(
        place,
        version=VERSION,
        root=np.frombuffer(os.fsencode(listing.root), np.uint8),
        folders=np.frombuffer(os.fsencode("\0".join(listing.folders)), np.uint8),
        changed_ns=listing.changed_ns, names=listing.names, ends=listing.ends, folder=listing.folder,
    )  # fmt: skip


def _load(place: Path, root: Path) -> Listing | None:
    """The list of an earlier run; none where there is none, it is broken, or a folder has changed since."""
    try:
        stored = load_arrays(place)
        if int(stored["version"]) != VERSION or stored["root"].tobytes() != os.fsencode(root):
            return None
        text = os.fsdecode(stored["folders"].tobytes())
        arrays = {name: stored[name] for name in ("changed_ns", "names", "ends", "folder")}
        listing = Listing(root, tuple(text.split("\0")) if text else (), **arrays)
        return listing if _is_whole(listing) and _is_fresh(listing) else None
    except BROKEN:
        return None


def _is_whole(listing: Listing) -> bool:
    """Whether the arrays fit together."""
    count, folders = len(listing), len(listing.folders)
    if len(listing.ends) != count or len(listing.changed_ns) != folders + 1:
        return False
    last = int(listing.ends[-1]) if count else 0
    return last == len(listing.names) and (not count or int(listing.folder.max()) < folders)


def _is_fresh(listing: Listing) -> bool:
    """Whether no folder was changed since. Raises `OSError` where one is gone."""
    paths = [*(listing.root / folder for folder in listing.folders), listing.root]
    return [path.stat().st_mtime_ns for path in paths] == listing.changed_ns.tolist()
