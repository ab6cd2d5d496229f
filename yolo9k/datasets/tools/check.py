"""Looking at a whole data set: every annotation read, every image opened, every issue with its place."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from yolo9k.boxes import area, iou
from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import dataset_root, read_annotations, split_names
from yolo9k.datasets.readers.records import Annotations, Issue, Record
from yolo9k.datasets.tools.check_files import check_files
from yolo9k.errors import DataError
from yolo9k.images import read_image
from yolo9k.progress import Track, silent

NEAR_DUPLICATE_IOU = 0.8
SMALL_PX, LARGE_PX = 32**2, 96**2  # areas where COCO's small and medium boxes end
THREADS = 8  # decoding releases the interpreter's lock, and reading waits for the disk


@dataclass(frozen=True)
class Spread:
    """Smallest, median and largest of some lengths in pixels."""

    smallest: float
    median: float
    largest: float

    @classmethod
    def of(cls, lengths: np.ndarray) -> "Spread | None":
        """The spread of (N,) lengths; none of no lengths."""
        return cls(*(float(f(lengths)) for f in (np.min, np.median, np.max))) if len(lengths) else None


@dataclass(frozen=True)
class ClassCount:
    """One label of a split: images that have it, its boxes, and how many of those are ignored."""

    name: str
    images: int
    boxes: int
    ignored: int


@dataclass(frozen=True)
class SplitReport:
    """One split in numbers; `boxes` counts the usable ones, the `ignored` (difficult, crowd) among them."""

    name: str
    images: int
    images_without_boxes: int
    boxes: int
    ignored: int
    small: int
    medium: int
    large: int
    classes: tuple[ClassCount, ...]
    image_width: Spread | None
    image_height: Spread | None
    box_width: Spread | None
    box_height: Spread | None


@dataclass(frozen=True)
class Report:
    """A data set in numbers. `warnings` are oddities that may be right, such as boxes nearly on each other."""

    dataset: str
    kind: str
    root: str
    labels: tuple[str, ...]
    splits: tuple[SplitReport, ...]
    errors: tuple[Issue, ...]
    warnings: tuple[Issue, ...]
    annotations: Mapping[str, Annotations] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and lists, with the counts of errors by kind."""
        plain = {key: value for key, value in vars(self).items() if key != "annotations"}
        for key in ("splits", "errors", "warnings"):
            plain[key] = [asdict(entry) for entry in plain[key]]
        return plain | {"defect_counts": counts(self.errors), "remark_counts": counts(self.warnings)}


def counts(errors: Iterable[Issue]) -> dict[str, int]:
    """How many there are of each kind, the most frequent first."""
    return dict(Counter(issue.kind for issue in errors).most_common())


def check_dataset(config: DatasetConfig, splits: Sequence[str] = (), track: Track = silent) -> Report:
    """Read the splits (none named: all) and open each of their images once.

    Defects are reported, not raised. Raises `DataError` where a split cannot be read at all, `ConfigError`
    for one that the data set has not.
    """
    chosen = tuple(dict.fromkeys(splits)) or split_names(config)
    read = {name: read_annotations(config, name, "skip", track) for name in chosen}
    labels = read[chosen[0]].labels.names  # all splits have the same
    records = {record.path: record for part in read.values() for record in part.records}
    looks = look_at_images(list(records.values()), track)
    different = {name: read[name].records for name in _different(config, chosen)}
    errors = [issue for part in read.values() for issue in part.errors]
    errors += [look.issue for look in looks.values() if look.issue]
    errors += find_duplicate_images(different, {path: look.digest for path, look in looks.items()})
    doubles = [double for record in records.values() for double in find_duplicate_boxes(record, labels)]
    return Report(
        dataset=config.name or config.root,
        kind=config.kind,
        root=str(dataset_root(config)),
        labels=labels,
        splits=tuple(describe_split(name, part) for name, part in read.items()),
        errors=tuple(dict.fromkeys(errors + [d for d in doubles if d.kind == "duplicate box"])),
        warnings=(*check_files(config, read), *(d for d in doubles if d.kind != "duplicate box")),
        annotations=read,
    )


def _different(config: DatasetConfig, names: Sequence[str]) -> list[str]:
    """The splits that are not another name of an earlier one (VOC's test serves as val, too)."""
    sources = {name: config.splits.get(name, ()) for name in names}
    return [name for i, name in enumerate(names) if sources[name] not in [sources[n] for n in names[:i]]]


