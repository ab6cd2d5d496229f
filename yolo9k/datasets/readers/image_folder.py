"""Read class folders: each folder is a class, and the images in it (at any depth) have its image-level label.

The whole ImageNet release has 14 million files in 21 thousand folders. They are listed once into a few arrays, which
are kept in the index cache; an image becomes an object only on access.
"""

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from yolo9k.datasets.readers.index import (
    CACHE_ERRORS,
    MTIME_RESOLUTION_NS,
    ImageIndex,
    ImageRecord,
    PackedStrings,
    add_offset,
    concatenate,
    index_cache_file,
    load_index_cache,
    save_index_cache,
)
from yolo9k.datasets.readers.records import Entry, Issue, SplitRequest
from yolo9k.errors import DataError
from yolo9k.image_formats import count_skipped, describe_skipped_suffixes, is_image_name, readable_suffixes
from yolo9k.io import holds_results, is_folder, is_folder_entry, is_hidden
from yolo9k.progress import Track, silent

VERSION = 4  # of the index cache

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderListing:
    """N images in F folders below `root`, sorted by folder and file name.

    `folders` (F): paths relative to the root, whose first part is the class. Image i is in `folders[folder[i]]`; its
    file name is string i of `PackedStrings(names, ends)`. `changed_ns` (F + 1): modification time of each folder, and
    of the root. `skipped`: the count of images in formats that cannot be read here, by suffix.
    """

    root: Path
    folders: tuple[str, ...]
    changed_ns: np.ndarray
    names: np.ndarray
    ends: np.ndarray
    folder: np.ndarray
    skipped: Mapping[str, int]

    def __len__(self) -> int:
        return len(self.folder)

    @property
    def nbytes(self) -> int:
        """Return the memory of the arrays in bytes."""
        return sum(array.nbytes for array in (self.changed_ns, self.names, self.ends, self.folder))


class ImageFolderIndex(ImageIndex):
    """The images of several listings as one sequence of `ImageRecord`.

    `labels`: the label of each class; images of other classes are excluded.
    """

    def __init__(self, listings: Sequence[FolderListing], labels: Mapping[str, int]) -> None:
        starts = np.cumsum([0, *(len(listing.folders) for listing in listings)])
        self._folders = [str(listing.root / folder) for listing in listings for folder in listing.folders]
        self._label = np.array(
            [labels.get(folder.partition("/")[0], -1) for listing in listings for folder in listing.folders], np.int64
        )
        self._names = PackedStrings.concatenate([PackedStrings(listing.names, listing.ends) for listing in listings])
        self._folder = concatenate(
            [add_offset(listing.folder, start) for listing, start in zip(listings, starts[:-1], strict=True)]
        )
        super().__init__(len(self._folder))
        if (self._label < 0).any():
            self._select(self._label[self._folder] >= 0)

    def counts(self, num_labels: int) -> np.ndarray:
        """Return (K,) the image count of each label."""
        folder = self._folder if self._rows is None else self._folder[self._rows]
        images = np.bincount(folder, minlength=len(self._folders))
        kept = self._label >= 0
        return np.bincount(self._label[kept], images[kept], num_labels).astype(np.int64)

    def name(self, index: int, root: Path) -> str:
        """Return the path of an image relative to `root`."""
        row = self._row(index)
        folder = Path(self._folders[self._folder[row]])
        relative = folder.relative_to(root) if folder.is_relative_to(root) else folder
        return f"{relative.as_posix()}/{self._names[row]}"

    def _record(self, row: int) -> ImageRecord:
        folder = self._folder[row]
        return ImageRecord(Path(self._folders[folder], self._names[row]), int(self._label[folder]))


class FolderReadResult(NamedTuple):
    """The listing of each entry, the class names in order, and the issues."""

    listings: tuple[FolderListing, ...]
    classes: tuple[str, ...]
    errors: tuple[Issue, ...]

    def images(self, labels: Mapping[str, int]) -> ImageFolderIndex:
        """Return the images of the classes that have a label."""
        return ImageFolderIndex(self.listings, labels)


def read_folders(request: SplitRequest, track: Track = silent) -> FolderReadResult:
    """List the images of the entries, which are folders of class folders.

    Without class names in the request, they are the sorted folder names of all splits. Images outside of class folders,
    and folders that are not a class, are issues. Raises `DataError` for a folder that is missing or unreadable.
    """
    needed = request.entries if request.labels else request.all_entries
    contents = {entry: _read_root(_entry_folder(request.root, entry)) for entry in needed}
    folder_names = {name for content in contents.values() for name in content.class_folders}
    classes = request.labels or tuple(sorted(folder_names))
    known, errors, listings = set(classes), [], []
    for entry in request.entries:
        folder, content = _entry_folder(request.root, entry), contents[entry]
        errors += [
            Issue("unknown class", str(folder / name), f"{name!r} is not one of the class names")
            for name in content.class_folders
            if name not in known
        ]
        if content.images:
            message = f"{len(content.images)} images are not in a class folder; first: {min(content.images)}"
            errors.append(Issue("no class", str(folder), message))
        listings.append(list_images(folder, track))
        for line in describe_skipped_suffixes(listings[-1].skipped):
            log.warning("%s: %s", folder, line)
    return FolderReadResult(tuple(listings), classes, tuple(errors))


def _entry_folder(root: Path, entry: Entry) -> Path:
    if not isinstance(entry, str):
        raise DataError(f"{root}: a split of kind folder must be text (a folder of class folders), not {entry}")
    if not is_folder(root / entry):
        raise DataError(f"{root / entry}: no such folder of class folders")
    return root / entry


class RootContent(NamedTuple):
    """What is directly in a root folder: class folders (sorted), and images without a class."""

    class_folders: list[str]
    images: list[str]


