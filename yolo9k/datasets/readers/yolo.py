"""Read YOLO label files: one text file per image, one line `class cx cy w h` per box, relative to the image size.

The class is an index into the class names, which are in the config, in `data.yaml` (as Ultralytics and Roboflow write
it) or in `classes.txt`. Longer lines are polygons; their bounding box is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from yolo9k.datasets.readers.records import (
    BoxReadResult,
    Entry,
    IssueCollector,
    ParsedBox,
    Record,
    SplitRequest,
    parse_number,
    read_image_size_wh,
    read_text,
    unreadable_annotation,
)
from yolo9k.errors import DataError
from yolo9k.images import is_image_file
from yolo9k.progress import Track, silent

SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}  # Roboflow's folder is `valid`


@dataclass(frozen=True)
class DataYaml:
    """The content of a `data.yaml`: class names in order, and the existing folders or image lists of each split."""

    names: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]

    @classmethod
    def open(cls, path: Path) -> "DataYaml":
        """Read the file. Raises `DataError` if it is not in this format."""
        try:
            content = yaml.safe_load(read_text(path))
        except yaml.YAMLError as error:
            raise DataError(f"{path}: not YAML: {getattr(error, 'problem', None) or error}") from error
        if not isinstance(content, dict):
            raise DataError(f"{path}: must be a mapping with 'names'")
        splits = {split: _split_paths(path, content, keys) for split, keys in SPLIT_KEYS.items()}
        return cls(_parse_names(path, content.get("names")), {name: paths for name, paths in splits.items() if paths})


def _parse_names(path: Path, names: Any) -> tuple[str, ...]:
    """Parse class names: a list, or a mapping from index to name."""
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{path}: names must be a list, or a mapping of 0, 1, 2, … to names, not {names!r}")
    return tuple(str(name) for name in names)


def _split_paths(path: Path, content: Mapping[str, Any], keys: Sequence[str]) -> tuple[Path, ...]:
    """Return the existing paths of a split; exporters disagree on what they are relative to."""
    value: Any = next((content[key] for key in keys if content.get(key)), [])
    base = path.parent / str(content.get("path") or "")
    paths = []
    for text in [value] if isinstance(value, str) else value if isinstance(value, list) else []:
        without_dots = str(text).lstrip("./")  # Roboflow writes ../train/images for a folder next to the file
        candidates = (base / str(text), path.parent / str(text), path.parent / without_dots)
        paths += [candidate for candidate in candidates if candidate.exists()][:1]
    return tuple(paths)


def yolo_names(root: Path) -> tuple[str, ...]:
    """Return the class names in the files of a data set. Raises `DataError` if there are none."""
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (root / name).is_file():
            return DataYaml.open(root / name).names
    for folder in (root, root / "labels"):
        path = folder / "classes.txt"
        if path.is_file():
            return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    raise DataError(f"{root}: no class names: add labels to the config, or names to data.yaml or classes.txt there")


def read_yolo(request: SplitRequest, issues: IssueCollector, track: Track = silent) -> BoxReadResult:
    """Read the images of the folders (sorted) and image lists; sizes come from the headers of the images.

    Raises `DataError` for missing folders, lists and class names, and for unusable files unless `issues` skips them.
    """
    labels = request.labels or yolo_names(request.root)
    records = []
    for path in track(_list_images(request), "Reading labels"):
        with issues.reading_file():
            size_wh = read_image_size_wh(path)
            boxes = _read_boxes(label_file(path), labels, size_wh)
            records.append(Record(path, size_wh, issues.check_boxes(boxes, size_wh), path.stem))
    return BoxReadResult(records, labels)


def label_file(image: Path) -> Path:
    """Return the label file of an image: with the last `images` of its path replaced by `labels`, else next to it."""
    parts = list(image.with_suffix(".txt").parts)
    indices = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if indices:
        parts[indices[-1]] = "labels"
        if Path(*parts).is_file():
            return Path(*parts)
    return image.with_suffix(".txt")


def _list_images(request: SplitRequest) -> list[Path]:
    images = [path for entry in request.entries for path in _entry_images(request.root, entry)]
    return [path for path in images if request.keep(_relative_name(path, request.root))]


def _relative_name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _entry_images(root: Path, entry: Entry) -> list[Path]:
    if not isinstance(entry, str):
        raise DataError(f"{root}: a split of kind yolo must be text (a folder or an image list), not {entry}")
    path = root / entry
    if path.is_dir():
        return sorted(image for image in path.rglob("*") if is_image_file(image))
    if not path.is_file():
        raise DataError(f"{path}: no such image folder or image list")
    return [_resolve_line(line.strip(), path, root) for line in read_text(path).splitlines() if line.strip()]


def _resolve_line(line: str, image_list: Path, root: Path) -> Path:
    """Resolve a line of an image list: an absolute path, or one relative to the folder of the list or to the root."""
    beside = image_list.parent / line
    return beside if beside.is_file() else root / line


def _read_boxes(path: Path, labels: Sequence[str], size_wh: tuple[int, int]) -> list[ParsedBox]:
    if not path.is_file():
        return []  # other tools write no file for an image without objects
    lines = enumerate(read_text(path).splitlines(), 1)
    return [_parse_line(line.split(), f"{path}:{i}", labels, size_wh) for i, line in lines if line.strip()]


def _parse_line(words: Sequence[str], location: str, labels: Sequence[str], size_wh: tuple[int, int]) -> ParsedBox:
    values = [parse_number(word, location, f"value {i}") for i, word in enumerate(words, 1)]
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise unreadable_annotation(location, f"must be `class cx cy w h`, not {len(values)} numbers")
    index = values[0]
    if not index.is_integer():
        raise unreadable_annotation(location, f"the class must be an integer, not {words[0]}")
    label = int(index) if 0 <= index < len(labels) else None
    name = words[0] if label is None else labels[label]
    return ParsedBox(location, _to_corners(values[1:], size_wh), name, label)


def _to_corners(values: Sequence[float], size_wh: tuple[int, int]) -> tuple[float, float, float, float]:
    """Convert relative (cx, cy, w, h), or the points of a polygon, to xyxy in pixels."""
    width, height = size_wh
    if len(values) == 4:
        cx, cy, w, h = values
        x1, y1, x2, y2 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    else:
        x1, y1, x2, y2 = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
    return x1 * width, y1 * height, x2 * width, y2 * height
