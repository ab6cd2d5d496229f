"""COCO: one JSON file a split with `images`, `annotations` and `categories` (cocodataset.org, "Data format").

Boxes are `bbox` = (left, top, width, height) in pixels counted from 0. The category numbers of COCO have gaps
(80 of 1..90); labels are the categories sorted by number.
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
    Entry,
    Findings,
    Issue,
    RawBox,
    Read,
    Record,
    Selection,
    image_size_wh,
    number,
    numbers_by_name,
    read_text,
    unreadable,
)
from yolo9k.errors import DataError
from yolo9k.progress import Track, silent

SIDES = ("left", "top", "width", "height")
PROBED = 20  # images that are looked for when a folder is guessed


@dataclass(frozen=True)
class CocoFile:
    """An annotation file; `categories` are names by number, sorted by number."""

    path: Path
    images: Sequence[Mapping[str, Any]]
    annotations: Sequence[Mapping[str, Any]]
    categories: Mapping[int, str]

    @classmethod
    def open(cls, path: Path) -> "CocoFile":
        """Read a file. Raises `BadFile` for what is not COCO's format."""
        try:
            content = json.loads(read_text(path))
        except (ValueError, RecursionError) as error:
            raise unreadable(path, f"not JSON: {error}") from error
        images = _section(content, "images", path)
        annotations = _section(content, "annotations", path)
        categories = {
            _integer(entry, "id", f"{path}: category {i}"): _name(entry, "name", f"{path}: category {i}")
            for i, entry in enumerate(_section(content, "categories", path), 1)
        }
        return cls(path, images, annotations, dict(sorted(categories.items())))

    def boxes_by_image(self) -> dict[Any, list[Mapping[str, Any]]]:
        """The annotations of each image id; under None those whose id is neither number nor text."""
        by_image: dict[Any, list[Mapping[str, Any]]] = {}
        for entry in self.annotations:
            image_id = entry.get("image_id")
            by_image.setdefault(image_id if isinstance(image_id, int | str) else None, []).append(entry)
        return by_image

    def image_folder(self, root: Path) -> Path:
        """The folder of the images, guessed from the file's name: the first one that has some of them."""
        split = self.path.stem.removeprefix("instances_")
        candidates = (root / split, root / "images" / split, root / "images", self.path.parent, root)
        names = [str(image.get("file_name")) for image in self.images[:PROBED]]
        having = (folder for folder in candidates if any((folder / name).is_file() for name in names))
        return next(having, candidates[0])


def read_coco(selection: Selection, findings: Findings, track: Track = silent) -> Read:
    """The images of the annotation files, one file after the other; crowds are ignore boxes.

    Labels that the config does not name are the categories of the first file of all splits. Where it names as
    many as a file has categories, but others, they are taken in order (Darknet's list calls six of COCO's by
    other names). Raises `DataError` for missing files, and for bad ones where `findings` says so.
    """
    first = _annotation_file(selection.root, selection.all_entries[0])
    opened = {} if selection.labels else {first: CocoFile.open(first)}
    labels = selection.labels or tuple(dict.fromkeys(opened[first].categories.values()))
    records: list[Record] = []
    ids: dict[int, int] = {}
    for entry in selection.entries:
        path = _annotation_file(selection.root, entry)
        with findings.file():
            file = opened.get(path) or CocoFile.open(path)
            numbers = _label_numbers(file, labels)
            for category, label in reversed(numbers.items()):
                ids |= {} if label is None else {label: category}
            folder = _image_folder(selection.root, entry, file)
            records += _read_records(file, folder, numbers, selection, findings, track)
    return Read(records, labels, _category_ids(ids, len(labels)))


def _annotation_file(root: Path, entry: Entry) -> Path:
    path = root / (entry if isinstance(entry, str) else entry.annotations)
    if not path.is_file():
        raise DataError(f"{path}: no such annotation file")
    return path


