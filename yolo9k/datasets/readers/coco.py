"""Read COCO annotations: one JSON file per split with `images`, `annotations` and `categories`.

The format is documented at cocodataset.org, "Data format". Boxes are `bbox` = (left, top, width, height) in pixels
counted from 0. COCO's category ids have gaps (80 of 1..90); labels are the categories sorted by id.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo9k.config.datasets import SplitSource
from yolo9k.datasets.readers.records import (
    BadFile,
    BoxReadResult,
    Entry,
    Issue,
    IssueCollector,
    ParsedBox,
    Record,
    SplitRequest,
    index_by_name,
    parse_number,
    read_image_size_wh,
    read_text,
    unreadable_annotation,
)
from yolo9k.errors import DataError
from yolo9k.progress import Track, silent

BBOX_FIELDS = ("left", "top", "width", "height")
MAX_PROBED = 20  # images looked for in each candidate for the image folder


@dataclass(frozen=True)
class CocoFile:
    """A COCO annotation file; `categories`: names by category id, sorted by id."""

    path: Path
    images: Sequence[Mapping[str, Any]]
    annotations: Sequence[Mapping[str, Any]]
    categories: Mapping[int, str]

    @classmethod
    def open(cls, path: Path) -> "CocoFile":
        """Read a file. Raises `BadFile` if it is not in COCO's format."""
        try:
            content = json.loads(read_text(path))
        except (ValueError, RecursionError) as error:
            raise unreadable_annotation(path, f"not JSON: {error}") from error
        images = _section(content, "images", path)
        annotations = _section(content, "annotations", path)
        categories = {
            _integer(entry, "id", f"{path}: category {i}"): _name(entry, "name", f"{path}: category {i}")
            for i, entry in enumerate(_section(content, "categories", path), 1)
        }
        return cls(path, images, annotations, dict(sorted(categories.items())))

    def boxes_by_image(self) -> dict[Any, list[Mapping[str, Any]]]:
        """Return the annotations by image id; those with an id of an invalid type are under `None`."""
        by_image: dict[Any, list[Mapping[str, Any]]] = {}
        for entry in self.annotations:
            image_id = entry.get("image_id")
            by_image.setdefault(image_id if isinstance(image_id, int | str) else None, []).append(entry)
        return by_image

    def image_folder(self, root: Path) -> Path:
        """Guess the image folder from the name of this file: the first candidate that has some of the images."""
        split = self.path.stem.removeprefix("instances_")
        candidates = (root / split, root / "images" / split, root / "images", self.path.parent, root)
        names = [str(image.get("file_name")) for image in self.images[:MAX_PROBED]]
        existing = (folder for folder in candidates if any((folder / name).is_file() for name in names))
        return next(existing, candidates[0])


def read_coco(request: SplitRequest, issues: IssueCollector, track: Track = silent) -> BoxReadResult:
    """Read the images of the annotation files, in order; crowd boxes become ignored boxes.

    Without class names in the request, they are the categories of the first file of all splits. If the names differ
    from the categories of a file but have the same count, categories are taken in order (Darknet's list has other names
    for six of COCO's). Raises `DataError` for missing files, and for unusable ones unless `issues` skips them.
    """
    first = _annotation_file(request.root, request.all_entries[0])
    opened = {} if request.labels else {first: CocoFile.open(first)}
    labels = request.labels or tuple(dict.fromkeys(opened[first].categories.values()))
    records: list[Record] = []
    category_of_label: dict[int, int] = {}
    for entry in request.entries:
        path = _annotation_file(request.root, entry)
        with issues.reading_file():
            file = opened.get(path) or CocoFile.open(path)
            label_of_category = _map_categories(file, labels)
            for category, label in reversed(label_of_category.items()):
                category_of_label |= {} if label is None else {label: category}
            folder = request.root / entry.images if isinstance(entry, SplitSource) else file.image_folder(request.root)
            records += _read_records(file, folder, label_of_category, request, issues, track)
    return BoxReadResult(records, labels, _category_ids(category_of_label, len(labels)))


def _annotation_file(root: Path, entry: Entry) -> Path:
    path = root / (entry if isinstance(entry, str) else entry.annotations)
    if not path.is_file():
        raise DataError(f"{path}: no such annotation file")
    return path


