"""ImageSequence with labels in tar files (shards), in the layout of webdataset.

Files of one sample share their name up to the first dot of its last part: `0001.jpg` and `0001.cls`. All headers are
read once and the places are kept, so that an image is read by a seek, in any order, however many there are.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from yolo9k.datasets.class_mapping import NAME_LISTS, read_class_list
from yolo9k.datasets.readers.index import (
    BROKEN,
    TICK_NS,
    ImageIndex,
    ImageRecord,
    Names,
    joined,
    load_arrays,
    store_arrays,
)
from yolo9k.datasets.readers.records import Entry, Issue, Selection
from yolo9k.datasets.readers.tar import BLOCK, Member, members
from yolo9k.errors import DataError
from yolo9k.fetch import cache_folder
from yolo9k.images import FilePart, is_image_name
from yolo9k.progress import Track, silent

VERSION = 1  # of the cached lists
THREADS = 8  # reading headers waits for the disk
BUFFER = 4096  # bytes read at each header: more would be images
MAX_LABEL = 1 << 20  # bytes of a file that holds a label
MAX_SHARDS = 1_000_000  # names of one pattern
LABEL_KEYS = ("label", "class", "cls")  # of a .json, the first that is there
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
NO_LABEL = ""
BRACES = re.compile(r"\{(?:(?P<first>\d+)\.\.(?P<last>\d+)|(?P<list>[^{}]*,[^{}]*))\}")


@dataclass(frozen=True)
class Shard:
    """The images in one tar file, in order; N of them.

    `stamp`: size and time of change of the file that was listed. `block` (N,): where each begins, in blocks of 512
    bytes; `size` (N,) in bytes; `label` (N,): which of the texts `labels`, of which the empty one is no label.
    `numbered`: labels stand in files, where digits are the number of a class.
    """

    path: Path
    stamp: tuple[int, int]
    names: Names
    block: np.ndarray
    size: np.ndarray
    labels: tuple[str, ...]
    label: np.ndarray
    numbered: bool

    def __len__(self) -> int:
        return len(self.label)

    def image(self, row: int) -> FilePart:
        """Where an image lies."""
        return FilePart(self.path, int(self.block[row]) * BLOCK, int(self.size[row]), self.names[row])


class ShardIndex(ImageIndex):
    """The images of some shards as one sequence of `ImageRecord`, in the order of their names.

    So their order does not depend on how they were packed. `labels` gives the label of each class; images of other
    classes are left out.
    """

    def __init__(self, shards: Sequence[Shard], labels: Mapping[str, int]) -> None:
        self._paths = [shard.path for shard in shards]
        counts = [len(shard) for shard in shards]
        self._shard = np.repeat(np.arange(len(shards), dtype=np.min_scalar_type(len(shards))), counts)
        self._names = Names.joined([shard.names for shard in shards])
        self._block, self._size = (joined([getattr(shard, name) for shard in shards]) for name in ("block", "size"))
        self._label = joined([_nodes(shard, labels)[shard.label] for shard in shards])
        super().__init__(len(self._label))
        order = self._names.order()
        self._choose(order[self._label[order] >= 0])

    def counts(self, num_labels: int) -> np.ndarray:
        """(K,) number of images of each label."""
        return np.bincount(self._label[self._rows], minlength=num_labels)

    def name(self, index: int, root: Path) -> str:
        """The name of an image in its tar file: packing it elsewhere does not change it."""
        return self._names[self._row(index)]

    def _record(self, row: int) -> ImageRecord:
        path = self._paths[self._shard[row]]
        part = FilePart(path, int(self._block[row]) * BLOCK, int(self._size[row]), self._names[row])
        return ImageRecord(part, int(self._label[row]))


def _nodes(shard: Shard, labels: Mapping[str, int]) -> np.ndarray:
    """The label of each of its texts, -1 where there is none."""
    kind = np.min_scalar_type(-max(labels.values(), default=0) - 1)
    return np.array([labels.get(text, -1) for text in shard.labels], kind)


class Shards(NamedTuple):
    """What a reading gives: the shards, whose labels are classes, the classes in order, and what is odd."""

    shards: tuple[Shard, ...]
    classes: tuple[str, ...]
    errors: tuple[Issue, ...]

    def images(self, labels: Mapping[str, int]) -> ShardIndex:
        """The images of the classes that have a label."""
        return ShardIndex(self.shards, labels)


def read_shards(selection: Selection, track: Track = silent) -> Shards:
    """The images of the entries: tar files, folders of them, patterns such as `train-{000..146}.tar`.

    Classes that the config does not name are those of a list of names in the root (`classes.txt`), else the sorted
    labels of all splits. Images without a label, or with one that is no class, are errors. Raises `DataError` for a
    tar file that is missing or broken, and where labels are numbers of classes that nobody names.
    """
    classes = selection.labels or read_class_list(selection.root / name for name in NAME_LISTS)
    needed = selection.entries if classes else tuple(dict.fromkeys((*selection.entries, *selection.all_entries)))
    tars = {entry: find_tars(selection.root, entry) for entry in needed}
    listed = list_shards([path for paths in tars.values() for path in paths], track)
    classes = classes or _classes_of(listed.values(), selection.root)
    known = set(classes)
    shards: list[Shard] = []
    errors: list[Issue] = []
    for path in dict.fromkeys(path for entry in selection.entries for path in tars[entry]):
        shards.append(_named(listed[path], classes))
        errors += _defects(shards[-1], known)
    return Shards(tuple(shards), classes, tuple(errors))


def _classes_of(shards: Iterable[Shard], root: Path) -> tuple[str, ...]:
    found = set()
    for shard in shards:
        number = next((text for text in shard.labels if _is_number(text)), None) if shard.numbered else None
        if number is not None:
            raise DataError(
                f"{shard.path}: labels are numbers, such as {number}, and nobody names them; write the names in order "
                f"into the config (labels: [...]), or one a line into {root / NAME_LISTS[0]}"
            )
        found |= set(shard.labels)
    return tuple(sorted(found - {NO_LABEL}))


def _named(shard: Shard, classes: Sequence[str]) -> Shard:
    """The shard with the classes that its labels mean; a number beyond the last class means none."""
    if not shard.numbered:
        return shard
    return replace(shard, labels=tuple(_class_of(text, classes) for text in shard.labels))


def _class_of(text: str, classes: Sequence[str]) -> str:
    if not _is_number(text):
        return text
    return classes[int(text)] if int(text) < len(classes) else f"number {text}"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _defects(shard: Shard, known: set[str]) -> Iterator[Issue]:
    counts = np.bincount(shard.label, minlength=len(shard.labels))
    for number, text in enumerate(shard.labels):
        if text not in known and counts[number]:
            first = shard.image(int(np.argmax(shard.label == number)))
            images = f"{counts[number]} images of this file" if counts[number] > 1 else "one image of this file"
            if text == NO_LABEL:
                yield Issue("no label", str(first), f"no label that can be read; so {images}")
            else:
                yield Issue("unknown class", str(first), f"{text!r} is none of the labels; so {images}")


# --- which tar files


def find_tars(root: Path, entry: Entry) -> list[Path]:
    """The tar files of an entry of a split, in order. Raises `DataError` where one is not there."""
    if not isinstance(entry, str):
        raise DataError(f"{root}: a split of kind shards is text (a tar file, a folder or a pattern), not {entry}")
    if (root / entry).is_dir():
        return _in_folder(root / entry)
    paths = [root / entry] if (root / entry).exists() else [root / name for name in expand(entry)]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        of = "" if len(paths) == 1 else f" (of {entry})"
        raise DataError(f"{missing}: no such tar file or folder of tar files{of}")
    return paths


def _in_folder(folder: Path) -> list[Path]:
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror or error}") from error
    found = [path for path in files if path.name.lower().endswith((".tar", *COMPRESSED))]
    if not found:
        raise DataError(f"{folder}: a folder without tar files")
    return found


def expand(pattern: str) -> list[str]:
    """The names that braces stand for: `{000..146}` counts, `{a,b}` lists. Raises `DataError` for too many."""
    done, waiting = [], [pattern]
    while waiting:
        text = waiting.pop()
        found = BRACES.search(text)
        if found is None:
            done.append(text)
            continue
        if len(waiting) + len(done) + _number_of(found) > MAX_SHARDS:
            raise DataError(f"{pattern}: stands for more than {MAX_SHARDS} tar files")
        waiting += [f"{text[: found.start()]}{each}{text[found.end() :]}" for each in reversed(_choices(found))]
    return done


def _number_of(braces: re.Match[str]) -> int:
    if braces["list"] is not None:
        return braces["list"].count(",") + 1
    return abs(int(braces["last"]) - int(braces["first"])) + 1


def _choices(braces: re.Match[str]) -> list[str]:
    if braces["list"] is not None:
        return braces["list"].split(",")
    ends = braces["first"], braces["last"]
    width = max(map(len, ends)) if any(end.startswith("0") for end in ends) else 0
    first, last = map(int, ends)
    step = 1 if first <= last else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]


# --- what lies in them


def list_shards(paths: Sequence[Path], track: Track = silent) -> dict[Path, Shard]:
    """The images of tar files: of each from the cache while it has not changed, else listed anew.

    Raises `DataError` for one that cannot be used.
    """
    different = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(list_shard, different)
        try:
            return dict(zip(different, track(found, "Listing shards", len(different)), strict=True))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C, or one is broken: the others need not be read
            raise


def list_shard(path: Path) -> Shard:
    """The images of one tar file, as `list_shards`."""
    path = path.resolve()
    place = cache_folder() / "shards" / f"{hashlib.blake2b(os.fsencode(path), digest_size=12).hexdigest()}.npz"
    before_ns = time.time_ns() - TICK_NS
    shard = _load(place, path)
    if shard is None:
        shard = scan_shard(path)
        if shard.stamp[1] < before_ns:
            _store(shard, place)
    return shard


def scan_shard(path: Path) -> Shard:
    """Read the headers of a tar file, and the labels in it. Raises `DataError`."""
    try:
        with path.open("rb", buffering=BUFFER) as file:
            status = os.fstat(file.fileno())  # before the content: a later change makes the list old
            return _scan(file, path, (status.st_size, status.st_mtime_ns))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such tar file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _scan(file: BinaryIO, path: Path, stamp: tuple[int, int]) -> Shard:
    images: dict[str, Member] = {}  # by name: of two of one name the later counts, as in unpacking
    labels: dict[str, str] = {}  # by what the files of a sample share
    others = False
    for member in members(file, path):
        name = _plain(member.name)
        if name is None:
            continue
        key, ending = split_name(name)
        if is_image_name(name.rpartition("/")[2]):
            if member.is_link:
                raise DataError(
                    f"{path}: byte {member.offset - BLOCK}: {name}: a link to an image; pack with "
                    "--dereference --hard-dereference"
                )
            images[name] = member
        elif ending == "cls" or (ending == "json" and key not in labels):
            labels[key] = _label_in(file, member, ending)
        else:
            others = True
    texts = _label_of_each(images, labels, "" if others else path.name.partition(".")[0])
    return _shard(path, stamp, images, texts, bool(labels))


def _plain(name: str) -> str | None:
    """The name without `./`; none for what is hidden, or was put beside by a program."""
    if "./" in name or "//" in name or name.startswith("/"):
        name = "/".join(part for part in name.split("/") if part not in ("", "."))
    hidden = name.startswith((".", "__")) or "/." in name or "\0" in name
    return None if hidden else name


def split_name(name: str) -> tuple[str, str]:
    """What the files of a sample share, and the rest of a name, in lower case: `a/01.x.JPG` is (`a/01`, `x.jpg`)."""
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _label_in(file: BinaryIO, member: Member, ending: str) -> str:
    """The label that a file of a sample holds; none where it cannot be read."""
    if member.size > MAX_LABEL:
        return NO_LABEL
    file.seek(member.offset)
    try:
        text = file.read(member.size).decode("utf-8-sig").strip()
        text = text if ending == "cls" else _label_of_json(text)
    except (ValueError, RecursionError):
        return NO_LABEL
    return text if text.isprintable() else NO_LABEL


def _label_of_json(text: str) -> str:
    values = json.loads(text)
    value = next((values[key] for key in LABEL_KEYS if key in values), None) if isinstance(values, dict) else None
    return str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else NO_LABEL


def _label_of_each(images: Iterable[str], labels: Mapping[str, str], title: str) -> list[str]:
    """The label of each image: from a file of its sample; where no sample has one, its first folder.

    A tar file of nothing but images in no folder is a class itself, called by its `title` (ImageNet's own archives).
    """
    if labels:
        return [labels.get(split_name(name)[0], NO_LABEL) for name in images]
    folders = [folder if slash else NO_LABEL for folder, slash, _ in (name.partition("/") for name in images)]
    return folders if any(folders) else [title] * len(folders)


def _shard(
    path: Path, stamp: tuple[int, int], images: Mapping[str, Member], texts: Sequence[str], numbered: bool
) -> Shard:
    labels = tuple(dict.fromkeys(texts))
    number = {text: i for i, text in enumerate(labels)}
    return Shard(
        path,
        stamp,
        Names.of([os.fsencode(name) for name in images]),
        _smallest([member.offset // BLOCK for member in images.values()]),
        _smallest([member.size for member in images.values()]),
        labels,
        _smallest([number[text] for text in texts]),
        numbered,
    )


def _smallest(numbers: Sequence[int]) -> np.ndarray:
    """Numbers in the smallest type that holds them."""
    return np.array(numbers, np.min_scalar_type(max(numbers, default=0)))


# --- the cache


def _store(shard: Shard, place: Path) -> None:
    store_arrays(
        place,
        version=VERSION, stamp=shard.stamp, numbered=shard.numbered,
        path=np.frombuffer(os.fsencode(shard.path), np.uint8),
        labels=np.frombuffer(os.fsencode("\0".join(shard.labels)), np.uint8),
        names=shard.names.blob, ends=shard.names.ends, block=shard.block, size=shard.size, label=shard.label,
    )  # fmt: skip


def _load(place: Path, path: Path) -> Shard | None:
    """The list of an earlier run; none where there is none, it is broken, or the file has changed since."""
    try:
        stored = load_arrays(place)
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns)
        if int(stored["version"]) != VERSION or tuple(stored["stamp"].tolist()) != stamp:
            return None
        if stored["path"].tobytes() != os.fsencode(path):
            return None
        names = Names(stored["names"], stored["ends"])
        labels = tuple(os.fsdecode(stored["labels"].tobytes()).split("\0")) if len(names) else ()
        arrays = {name: stored[name] for name in ("block", "size", "label")}
        shard = Shard(path, stamp, names, labels=labels, numbered=bool(stored["numbered"]), **arrays)
        return shard if _is_whole(shard) else None
    except BROKEN:
        return None


def _is_whole(shard: Shard) -> bool:
    """Whether the arrays fit together, and into the file."""
    count = len(shard)
    if not len(shard.names) == len(shard.block) == len(shard.size) == count:
        return False
    if not count:
        return not len(shard.names.blob)
    ends = shard.block.astype(np.int64) * BLOCK + shard.size
    inside = int(ends.max()) <= shard.stamp[0] and int(shard.label.max()) < len(shard.labels)
    return inside and int(shard.names.ends[-1]) == len(shard.names.blob)
