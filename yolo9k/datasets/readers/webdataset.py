"""Read tar files of labelled images (shards) in webdataset's layout.

The files of a sample share their name up to the first dot of the last part: `0001.jpg` and `0001.cls`. All headers are
read once and the offsets are kept in the index cache, so that any image can be read by a seek, in any order.
"""

import json
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from braceexpand import braceexpand

from yolo9k.datasets.class_mapping import NAME_LISTS, read_class_list
from yolo9k.datasets.readers.index import (
    CACHE_ERRORS,
    MTIME_RESOLUTION_NS,
    ImageIndex,
    ImageRecord,
    PackedStrings,
    concatenate,
    index_cache_file,
    load_index_cache,
    save_index_cache,
)
from yolo9k.datasets.readers.records import Entry, Issue, SplitRequest
from yolo9k.datasets.readers.tar import BLOCK, Member, members
from yolo9k.datasets.threads import mapped_in_threads
from yolo9k.errors import DataError, shorten
from yolo9k.image_formats import is_image_name
from yolo9k.images import FilePart
from yolo9k.io import exists, is_file, is_folder, is_hidden
from yolo9k.progress import Track, silent

VERSION = 2  # of the index cache
BUFFER = 4096  # bytes read per header; more would read images
MAX_LABEL_SIZE = 1 << 20  # bytes of a label file
MAX_DIGITS = 18  # of a class index; a longer number is no index
MAX_SHARDS = 1_000_000  # tar files per pattern
LABEL_KEYS = ("label", "class", "cls")  # of a .json file, in order of preference
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
NO_LABEL = ""
INNERMOST_BRACES = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(-?\d+|[A-Za-z])\.\.(-?\d+|[A-Za-z])(?:\.\.-?\d+)?$")  # with an optional step


@dataclass(frozen=True)
class Shard:
    """The N images in one tar file, in order.

    `stamp`: size and modification time of the tar file when it was listed. `block` (N,): offset of each image in blocks
    of 512 bytes; `size` (N,): bytes; `label` (N,): index into `labels`, the texts of the labels ("": no label).
    `numbered`: the labels are from label files, where digits mean a class index.
    """

    path: Path
    stamp: tuple[int, int]
    names: PackedStrings
    block: np.ndarray
    size: np.ndarray
    labels: tuple[str, ...]
    label: np.ndarray
    numbered: bool

    def __len__(self) -> int:
        return len(self.label)

    def image(self, row: int) -> FilePart:
        """Return the part of the tar file that holds an image."""
        return FilePart(self.path, int(self.block[row]) * BLOCK, int(self.size[row]), self.names[row])


class ShardIndex(ImageIndex):
    """The images of several shards as one sequence of `ImageRecord`, sorted by name.

    The order therefore does not depend on how images are packed. `labels`: the label of each class; images of other
    classes are excluded.
    """

    def __init__(self, shards: Sequence[Shard], labels: Mapping[str, int]) -> None:
        self._paths = [shard.path for shard in shards]
        counts = [len(shard) for shard in shards]
        self._shard = np.repeat(np.arange(len(shards), dtype=np.min_scalar_type(len(shards))), counts)
        self._names = PackedStrings.concatenate([shard.names for shard in shards])
        self._block = concatenate([shard.block for shard in shards])
        self._size = concatenate([shard.size for shard in shards])
        self._label = concatenate([_nodes(shard, labels)[shard.label] for shard in shards])
        super().__init__(len(self._label))
        order = self._names.argsort()
        self._select(order[self._label[order] >= 0])

    def counts(self, num_labels: int) -> np.ndarray:
        """Return (K,) the image count of each label."""
        return np.bincount(self._label[self._rows], minlength=num_labels)

    def name(self, index: int, root: Path) -> str:
        """Return the name of an image in its tar file, which does not depend on the tar file."""
        return self._names[self._row(index)]

    def _record(self, row: int) -> ImageRecord:
        path = self._paths[self._shard[row]]
        part = FilePart(path, int(self._block[row]) * BLOCK, int(self._size[row]), self._names[row])
        return ImageRecord(part, int(self._label[row]))