def _read_root(root: Path) -> RootContent:
    scan = _scan_folder(root)
    return RootContent(scan.folders, [os.fsdecode(name) for name in scan.images])


def list_images(root: Path, track: Track = silent) -> FolderListing:
    """List the images below a folder of class folders: from the index cache if no folder has changed, else by a scan.

    Raises `DataError` for an unreadable folder.
    """
    root = root.resolve()
    cache = index_cache_file("folders", root)
    listing = _load_listing(cache, root)
    if listing is None:
        before_ns = time.time_ns() - MTIME_RESOLUTION_NS
        listing = scan_images(root, track)
        if listing.changed_ns.max() < before_ns:  # a newer change could have the same time
            _save_listing(listing, cache)
    return listing


class FolderScan(NamedTuple):
    """One folder: its modification time, its identity (device and inode), its subfolders and images, both sorted.

    `skipped`: as of `FolderListing`.
    """

    changed_ns: int
    identity: tuple[int, int]
    folders: list[str]
    images: list[bytes]
    skipped: "Counter[str]"


def _scan_folder(path: Path) -> FolderScan:
    """Scan one folder, without hidden files and subfolders. Raises `DataError`."""
    folders, images, others = [], [], []
    try:
        status = path.stat()  # before the scan, so that a later change makes the listing outdated
        with os.scandir(path) as entries:
            for entry in entries:
                if is_folder_entry(entry):
                    folders.append(entry.name)
                elif is_image_name(entry.name):
                    images.append(os.fsencode(entry.name))
                else:
                    others.append(entry.name)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    visible = sorted(name for name in folders if not is_hidden(name) and not holds_results(path / name))
    identity = (status.st_dev, status.st_ino)
    return FolderScan(status.st_mtime_ns, identity, visible, sorted(images), count_skipped(others))


def scan_images(root: Path, track: Track = silent) -> FolderListing:
    """List the images below a folder of class folders by scanning it. Raises `DataError`."""
    folders: list[str] = []
    changed_ns: list[int] = []
    blobs: list[bytes] = []
    lengths: list[np.ndarray] = []
    root_scan = _scan_folder(root)
    skipped = root_scan.skipped
    for name in track(_read_root(root).class_folders, f"Listing images in {root.name}"):
        for folder, scan in _walk(root, name):
            folders.append(folder)
            changed_ns.append(scan.changed_ns)
            blobs.append(b"".join(scan.images))
            lengths.append(np.fromiter(map(len, scan.images), np.uint16, len(scan.images)))
            skipped += scan.skipped
    blob = b"".join(blobs)
    ends = np.cumsum(np.concatenate([np.zeros(0, np.uint16), *lengths]), dtype=np.uint64)
    return FolderListing(
        root=root,
        folders=tuple(folders),
        changed_ns=np.array([*changed_ns, root_scan.changed_ns], np.int64),
        names=np.frombuffer(blob, np.uint8),
        ends=ends.astype(np.min_scalar_type(len(blob))),
        folder=np.repeat(np.arange(len(folders), dtype=np.uint32), [len(part) for part in lengths]),
        skipped=skipped,
    )


def _walk(root: Path, name: str) -> Iterator[tuple[str, FolderScan]]:
    """Yield a folder below the root and all its subfolders; links back to a parent folder are not followed."""
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [(name, frozenset())]
    while pending:
        folder, parents = pending.pop()
        scan = _scan_folder(root / folder)
        if scan.identity in parents:
            continue
        yield folder, scan
        pending += [(f"{folder}/{inner}", parents | {scan.identity}) for inner in reversed(scan.folders)]


# --- the index cache


def _save_listing(listing: FolderListing, cache: Path) -> None:
    save_index_cache(
        cache,
        version=VERSION,
        root=np.frombuffer(os.fsencode(listing.root), np.uint8),
        folders=np.frombuffer(os.fsencode("\0".join(listing.folders)), np.uint8),
        changed_ns=listing.changed_ns, names=listing.names, ends=listing.ends, folder=listing.folder,
        skipped=_pack(json.dumps(listing.skipped)), readable=_pack(" ".join(readable_suffixes())),
    )  # fmt: skip


def _pack(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def _load_listing(cache: Path, root: Path) -> FolderListing | None:
    """Return the listing of an earlier run; `None` if it is missing, broken or outdated."""
    try:
        cached = load_index_cache(cache)
        if int(cached["version"]) != VERSION or cached["root"].tobytes() != os.fsencode(root):
            return None
        if cached["readable"].tobytes().decode() != " ".join(readable_suffixes()):  # a plugin was installed since
            return None
        skipped = dict(json.loads(cached["skipped"].tobytes()))
        text = os.fsdecode(cached["folders"].tobytes())
        arrays = {name: cached[name] for name in ("changed_ns", "names", "ends", "folder")}
        listing = FolderListing(root, tuple(text.split("\0")) if text else (), skipped=skipped, **arrays)
        return listing if _is_consistent(listing) and _is_current(listing) else None
    except CACHE_ERRORS:
        return None


def _is_consistent(listing: FolderListing) -> bool:
    """Return whether the arrays fit together."""
    count, folders = len(listing), len(listing.folders)
    if len(listing.ends) != count or len(listing.changed_ns) != folders + 1:
        return False
    last = int(listing.ends[-1]) if count else 0
    return last == len(listing.names) and (not count or int(listing.folder.max()) < folders)


def _is_current(listing: FolderListing) -> bool:
    """Return whether no folder has changed since. Raises `OSError` if one is gone."""
    paths = [*(listing.root / folder for folder in listing.folders), listing.root]
    return [path.stat().st_mtime_ns for path in paths] == listing.changed_ns.tolist()
