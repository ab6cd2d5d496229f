"""YOLO text files: one line a box, `class cx cy w h`, relative to the image; one file an image.

Class numbers are places in the list of names, which stands in the config, in `data.yaml` (as Ultralytics and
Roboflow write it) or in `classes.txt`. Lines with more numbers are outlines; their bounding box is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from yolo9k.datasets.readers.records import (
    Entry,
    Findings,
    RawBox,
    Read,
    Record,
    Selection,
    image_size_wh,
    number,
    read_text,
    unreadable,
)
from yolo9k.errors import DataError
from yolo9k.images import is_image_file
from yolo9k.progress import Track, silent

SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}  # Roboflow's folder is `valid`


@dataclass(frozen=True)
class DataYaml:
    """What `data.yaml` says: names in order, and the folders or lists of each split that exist."""

    names: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]

    @classmethod
    def open(cls, path: Path) -> "DataYaml":
        """Read the file. Raises `DataError` where it is not one."""
        try:
            content = yaml.safe_load(read_text(path))
        except yaml.YAMLError as error:
            raise DataError(f"{path}: not YAML: {getattr(error, 'problem', None) or error}") from error
        if not isinstance(content, dict):
            raise DataError(f"{path}: a mapping with 'names' is needed")
        splits = {split: _places(path, content, keys) for split, keys in SPLIT_KEYS.items()}
        return cls(_names(path, content.get("names")), {name: found for name, found in splits.items() if found})


def _names(path: Path, names: Any) -> tuple[str, ...]:
    """Names as a list or as a mapping of numbers to names."""
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: names must be a list, or a mapping of 0, 1, 2, … to names, not {names!r}")
    return tuple(str(name) for name in names)


def _places(path: Path, content: Mapping[str, Any], keys: Sequence[str]) -> tuple[Path, ...]:
    """The existing places of a split; exporters disagree on what the paths are relative to."""
    value: Any = next((content[key] for key in keys if content.get(key)), [])
    base = path.parent / str(content.get("path") or "")
    found = []
    for text in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
        inner = str(text).lstrip("./")  # Roboflow writes ../train/images for a folder beside the file
        candidates = (base / str(text), path.parent / str(text), path.parent / inner)
        found += [place for place in candidates if place.exists()][:1]
    return tuple(found)


def yolo_names(root: Path) -> tuple[str, ...]:
    """The names that lie with a data set. Raises `DataError` where there are none."""
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return DataYaml.open(root / name).names
    for place in (root, root / "labels"):
        if (place / "classes.txt").is_file():
            return tuple(line.strip() for line in read_text(place / "classes.txt").splitlines() if line.strip())
    raise DataError(f"{root}: no labels: name them in the config, or in data.yaml (names) or classes.txt there")


def read_yolo(selection: Selection, findings: Findings, track: Track = silent) -> Read:
    """The images of the folders and lists, sorted inside a folder; sizes come from the images' headers.

    Raises `DataError` for missing folders, lists and names, and for bad files where `findings` says so.
    """
    labels = selection.labels or yolo_names(selection.root)
    records = []
    for path in track(_images(selection), "Reading labels"):
        with findings.file():
            size_wh = image_size_wh(path)
            boxes = _read_labels(label_file(path), labels, size_wh)
            records.append(Record(path, size_wh, findings.check(boxes, size_wh), path.stem))
    return Read(records, labels)


def label_file(image: Path) -> Path:
    """Where the boxes of an image stand: `labels` for the last `images` of its path, else beside it."""
    parts = list(image.with_suffix(".txt").parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
        if Path(*parts).is_file():
            return Path(*parts)
    return image.with_suffix(".txt")


def _images(selection: Selection) -> list[Path]:
    images = [path for entry in selection.entries for path in _listed(selection.root, entry)]
    return [path for path in images if selection.keep(_key(path, selection.root))]


def _key(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _listed(root: Path, entry: Entry) -> list[Path]:
    if not isinstance(entry, str):
        raise DataError(f"{root}: a split of kind yolo is text (a folder or a list), not {entry}")
    path = root / entry
    if path.is_dir():
        return sorted(found for found in path.rglob("*") if is_image_file(found))
    if not path.is_file():
        raise DataError(f"{path}: no such folder of images, and no such list")
    return [_located(line.strip(), path, root) for line in read_text(path).splitlines() if line.strip()]


def _located(line: str, listing: Path, root: Path) -> Path:
    """A line of a list: an absolute path, or one from the folder of the list or from the root."""
    beside = listing.parent / line
    return beside if beside.is_file() else root / line


def _read_labels(path: Path, labels: Sequence[str], size_wh: tuple[int, int]) -> list[RawBox]:
    if not path.is_file():
        return []  # an image of nothing: other tools write no file for it
    lines = enumerate(read_text(path).splitlines(), 1)
    return [_read_line(line.split(), f"{path}:{i}", labels, size_wh) for i, line in lines if line.strip()]


def _read_line(words: Sequence[str], place: str, labels: Sequence[str], size_wh: tuple[int, int]) -> RawBox:
    values = [number(word, place, f"value {i}") for i, word in enumerate(words, 1)]
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise unreadable(place, f"{len(values)} numbers, but `class cx cy w h` is needed")
    index = values[0]
    if not index.is_integer():
        raise unreadable(place, f"the class is {words[0]}, a whole number is needed")
    label = int(index) if 0 <= index < len(labels) else None
    name = words[0] if label is None else labels[label]
    return RawBox(place, _corners(values[1:], size_wh), name, label)


def _corners(values: Sequence[float], size_wh: tuple[int, int]) -> tuple[float, float, float, float]:
    """Relative (cx, cy, w, h), or the points of an outline, to pixels."""
    width, height = size_wh
    if len(values) == 4:
        cx, cy, w, h = values
        x1, y1, x2, y2 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    else:
        x1, y1, x2, y2 = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
    return x1 * width, y1 * height, x2 * width, y2 * height