def _nodes(shard: Shard, labels: Mapping[str, int]) -> np.ndarray:
    """Return the label of each label text of a shard; -1 if it has none."""
    dtype = np.min_scalar_type(-max(labels.values(), default=0) - 1)
    return np.array([labels.get(text, -1) for text in shard.labels], dtype)


class ShardReadResult(NamedTuple):
    """The shards, with class names as label texts; the class names in order, and the issues."""

    shards: tuple[Shard, ...]
    classes: tuple[str, ...]
    errors: tuple[Issue, ...]

    def images(self, labels: Mapping[str, int]) -> ShardIndex:
        """Return the images of the classes that have a label."""
        return ShardIndex(self.shards, labels)


def read_shards(request: SplitRequest, track: Track = silent) -> ShardReadResult:
    """List the images of the entries: tar files, folders of tar files, or patterns such as `train-{000..146}.tar`.

    Without class names in the request, they are those of a class list in the root (`classes.txt`), else the sorted
    labels of all splits. Images without a label or with an unknown class are issues. Raises `DataError` for a missing
    or broken tar file, and for labels that are class indices if there are no class names.
    """
    classes = request.labels or read_class_list(request.root / name for name in NAME_LISTS)
    needed = request.entries if classes else tuple(dict.fromkeys((*request.entries, *request.all_entries)))
    paths = {entry: find_tars(request.root, entry) for entry in needed}
    listed = list_shards([path for entry in needed for path in paths[entry]], track)
    classes = classes or _find_class_names(listed.values(), request.root)
    known = set(classes)
    shards: list[Shard] = []
    errors: list[Issue] = []
    for path in dict.fromkeys(path for entry in request.entries for path in paths[entry]):
        shards.append(_with_class_names(listed[path], classes))
        errors += _find_issues(shards[-1], known)
    return ShardReadResult(tuple(shards), classes, tuple(errors))


def _find_class_names(shards: Iterable[Shard], root: Path) -> tuple[str, ...]:
    """Return the sorted labels. Raises `DataError` if they are class indices."""
    names = set()
    for shard in shards:
        index = next((text for text in shard.labels if _is_index(text)), None) if shard.numbered else None
        if index is not None:
            raise DataError(
                f"{shard.path}: labels are class indices, such as {index}, but there are no class names; add them in "
                f"order to the config (labels: [...]), or one per line to {root / NAME_LISTS[0]}"
            )
        names |= set(shard.labels)
    return tuple(sorted(names - {NO_LABEL}))


def _with_class_names(shard: Shard, classes: Sequence[str]) -> Shard:
    """Return the shard with class indices in its labels replaced by class names."""
    if not shard.numbered:
        return shard
    return replace(shard, labels=tuple(_class_name(text, classes) for text in shard.labels))


def _class_name(text: str, classes: Sequence[str]) -> str:
    if not _is_index(text):
        return text
    return classes[int(text)] if int(text) < len(classes) else f"class index {text}"


