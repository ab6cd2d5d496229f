"""Read COCO annotations: one JSON file per split with `images`, `annotations` and `categories`.

The format is documented at cocodataset.org, "Data format". Boxes are `bbox` = (left, top, width, height) in pixels
counted from 0. COCO's category ids have gaps (80 of 1..90); labels are the categories sorted by id.
"""

import gc
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypedDict, TypeGuard

import msgspec

from yolo9k.config.datasets import SplitSource
from yolo9k.datasets.readers.paths import UPLOAD_HASH, FileFinder, path_parts
from yolo9k.datasets.readers.records import (
    BadFile,
    BoxReadResult,
    Corners,
    Entry,
    Issue,
    IssueCollector,
    ParsedBox,
    Record,
    SplitRequest,
    index_by_name,
    parse_flag,
    parse_number,
    read_image_size_wh,
    read_text,
    reading_data,
    unreadable_annotation,
)
from yolo9k.errors import DataError, shorten
from yolo9k.image_formats import is_image_file
from yolo9k.io import is_file, is_folder
from yolo9k.progress import Track, silent

KEYS = ("images", "annotations", "categories")
BBOX_FIELDS = ("left", "top", "width", "height")
MAX_PROBED = 20  # images looked for in each candidate for the image folder
MAX_JSON_BYTES = 1 << 31  # LVIS, the largest known, has a half of it
MAX_SIDE = 1 << 20  # pixels, of a mask
MIN_OUTLINE_VALUES = 6  # three points
COMPRESSED_RUNS = re.compile(r"([P-o]*[0-O])+")  # COCO's: numbers whose last character is below P
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")


class NoCocoFile(BadFile):
    """A JSON file with none of the keys of COCO's format."""


class _Image(TypedDict, total=False):
    """The keys of an image that are read; their types are checked later, where an error costs one image."""

    id: Any
    file_name: Any
    coco_url: Any
    width: Any
    height: Any


class _Annotation(TypedDict, total=False):
    """The keys of an annotation that are read. The segmentation, nine tenths of COCO's files, stays text."""

    id: Any
    image_id: Any
    category_id: Any
    bbox: Any
    area: Any
    iscrowd: Any
    segmentation: msgspec.Raw