@dataclass(frozen=True)
class Look:
    """What opening an image gave: a digest of the file, none of an unreadable one; and what is wrong, if anything."""

    digest: str
    issue: Issue | None


def look_at_images(records: Sequence[Record], track: Track = silent) -> dict[Path, Look]:
    """Decode every image, several at a time."""
    with ThreadPoolExecutor(THREADS) as pool:
        looks = track(pool.map(_look, records), "Opening images", len(records))
        return {record.path: look for record, look in zip(records, looks, strict=True)}


def _look(record: Record) -> Look:
    path = record.path
    try:
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        return Look("", Issue("missing image", str(path), error.strerror or str(error)))
    try:
        height, width = read_image(path).shape[:2]
    except DataError as error:
        return Look("", Issue("unreadable image", str(path), str(error).removeprefix(f"{path}: ")))
    if (width, height) == record.size_wh:
        return Look(digest, None)
    annotated = f"{record.size_wh[0]}x{record.size_wh[1]}"
    turned = ", turned as its EXIF data say" if (height, width) == record.size_wh else ""
    message = f"is {width}x{height}{turned}, but annotated as {annotated}"
    return Look(digest, Issue("wrong size", str(path), message))


def find_duplicate_images(splits: Mapping[str, Sequence[Record]], digests: Mapping[Path, str]) -> Iterator[Issue]:
    """The same file, or files of the same content, twice in a split or in two splits."""
    first: dict[str, tuple[str, Path]] = {}
    for split, records in splits.items():
        for record in records:
            key = digests[record.path] or str(record.path)
            if key not in first:
                first[key] = (split, record.path)
                continue
            other_split, other = first[key]
            kind = "duplicate image" if split == other_split else "image in two splits"
            message = f"in {split}, is the same image as {other} in {other_split}"
            yield Issue(kind, str(record.path), message)


def find_duplicate_boxes(record: Record, names: Sequence[str]) -> Iterator[Issue]:
    """Pairs of boxes of one label that are equal, or nearly so; ignored boxes are left out."""
    boxes = record.boxes[~record.boxes.ignore]
    overlap = np.triu(iou(boxes.xyxy[:, None], boxes.xyxy[None]), k=1)
    same_label = boxes.label[:, None] == boxes.label[None]
    for i, j in np.argwhere((overlap > NEAR_DUPLICATE_IOU) & same_label):
        equal = np.array_equal(boxes.xyxy[i], boxes.xyxy[j])
        pair = " and ".join(str(boxes.xyxy[k].round(1).tolist()) for k in (i, j))
        message = f"{names[boxes.label[i]]} {pair}, IoU {overlap[i, j]:.2f}"
        yield Issue("duplicate box" if equal else "near-duplicate box", str(record.path), message)


def describe_split(name: str, part: Annotations) -> SplitReport:
    """The numbers of one split."""
    boxes = [record.boxes for record in part.records]
    xyxy = np.concatenate([b.xyxy for b in boxes])
    areas = area(xyxy)
    image_wh = np.array([record.size_wh for record in part.records])
    return SplitReport(
        name=name,
        images=len(boxes),
        images_without_boxes=sum(len(b) == 0 for b in boxes),
        boxes=len(xyxy),
        ignored=sum(int(b.ignore.sum()) for b in boxes),
        small=int((areas < SMALL_PX).sum()),
        medium=int(((areas >= SMALL_PX) & (areas < LARGE_PX)).sum()),
        large=int((areas >= LARGE_PX).sum()),
        classes=_count_classes(part),
        image_width=Spread.of(image_wh[:, 0]),
        image_height=Spread.of(image_wh[:, 1]),
        box_width=Spread.of(xyxy[:, 2] - xyxy[:, 0]),
        box_height=Spread.of(xyxy[:, 3] - xyxy[:, 1]),
    )


def _count_classes(part: Annotations) -> tuple[ClassCount, ...]:
    counted = np.zeros((3, len(part.labels)), np.int64)  # images, boxes, ignored
    some_left_out = any(own.node is None for own in part.classes)  # their boxes are ignored ones of node 0
    for record in part.records:
        boxes = record.boxes
        if some_left_out:
            boxes = boxes[~boxes.ignore | (boxes.label > 0)]
        counted[0, np.unique(boxes.label)] += 1
        np.add.at(counted[1], boxes.label, 1)
        np.add.at(counted[2], boxes.label[boxes.ignore], 1)
    rows = zip(part.labels.names, *counted.tolist(), strict=True)
    return tuple(ClassCount(name, *numbers) for name, *numbers in rows)