def _is_index(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS


def _find_issues(shard: Shard, known: set[str]) -> Iterator[Issue]:
    """Yield one issue per label of a shard that is missing or not a class name, or one if it has no image."""
    if not len(shard):
        yield Issue("no image", str(shard.path), "no image in this tar file")
    counts = np.bincount(shard.label, minlength=len(shard.labels))
    for index, text in enumerate(shard.labels):
        if text not in known and counts[index]:
            first = str(shard.image(int(np.argmax(shard.label == index))))
            images = f"{counts[index]} image{'s' if counts[index] > 1 else ''} in this file"
            if text == NO_LABEL:
                yield Issue("no label", first, f"no readable label ({images})")
            else:
                yield Issue("unknown class", first, f"{shorten(text)!r} is not one of the class names ({images})")


# --- finding tar files


def find_tars(root: Path, entry: Entry) -> list[Path]:
    """Return the tar files of an entry of a split, in order. Raises `DataError` if one is missing."""
    if not isinstance(entry, str):
        raise DataError(f"{root}: a split of kind shards must be text (a tar file, folder or pattern), not {entry}")
    if is_folder(root / entry):
        return _tars_in_folder(root / entry)
    paths = [root / entry] if exists(root / entry) else [root / name for name in expand_braces(entry)]
    missing = next((path for path in paths if not is_file(path)), None)
    if missing is not None:
        pattern = "" if len(paths) == 1 else f" (of {shorten(entry)})"
        raise DataError(f"{missing}: no such tar file or folder of tar files{pattern}")
    return paths


def _tars_in_folder(folder: Path) -> list[Path]:
    try:
        files = sorted(path for path in folder.iterdir() if not is_hidden(path.name))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from error
    tars = [path for path in files if path.name.lower().endswith((".tar", *COMPRESSED))]
    if not tars:
        raise DataError(f"{folder}: no tar files in this folder")
    return tars


def expand_braces(pattern: str) -> list[str]:
    """Expand braces as bash does: `{000..146}` counts, `{a,b}` lists; other braces are kept.

    Raises `DataError` for unbalanced braces, and for too many names before any of them is made.
    """
    try:
        count, rest = 1, pattern
        while groups := INNERMOST_BRACES.findall(rest):  # from the inside out: the library copies ranges into memory
            count *= math.prod(map(_max_choices, groups))
            rest = INNERMOST_BRACES.sub("", rest)
        if count > MAX_SHARDS:
            raise DataError(f"{shorten(pattern)}: expands to more than {MAX_SHARDS} tar files")
        return list(braceexpand(pattern, escape=False))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shorten(pattern)}: braces must be balanced, such as {{000..146}} or {{a,b}}") from error


def _max_choices(group: str) -> int:
    """Return an upper bound of the choices in braces without inner braces."""
    ends = RANGE.match(group)
    if ends is None:
        return group.count(",") + 1
    first, last = (ord(end) if end.isalpha() else int(end) for end in ends.groups())
    return abs(last - first) + 1


# --- listing the images in tar files


def list_shards(paths: Sequence[Path], track: Track = silent) -> dict[Path, Shard]:
    """List the images of tar files: from the index cache if a file has not changed, else by reading its headers.

    Raises `DataError` for a file that cannot be used.
    """
    unique = list(dict.fromkeys(paths))
    with mapped_in_threads(list_shard, unique) as shards:
        return dict(zip(unique, track(shards, "Listing shards", len(unique)), strict=True))


def list_shard(path: Path) -> Shard:
    """List the images of one tar file, as `list_shards`."""
    path = path.resolve()
    cache = index_cache_file("shards", path)
    before_ns = time.time_ns() - MTIME_RESOLUTION_NS
    shard = _load_shard(cache, path)
    if shard is None:
        shard = scan_shard(path)
        if shard.stamp[1] < before_ns:  # a newer change could have the same time
            _save_shard(shard, cache)
    return shard


def scan_shard(path: Path) -> Shard:
    """List the images of a tar file by reading its headers and label files. Raises `DataError`."""
    try:
        with path.open("rb", buffering=BUFFER) as file:
            status = os.fstat(file.fileno())  # before the content, so that a later change makes the listing outdated
            return _scan(file, path, (status.st_size, status.st_mtime_ns))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such tar file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _scan(file: BinaryIO, path: Path, stamp: tuple[int, int]) -> Shard:
    images: dict[str, Member] = {}  # by name: the last of equal names is used, as when unpacking
    labels: dict[str, str] = {}  # by sample key
    has_other_files = False
    for member in members(file, path):
        name = _visible_name(member.name)
        if name is None:
            continue
        key, extension = split_name(name)
        if is_image_name(name.rpartition("/")[2]):
            if member.is_link:
                raise DataError(
                    f"{path}: byte {member.offset - BLOCK}: {name}: a link to an image; pack with "
                    "--dereference --hard-dereference"
                )
            images[name] = member
        elif extension == "cls" or (extension == "json" and key not in labels):
            labels[key] = _read_label(file, member, extension)
        else:
            has_other_files = True
    texts = _image_labels(images, labels, "" if has_other_files else path.name.partition(".")[0])
    return _make_shard(path, stamp, images, texts, bool(labels))


def _visible_name(name: str) -> str | None:
    """Return the name without `./`; `None` for hidden and foreign files, as in folders."""
    if "./" in name or "//" in name or name.startswith("/"):
        name = "/".join(part for part in name.split("/") if part not in ("", "."))
    return None if "\0" in name or any(map(is_hidden, name.split("/"))) else name