class _Content(TypedDict, total=False):
    """The keys of a file that are read."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: Any


_DECODER = msgspec.json.Decoder(_Content)


@dataclass(frozen=True)
class CocoFile:
    """A COCO annotation file; `categories`: names by category id, sorted by id."""

    path: Path
    images: Sequence[Mapping[str, Any]]
    annotations: Sequence[Mapping[str, Any]]
    categories: Mapping[int, str]

    @classmethod
    def open(cls, path: Path) -> "CocoFile":
        """Read a file.

        Raises `BadFile` if it is not in COCO's format, or an id or name of a category occurs twice, and `NoCocoFile` if
        it is JSON of another kind.
        """
        content = _parse(path)
        if not (isinstance(content, dict) and content.keys() & set(KEYS)):
            raise NoCocoFile(
                "unreadable annotation", path, "not a COCO annotation file: 'images' must be a list of objects"
            )
        images = _section(content, "images", path)
        annotations = _section(content, "annotations", path)
        return cls(path, images, annotations, _read_categories(content, annotations, path))

    def boxes_by_image(self) -> dict[Any, list[Mapping[str, Any]]]:
        """Return the annotations by image id; those with an id of an invalid type are under `None`."""
        by_image: dict[Any, list[Mapping[str, Any]]] = {}
        for entry in self.annotations:
            by_image.setdefault(parse_id(entry.get("image_id")), []).append(entry)
        return by_image


def _parse(path: Path) -> Any:
    """Return the content of a JSON file; of COCO's objects only the keys that are read. Raises `BadFile`.

    What msgspec refuses is parsed again by `json`, which takes several times the time and memory: it accepts more (NaN,
    numbers beyond the range of floats), and its errors name the line and column.
    """
    content = read_text(path, MAX_JSON_BYTES).encode()  # not the text: segmentations keep all of it in memory
    with _no_collection():
        try:
            return _DECODER.decode(content)
        except (msgspec.MsgspecError, RecursionError):
            pass  # below, because this handler keeps what has been parsed
        try:
            return json.loads(content.decode())
        except (ValueError, RecursionError) as error:
            raise unreadable_annotation(path, f"not JSON: {shorten(str(error))}") from error


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the garbage collector, which visits all new objects many times and takes most of the time of parsing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(frozen=True)
class CocoSummary:
    """What is needed of a COCO file to detect a data set; the content itself can take gigabytes.

    `names`: of all images, empty for one without; `used`: the category ids of annotations. `may_have_boxes`: it has
    boxes or outlines, or no annotation.
    """

    path: Path
    names: Sequence[str]
    categories: Mapping[int, str]
    used: Set[int | str | None]
    may_have_boxes: bool

    @classmethod
    def of(cls, path: Path) -> "CocoSummary":
        """Read a file, as `CocoFile.open`; one that has not changed is read once."""
        with reading_data(path):
            status = path.stat()
        return _summary(path, (status.st_ino, status.st_size, status.st_mtime_ns))

    def image_folders(self, root: Path) -> tuple[Path, ...]:
        """Return the folders that file names may be relative to: those that have some of the images, then all."""
        return image_folders(self.path, self.names, root)


@lru_cache(maxsize=16)  # more than a data set has files
def _summary(path: Path, stamp: tuple[int, ...]) -> CocoSummary:
    file = CocoFile.open(path)
    with_boxes = not file.annotations or any("bbox" in entry or "segmentation" in entry for entry in file.annotations)
    used = frozenset(parse_id(entry.get("category_id")) for entry in file.annotations)
    return CocoSummary(path, tuple(map(image_name, file.images)), file.categories, used, with_boxes)


def image_folders(path: Path, names: Sequence[str], root: Path) -> tuple[Path, ...]:
    """Return the folders that the image names in a file may be relative to, those that have some of them first."""
    split = path.stem.removeprefix("instances_")
    own = path.parent  # of each split its own, as FiftyOne writes it: `train/labels.json` and `train/data`
    candidates = (
        root / split, root / "images" / split, root / "images", own, own / "data", own / "images", root
    )  # fmt: skip
    probed = names[:MAX_PROBED]
    return tuple(sorted(candidates, key=lambda folder: not any(is_file(folder / name) for name in probed)))


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
            label_of_category = _map_categories(file, labels, issues)
            for category, label in reversed(label_of_category.items()):
                category_of_label |= {} if label is None else {label: category}
            if isinstance(entry, SplitSource):
                folders: tuple[Path, ...] = (request.root / entry.images,)
                if not is_folder(folders[0]):
                    raise DataError(f"{folders[0]}: no such image folder")
                finder = FileFinder(_common_root(request.root, folders[0]))
            else:
                names = [image_name(image) for image in file.images[:MAX_PROBED]]
                folders, finder = image_folders(path, names, request.root), FileFinder(request.root)
            found = _read_records(file, folders, finder, label_of_category, request, issues, track)
            finder.report(path, issues)
            _warn_unlisted(file, {record.path.parent for record in found}, request, issues)
            records += found
    return BoxReadResult(records, labels, _category_ids(category_of_label, len(labels)), annotated_sizes=True)


def _common_root(root: Path, images: Path) -> Path:
    """Return the folder that images may be in: the root, or the folder that a config names outside it."""
    return root if FileFinder(root).contains(images) else images


def _warn_unlisted(file: CocoFile, folders: Set[Path], request: SplitRequest, issues: IssueCollector) -> None:
    """Warn about images beside those of a file that neither it nor the file of another split lists."""
    with reading_data(request.root):
        paths = [path for folder in folders for path in folder.iterdir() if is_image_file(path)]
    unlisted = sorted(without_listed(paths, map(image_name, file.images)))
    for entry in request.all_entries if unlisted else ():
        with suppress(DataError):  # of another split, which need not be there
            other = _annotation_file(request.root, entry)
            if other != file.path:
                unlisted = without_listed(unlisted, CocoSummary.of(other).names)
    if unlisted:
        message = f"{len(unlisted):,} images beside those listed are not used; first: {unlisted[0]}"
        issues.warn("not annotated", file.path, message)


def without_listed(paths: Sequence[Path], names: Iterable[str]) -> list[Path]:
    """Return the images that are not listed by name, wherever they are."""
    listed = {(path_parts(name) or [""])[-1].casefold() for name in names}
    listed |= {UPLOAD_HASH.sub("", name) for name in listed}
    return [path for path in paths if path.name.casefold() not in listed]


def image_name(image: Mapping[str, Any]) -> str:
    """Return the file name of an image, or the folder and name in its `coco_url`, which LVIS has; empty without."""
    name, url = image.get("file_name"), image.get("coco_url")
    if name is None and isinstance(url, str):
        return "/".join(path_parts(url)[-2:])  # train2017/000000391895.jpg
    return _parse_name(name) or ""


def _annotation_file(root: Path, entry: Entry) -> Path:
    path = root / (entry if isinstance(entry, str) else entry.annotations)
    if not is_file(path):
        raise DataError(f"{path}: no such annotation file")
    return path


def _map_categories(file: CocoFile, labels: Sequence[str], issues: IssueCollector) -> dict[int, int | None]:
    """Return the label index of each category id; `None` if the category is not one of the labels.

    Categories with other names are taken in order if their number is that of the labels, which is a warning.
    """
    indices = index_by_name(labels)
    by_name = {category: indices.get(name) for category, name in file.categories.items()}
    if None not in by_name.values() or len(labels) != len(by_name):
        return by_name
    for position, (category, label) in enumerate(by_name.items()):
        if label not in (None, position):
            name = file.categories[category]
            raise DataError(f"{file.path}: category {name!r} is label {label} by name, but {position} by order")
    renamed = [(file.categories[c], labels[i]) for i, (c, label) in enumerate(by_name.items()) if label is None]
    name, taken_as = (shorten(text, 60) for text in renamed[0])
    message = f"{len(renamed):,} of {len(labels):,} categories are taken in order: {name!r} is label {taken_as!r}"
    issues.warn("other names", file.path, message)
    return {category: position for position, category in enumerate(by_name)}


def _category_ids(category_of_label: Mapping[int, int], count: int) -> tuple[int, ...]:
    """Return a category id for each label; labels without a category get unused ids."""
    free = max(category_of_label.values(), default=0) + 1
    return tuple(category_of_label.get(label, free + label) for label in range(count))


def _read_records(
    file: CocoFile,
    folders: Sequence[Path],
    finder: FileFinder,
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
            name, image_id = image_name(image), _id(image, "id", location)
            if not name:
                shown = shorten(repr(image.get("file_name")), 60)
                raise unreadable_annotation(location, f"file_name must be text, not {shown}, and there is no coco_url")
            if image_id in seen:
                raise unreadable_annotation(location, f"the id {image_id!r} is already used by another image")
            seen.add(image_id)
            if request.keep(name):
                entries = boxes.get(image_id, ())
                path = finder.find(name, folders, location)
                records.append(_read_record(file, path, image, entries, label_of_category, issues))
    for image_id in sorted(boxes.keys() - seen, key=str):
        count = len(boxes[image_id])
        message = f"{count:,} annotations have the image_id {shorten(repr(image_id), 60)}, which no image has"
        issues.drop_object(Issue("unknown image", str(file.path), message))
    return records


def _read_record(
    file: CocoFile,
    path: Path,
    image: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    label_of_category: Mapping[int, int | None],
    issues: IssueCollector,
) -> Record:
    location = f"{file.path}: image {image['id']}"
    size_wh = annotated_size_wh(image, location) or read_image_size_wh(path)
    boxes = issues.parse_each(lambda entry: read_box(entry, file, label_of_category), entries)
    return Record(path, size_wh, issues.check_boxes(boxes, size_wh), _id(image, "id", location))


def annotated_size_wh(image: Mapping[str, Any], location: str) -> tuple[int, int] | None:
    """Return the size of an image that the file gives; `None` if it gives none. Raises `BadFile` for other types."""
    width, height = (parse_number(image.get(side) or 0, location, side) for side in ("width", "height"))
    is_annotated = 1 <= width < math.inf and 1 <= height < math.inf
    return (int(width), int(height)) if is_annotated else None


def read_box(entry: Mapping[str, Any], file: CocoFile, label_of_category: Mapping[int, int | None]) -> ParsedBox:
    """Return the box of an annotation, neither clipped nor checked. Raises `BadFile`."""
    location = f"{file.path}: annotation {entry.get('id')}"
    corners = _corners(entry, location)
    category = _integer(entry, "category_id", location)
    name = file.categories.get(category, f"category {category}")
    is_crowd = parse_flag(entry.get("iscrowd"), location, "iscrowd")
    return ParsedBox(location, corners, name, label_of_category.get(category), is_crowd)


def _corners(entry: Mapping[str, Any], location: str) -> Corners:
    """Return the box of an annotation, or the one around its outline or mask if it has no box."""
    bbox = entry.get("bbox")
    is_missing = not bbox or (isinstance(bbox, list) and not any(bbox))  # or four zeros
    segmentation = _parse_segmentation(entry, location) if is_missing else None
    if not segmentation:
        if not isinstance(bbox, list) or len(bbox) != len(BBOX_FIELDS):
            shown = shorten(repr(bbox), 60)
            raise unreadable_annotation(location, f"bbox must be [left, top, width, height], not {shown}")
        x, y, w, h = (parse_number(value, location, name) for value, name in zip(bbox, BBOX_FIELDS, strict=True))
        return x, y, x + w, y + h
    if isinstance(segmentation, dict):
        return _mask_corners(segmentation, location)
    outlines = segmentation if isinstance(segmentation, list) else []
    values = [parse_number(v, location, "segmentation") for part in outlines if isinstance(part, list) for v in part]
    if len(values) < MIN_OUTLINE_VALUES or len(values) % 2:
        raise unreadable_annotation(location, "has no bbox, and its segmentation is no list of outlines [x1, y1, …]")
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


def _parse_segmentation(entry: Mapping[str, Any], location: str) -> Any:
    segmentation = entry.get("segmentation")
    if not isinstance(segmentation, msgspec.Raw):
        return segmentation
    with reading_data(location):
        return json.loads(bytes(segmentation))


def _mask_corners(mask: Mapping[str, Any], location: str) -> Corners:
    """Return the box around a run-length encoded mask, compressed or not."""
    from pycocotools import mask as coco_mask  # late: few data sets have masks

    size, counts = mask.get("size"), mask.get("counts")
    if not _are_integers(size, MAX_SIDE) or len(size) != 2 or 0 in size:
        raise unreadable_annotation(location, "has no bbox, and its segmentation has no size [height, width]")
    with reading_data(location):
        if _are_integers(counts, size[0] * size[1] + 1):
            encoded = coco_mask.frPyObjects({"size": size, "counts": counts}, size[0], size[1])
        elif isinstance(counts, str) and COMPRESSED_RUNS.fullmatch(counts):
            encoded = {"size": size, "counts": counts.encode()}
        else:
            raise unreadable_annotation(location, "has no bbox, and the counts of its segmentation are no mask")
        x, y, w, h = (float(value) for value in coco_mask.toBbox(encoded))
    return x, y, x + w, y + h


def _are_integers(values: Any, limit: int) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < limit for value in values)


def _read_categories(content: Any, annotations: Sequence[Mapping[str, Any]], path: Path) -> dict[int, str]:
    """Return the names of the categories by id, sorted by id; of two with one name an unused one is left out."""
    categories: dict[int, str] = {}
    for number, entry in enumerate(_section(content, "categories", path), 1):
        location = f"{path}: category {number}"
        category, name = _integer(entry, "id", location), _name(entry, "name", location)
        if category in categories:
            raise unreadable_annotation(location, f"the id {category} is already used by another category")
        categories[category] = name
    if len(set(categories.values())) < len(categories):
        used = {parse_id(entry.get("category_id")) for entry in annotations}
        counts = Counter(name for category, name in categories.items() if category in used)
        twice = next((name for name, count in counts.items() if count > 1), None)
        if twice is not None:
            raise unreadable_annotation(path, f"two categories are called {shorten(twice, 60)!r}")
        first_of = {name: category for category, name in reversed(categories.items()) if not counts[name]}
        categories = {c: name for c, name in categories.items() if c in used or first_of.get(name) == c}
    return dict(sorted(categories.items()))


def _section(content: Any, key: str, path: Path) -> list[Mapping[str, Any]]:
    section = content.get(key) if isinstance(content, dict) else None
    if not isinstance(section, list) or not all(isinstance(entry, dict) for entry in section):
        raise unreadable_annotation(path, f"not a COCO annotation file: {key!r} must be a list of objects")
    return section


def _integer(entry: Mapping[str, Any], key: str, location: str) -> int:
    value = parse_id(entry.get(key))
    if not isinstance(value, int):
        raise unreadable_annotation(location, f"{key} must be an integer, not {shorten(repr(entry.get(key)), 60)}")
    return value


def _id(entry: Mapping[str, Any], key: str, location: str) -> int | str:
    value = parse_id(entry.get(key))
    if value is None:
        shown = shorten(repr(entry.get(key)), 60)
        raise unreadable_annotation(location, f"{key} must be an integer or text, not {shown}")
    return value


def parse_id(value: object) -> int | str | None:
    """Return an id: 7, 7.0 and "7" are the same; other texts are ids, too. `None` if it is none."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        return int(value) if INTEGER.fullmatch(value) else value
    return None


def _name(entry: Mapping[str, Any], key: str, location: str) -> str:
    name = _parse_name(entry.get(key))
    if name is None:
        raise unreadable_annotation(location, f"{key} must be text, not {shorten(repr(entry.get(key)), 60)}")
    return name


def _parse_name(value: object) -> str | None:
    """Return a name; `None` if it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # a class called 7
    return value if isinstance(value, str) and value else None