def _image_folder(root: Path, entry: Entry, file: CocoFile) -> Path:
    return root / entry.images if isinstance(entry, SplitSource) else file.image_folder(root)


def _label_numbers(file: CocoFile, labels: Sequence[str]) -> dict[int, int | None]:
    """The label of each category number; none where the labels leave it out."""
    by_name = numbers_by_name(labels)
    numbers = {category: by_name.get(name) for category, name in file.categories.items()}
    if None not in numbers.values() or len(labels) != len(numbers):
        return numbers
    for order, (category, label) in enumerate(numbers.items()):
        if label not in (None, order):
            name = file.categories[category]
            raise DataError(f"{file.path}: category {name!r} is label {label} by name and {order} by order")
    return {category: order for order, category in enumerate(numbers)}


def _category_ids(ids: Mapping[int, int], count: int) -> tuple[int, ...]:
    """A category number for each label; those that no file has get free ones."""
    free = max(ids.values(), default=0) + 1
    return tuple(ids.get(label, free + label) for label in range(count))


def _read_records(
    file: CocoFile,
    folder: Path,
    numbers: Mapping[int, int | None],
    selection: Selection,
    findings: Findings,
    track: Track,
) -> list[Record]:
    boxes = file.boxes_by_image()
    records = []
    seen: set[Any] = set()
    for i, image in enumerate(track(file.images, "Reading labels"), 1):
        place = f"{file.path}: image {i}"
        with findings.file():
            name, image_id = _name(image, "file_name", place), _key(image, "id", place)
            if image_id in seen:
                raise unreadable(place, f"the id {image_id!r} was used by another image")
            seen.add(image_id)
            if selection.keep(name):
                entries = boxes.get(image_id, ())
                records.append(_read_record(file, folder, image, entries, numbers, findings))
    for image_id in boxes.keys() - seen:
        message = f"annotations name the image_id {image_id!r}, which no image has"
        findings.errors.append(Issue("unknown image", str(file.path), message))
    return records


def _read_record(
    file: CocoFile,
    folder: Path,
    image: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    numbers: Mapping[int, int | None],
    findings: Findings,
) -> Record:
    path = folder / image["file_name"]
    if not path.is_file():
        raise BadFile("missing image", path, f"no such image (named by {file.path.name})")
    place = f"{file.path}: image {image['id']}"
    width, height = (number(image.get(side) or 0, place, side) for side in ("width", "height"))
    annotated = 1 <= width < math.inf and 1 <= height < math.inf
    size_wh = (int(width), int(height)) if annotated else image_size_wh(path)
    boxes = [_read_box(entry, file, numbers) for entry in entries]
    return Record(path, size_wh, findings.check(boxes, size_wh), image["id"])


def _read_box(entry: Mapping[str, Any], file: CocoFile, numbers: Mapping[int, int | None]) -> RawBox:
    place = f"{file.path}: annotation {entry.get('id')}"
    bbox = entry.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise unreadable(place, f"bbox is {bbox!r}, [left, top, width, height] is needed")
    x, y, w, h = (number(value, place, side) for value, side in zip(bbox, SIDES, strict=True))
    category = _integer(entry, "category_id", place)
    name = file.categories.get(category, f"category {category}")
    return RawBox(place, (x, y, x + w, y + h), name, numbers.get(category), bool(entry.get("iscrowd", 0)))


def _section(content: Any, key: str, path: Path) -> list[Mapping[str, Any]]:
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise unreadable(path, f"has no list {key!r} of objects, so it is not a COCO annotation file")
    return found


def _integer(entry: Mapping[str, Any], key: str, place: str) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise unreadable(place, f"{key} is {value!r}, a whole number is needed")
    return value


def _key(entry: Mapping[str, Any], key: str, place: str) -> int | str:
    value = entry.get(key)
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise unreadable(place, f"{key} is {value!r}, a number or a name is needed")
    return value


def _name(entry: Mapping[str, Any], key: str, place: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise unreadable(place, f"{key} is {value!r}, a name is needed")
    return value