def split_name(name: str) -> tuple[str, str]:
    """Split a name into sample key and extension, in lower case: `a/01.x.JPG` -> (`a/01`, `x.jpg`)."""
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return f"{folder}{slash}{stem}", extension.lower()


def _read_label(file: BinaryIO, member: Member, extension: str) -> str:
    """Return the label in a label file of a sample; `NO_LABEL` if it is invalid."""
    if member.size > MAX_LABEL_SIZE:
        return NO_LABEL
    file.seek(member.offset)
    try:
        text = file.read(member.size).decode("utf-8-sig").strip()
        text = text if extension == "cls" else _parse_json_label(text)
    except (ValueError, RecursionError):
        return NO_LABEL
    return text if text.isprintable() else NO_LABEL


def _parse_json_label(text: str) -> str:
    values = json.loads(text)
    value = next((values[key] for key in LABEL_KEYS if key in values), None) if isinstance(values, dict) else None
    return str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else NO_LABEL


def _image_labels(images: Iterable[str], labels: Mapping[str, str], title: str) -> list[str]:
    """Return the label text of each image: from the label file of its sample; without label files, its first folder.

    A tar file with nothing but images outside of folders is a class with the name `title` (ImageNet's own archives).
    """
    if labels:
        return [labels.get(split_name(name)[0], NO_LABEL) for name in images]
    folders = [folder if slash else NO_LABEL for folder, slash, _ in (name.partition("/") for name in images)]
    return folders if any(folders) else [title] * len(folders)


def _make_shard(
    path: Path, stamp: tuple[int, int], images: Mapping[str, Member], texts: Sequence[str], numbered: bool
) -> Shard:
    labels = tuple(dict.fromkeys(texts))
    index = {text: i for i, text in enumerate(labels)}
    return Shard(
        path,
        stamp,
        PackedStrings.of([os.fsencode(name) for name in images]),
        _smallest_dtype([member.offset // BLOCK for member in images.values()]),
        _smallest_dtype([member.size for member in images.values()]),
        labels,
        _smallest_dtype([index[text] for text in texts]),
        numbered,
    )


def _smallest_dtype(values: Sequence[int]) -> np.ndarray:
    """Return an array in the smallest dtype that holds the values."""
    return np.array(values, np.min_scalar_type(max(values, default=0)))


# --- the index cache


def _save_shard(shard: Shard, cache: Path) -> None:
    save_index_cache(
        cache,
        version=VERSION, stamp=shard.stamp, numbered=shard.numbered,
        path=np.frombuffer(os.fsencode(shard.path), np.uint8),
        labels=np.frombuffer(os.fsencode("\0".join(shard.labels)), np.uint8),
        names=shard.names.blob, ends=shard.names.ends, block=shard.block, size=shard.size, label=shard.label,
    )  # fmt: skip


def _load_shard(cache: Path, path: Path) -> Shard | None:
    """Return the listing of an earlier run; `None` if it is missing, broken or outdated."""
    try:
        cached = load_index_cache(cache)
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
        if int(cached["version"]) != VERSION or tuple(cached["stamp"].tolist()) != stamp:
            return None
        if cached["path"].tobytes() != os.fsencode(path):
            return None
        names = PackedStrings(cached["names"], cached["ends"])
        labels = tuple(os.fsdecode(cached["labels"].tobytes()).split("\0")) if len(names) else ()
        arrays = {name: cached[name] for name in ("block", "size", "label")}
        shard = Shard(path, stamp, names, labels=labels, numbered=bool(cached["numbered"]), **arrays)
        return shard if _is_consistent(shard) else None
    except CACHE_ERRORS:
        return None


def _is_consistent(shard: Shard) -> bool:
    """Return whether the arrays fit together and into the tar file."""
    count = len(shard)
    if not len(shard.names) == len(shard.block) == len(shard.size) == count:
        return False
    if not count:
        return not len(shard.names.blob)
    ends = shard.block.astype(np.int64) * BLOCK + shard.size
    is_inside = int(ends.max()) <= shard.stamp[0] and int(shard.label.max()) < len(shard.labels)
    return is_inside and int(shard.names.ends[-1]) == len(shard.names.blob)
