"""What is detected of a data set (`Layout`), and how its parts become splits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo9k import io
from yolo9k.config.kinds import KindName
from yolo9k.datasets.readers.records import Entry, reading_data
from yolo9k.datasets.readers.split_names import SPLITS
from yolo9k.io import is_file, is_hidden

Splits = dict[str, tuple[Entry, ...]]
DEPTH = 3  # levels of subfolders that are searched


@dataclass(frozen=True)
class Part:
    """A part of a data set: an entry of a split, the split that its `name` means (`None`: unknown), its images."""

    entry: Entry
    name: str
    split: str | None
    images: int


@dataclass(frozen=True)
class Layout:
    """The detected format: the kind, the entries of each split relative to `root`, what else its files say.

    `notes`: a line about each split, and about what is not used.
    """

    kind: KindName
    root: Path
    splits: Splits
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    extra_columns: int | None = None


def grouped(pairs: Sequence[tuple[str, Entry]]) -> Splits:
    """Group entries by split, in the order train, val, test."""
    splits = {split: tuple(entry for name, entry in pairs if name == split) for split in SPLITS}
    return {split: entries for split, entries in splits.items() if entries}


def assign_splits(kind: KindName, root: Path, parts: Sequence[Part], **facts: Any) -> Layout | None:
    """Return the layout of some parts: those of unknown names are train, unless one is called train.

    What is called trainval is used only if nothing is called train.
    """
    if not parts:
        return None
    joined = {part for part in parts if part.split == "train" and "trainval" in part.name.casefold().rpartition("/")[2]}
    has_train = any(part.split == "train" and part not in joined for part in parts)
    named_train = any(part.split == "train" for part in parts)
    used: list[Part] = []
    unused: list[Part] = []
    for part in parts:
        is_used = not named_train if part.split is None else not (has_train and part in joined)
        (used if is_used else unused).append(part)
    splits = grouped([(part.split or "train", part.entry) for part in used])
    return Layout(kind, root, splits, _split_notes(used, unused), **facts)


def named_layout(kind: KindName, root: Path, parts: Sequence[Part], **facts: Any) -> Layout | None:
    """Return the layout of parts whose splits a file of the data set names; `None` if there are none."""
    splits = grouped([(str(part.split), part.entry) for part in parts])
    return Layout(kind, root, splits, _split_notes(parts, ()), **facts) if parts else None


def _split_notes(used: Sequence[Part], unused: Sequence[Part]) -> tuple[str, ...]:
    notes = []
    for split in SPLITS:
        parts = [part for part in used if (part.split or "train") == split]
        if parts:
            notes.append(f"{split}: " + ", ".join(describe_part(part) for part in parts))
    if unused:
        notes.append("not used: " + ", ".join(describe_part(part) for part in unused))
    return tuple(notes)


def describe_part(part: Part) -> str:
    """Return the count of its images and its name."""
    return f"{part.images:,} image{'' if part.images == 1 else 's'} in {part.name}"


def subfolders(folder: Path) -> list[Path]:
    """Return the visible subfolders, sorted. Raises `DataError` for an unreadable folder."""
    with reading_data(folder):
        return io.subfolders(folder)


def levels(folder: Path) -> Iterator[list[Path]]:
    """Yield the folder, its subfolders, and theirs, at most `DEPTH` levels; each once, whatever links lead there."""
    level, seen = [folder], {folder.resolve()}
    for _ in range(DEPTH):
        yield level
        inner = {subfolder.resolve(): subfolder for path in level for subfolder in subfolders(path)}
        level = [path for resolved, path in inner.items() if resolved not in seen]
        seen |= inner.keys()


def files_with(folder: Path, *suffixes: str, regular: bool = True) -> list[Path]:
    """Return the visible files of a folder with one of the suffixes, in any case, sorted.

    Unless `regular`, also pipes, devices and what else has such a name: their reader says that it cannot be read.
    """
    with reading_data(folder):
        paths = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not is_hidden(path.name)]
    return sorted(path for path in paths if is_file(path) or not regular)