def _map_categories(file: CocoFile, labels: Sequence[str]) -> dict[int, int | None]:
    """Return the label index of each category id; `None` if the category is not one of the labels."""
    indices = index_by_name(labels)
    by_name = {category: indices.get(name) for category, name in file.categories.items()}
    if None not in by_name.values() or len(labels) != len(by_name):
        return by_name
    for position, (category, label) in enumerate(by_name.items()):
        if label not in (None, position):
            name = file.categories[category]
            raise DataError(f"{file.path}: category {name!r} is label {label} by name, but {position} by order")
    return {category: position for position, category in enumerate(by_name)}


def _category_ids(category_of_label: Mapping[int, int], count: int) -> tuple[int, ...]:
    """Return a category id for each label; labels without a category get unused ids."""
    free = max(category_of_label.values(), default=0) + 1
    return tuple(category_of_label.get(label, free + label) for label in range(count))


def _read_records(
    file: CocoFile,
    folder: Path,
    label_of_category: Mapping[int, int | None],
    request: SplitRequest,
    issues: IssueCollector,
    track: Track,
) -> list[Record]:
    boxes = file.boxes_by_image()
    records = []
    seen: set[Any] = set()
    for i, image in enumerate(track(file.images, "Reading labels"), 1):
        location = f"{file.path}: image {i}"
        with issues.reading_file():
            name, image_id = _name(image, "file_name", location), _id(image, "id", location)
            if image_id in seen:
                raise unreadable_annotation(location, f"the id {image_id!r} is already used by another image")
            seen.add(image_id)
            if request.keep(name):
                entries = boxes.get(image_id, ())
                records.append(_read_record(file, folder, image, entries, label_of_category, issues))
    for image_id in boxes.keys() - seen:
        message = f"annotations have the image_id {image_id!r}, which no image has"
        issues.errors.append(Issue("unknown image", str(file.path), message))
    return records


def _read_record(
    file: CocoFile,
    folder: Path,
    image: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    label_of_category: Mapping[int, int | None],
    issues: IssueCollector,
) -> Record:
    path = folder / image["file_name"]
    if not path.is_file():
        raise BadFile("missing image", path, f"no such image (listed in {file.path.name})")
    location = f"{file.path}: image {image['id']}"
    width, height = (parse_number(image.get(side) or 0, location, side) for side in ("width", "height"))
    is_annotated = 1 <= width < math.inf and 1 <= height < math.inf
    size_wh = (int(width), int(height)) if is_annotated else read_image_size_wh(path)
    boxes = [_read_box(entry, file, label_of_category) for entry in entries]
    return Record(path, size_wh, issues.check_boxes(boxes, size_wh), image["id"])


def _read_box(entry: Mapping[str, Any], file: CocoFile, label_of_category: Mapping[int, int | None]) -> ParsedBox:
    location = f"{file.path}: annotation {entry.get('id')}"
    bbox = entry.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise unreadable_annotation(location, f"bbox must be [left, top, width, height], not {bbox!r}")
    x, y, w, h = (parse_number(value, location, name) for value, name in zip(bbox, BBOX_FIELDS, strict=True))
    category = _integer(entry, "category_id", location)
    name = file.categories.get(category, f"category {category}")
    is_crowd = bool(entry.get("iscrowd", 0))
    return ParsedBox(location, (x, y, x + w, y + h), name, label_of_category.get(category), is_crowd)


def _section(content: Any, key: str, path: Path) -> list[Mapping[str, Any]]:
    section = content.get(key) if isinstance(content, dict) else None
    if not isinstance(section, list) or not all(isinstance(entry, dict) for entry in section):
        raise unreadable_annotation(path, f"not a COCO annotation file: {key!r} must be a list of objects")
    return section


def _integer(entry: Mapping[str, Any], key: str, location: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise unreadable_annotation(location, f"{key} must be an integer, not {value!r}")
    return value


def _id(entry: Mapping[str, Any], key: str, location: str) -> int | str:
    value = entry.get(key)
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise unreadable_annotation(location, f"{key} must be an integer or text, not {value!r}")
    return value


def _name(entry: Mapping[str, Any], key: str, location: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise unreadable_annotation(location, f"{key} must be text, not {value!r}")
    return value
