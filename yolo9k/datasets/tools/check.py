"""Check a data set: read every annotation, open every image, report statistics, errors and warnings."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from yolo9k.boxes import area, iou, range_chunks
from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import dataset_root, read_annotations, split_names
from yolo9k.datasets.readers.records import Annotations, Issue, Record, count_by_kind
from yolo9k.datasets.threads import mapped_in_threads
from yolo9k.datasets.tools.check_files import check_boxes, check_files
from yolo9k.errors import DataError
from yolo9k.images import reading_image
from yolo9k.io import reading
from yolo9k.progress import Track, silent
from yolo9k.samples import BoxLabels

NEAR_DUPLICATE_IOU = 0.8
DUPLICATE_BOX, NEAR_DUPLICATE_BOX = "duplicate box", "near-duplicate box"
CHUNK_BYTES = 1 << 20  # read at once from an image file
MAX_DUPLICATES = 1000  # pairs listed of one image: 10,000 equal boxes form 50 million
SMALL_AREA, LARGE_AREA = 32**2, 96**2  # square pixels: COCO's limits of small and large boxes


@dataclass(frozen=True)
class LengthStats:
    """Minimum, median and maximum of widths or heights, in pixels."""

    min: float
    median: float
    max: float

    @classmethod
    def of(cls, lengths: np.ndarray) -> "LengthStats | None":
        """Return the statistics of lengths (N,); `None` if there are none."""
        return cls(*(float(f(lengths)) for f in (np.min, np.median, np.max))) if len(lengths) else None


@dataclass(frozen=True)
class ClassCount:
    """One label in a split: the images that have it, its boxes, and how many of these are ignored."""

    name: str
    images: int
    boxes: int
    ignored: int


@dataclass(frozen=True)
class SplitReport:
    """Statistics of one split.

    `boxes`: valid boxes, including the `ignored` ones (difficult, crowd). `small`, `medium`, `large`: boxes by area,
    in pixels of the image, with COCO's limits.
    """

    name: str
    images: int
    images_without_boxes: int
    boxes: int
    ignored: int
    small: int
    medium: int
    large: int
    classes: tuple[ClassCount, ...]
    image_width: LengthStats | None
    image_height: LengthStats | None
    box_width: LengthStats | None
    box_height: LengthStats | None


@dataclass(frozen=True)
class Report:
    """The result of a check; a warning may be correct data, such as two boxes that nearly coincide."""

    dataset: str
    kind: str
    root: str
    labels: tuple[str, ...]
    splits: tuple[SplitReport, ...]
    errors: tuple[Issue, ...]
    warnings: tuple[Issue, ...]
    annotations: Mapping[str, Annotations] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the report for JSON, without `annotations` and with the counts of errors and warnings by kind."""
        values = {key: value for key, value in vars(self).items() if key != "annotations"}
        for key in ("splits", "errors", "warnings"):
            values[key] = [asdict(entry) for entry in values[key]]
        return values | {"error_counts": count_by_kind(self.errors), "warning_counts": count_by_kind(self.warnings)}


def check_dataset(
    config: DatasetConfig, splits: Sequence[str] = (), track: Track = silent, track_images: Track | None = None
) -> Report:
    """Read the splits (default: all) and open each image once.

    `track_images`: shows the opening of images instead of `track`; if it ends early, the images after it are not
    opened.

    Errors in annotations and images are reported, not raised. Raises `DataError` if a split cannot be read at all,
    `ConfigError` if the data set has no such split.
    """
    names = tuple(dict.fromkeys(splits)) or split_names(config)
    read = {name: read_annotations(config, name, "skip", track, silently=True, all_sizes=True) for name in names}
    labels = read[names[0]].labels.names  # all splits have the same
    records = {record.path: record for part in read.values() for record in part.records}
    decoded = decode_images(list(records.values()), track_images or track)
    unique = {name: read[name].records for name in _unique_splits(config, names)}
    duplicate_boxes = [issue for record in records.values() for issue in find_duplicate_boxes(record, labels)]
    errors = [issue for part in read.values() for issue in part.errors]
    errors += check_boxes(config, read)
    errors += [image.issue for image in decoded.values() if image.issue]
    errors += find_duplicate_images(unique, {path: image.digest for path, image in decoded.items()})
    errors += [issue for issue in duplicate_boxes if issue.kind == DUPLICATE_BOX]
    return Report(
        dataset=config.name or config.root,
        kind=config.kind,
        root=str(dataset_root(config)),
        labels=labels,
        splits=tuple(describe_split(name, part) for name, part in read.items()),
        errors=tuple(dict.fromkeys(errors)),
        warnings=(
            *check_files(config, read),
            *dict.fromkeys(issue for part in read.values() for issue in part.warnings),
            *(issue for issue in duplicate_boxes if issue.kind != DUPLICATE_BOX),
        ),
        annotations=read,
    )


def _unique_splits(config: DatasetConfig, names: Sequence[str]) -> list[str]:
    """Return the splits without those that are a second name of an earlier one (VOC's val is its test split)."""
    sources = {name: config.splits.get(name, ()) for name in names}
    return [name for i, name in enumerate(names) if sources[name] not in [sources[n] for n in names[:i]]]


@dataclass(frozen=True)
class DecodedImage:
    """The digest of an image file, "" if it is unreadable; `issue`: what is wrong with it, or `None`."""

    digest: str
    issue: Issue | None


def decode_images(records: Sequence[Record], track: Track = silent) -> dict[Path, DecodedImage]:
    """Decode every image, several in parallel; fewer if `track` ends early."""
    with mapped_in_threads(_decode_image, records) as images:
        decoded = track(images, "Opening images", len(records))
        return {record.path: image for image, record in zip(decoded, records, strict=False)}


def _decode_image(record: Record) -> DecodedImage:
    path = record.path
    try:
        with reading_image(path) as image:
            height, width = image.shape[:2]
        digest = _digest(path)
    except DataError as error:
        kind = "unreadable image" if path.exists() else "missing image"
        return DecodedImage("", Issue(kind, str(path), str(error).removeprefix(f"{path}: ")))
    if (width, height) == record.size_wh:
        return DecodedImage(digest, None)
    annotated = f"{record.size_wh[0]}x{record.size_wh[1]}"
    rotated = ", rotated by its EXIF orientation" if (height, width) == record.size_wh else ""
    message = f"is {width}x{height}{rotated}, but annotated as {annotated}"
    return DecodedImage(digest, Issue("wrong size", str(path), message))


def _digest(path: Path) -> str:
    """Return the digest of a file of any size. Raises `DataError`."""
    digest = hashlib.blake2b(digest_size=16)
    with reading(path), path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def find_duplicate_images(splits: Mapping[str, Sequence[Record]], digests: Mapping[Path, str]) -> Iterator[Issue]:
    """Find files that occur twice, by path or by content, in one split or in two."""
    first: dict[str, tuple[str, Path]] = {}
    for split, records in splits.items():
        for record in records:
            key = digests.get(record.path) or str(record.path)
            if key not in first:
                first[key] = (split, record.path)
                continue
            other_split, other = first[key]
            kind = "duplicate image" if split == other_split else "image in two splits"
            message = f"in {split}, is the same image as {other} in {other_split}"
            yield Issue(kind, str(record.path), message)


def find_duplicate_boxes(record: Record, names: Sequence[str]) -> Iterator[Issue]:
    """Find pairs of boxes with one label that are equal or nearly so; ignored boxes are skipped.

    At most `MAX_DUPLICATES` pairs are listed; one more issue then says so, with the count of different boxes.
    """
    boxes = record.boxes[~record.boxes.ignore]
    pairs = list(islice(_near_pairs(boxes), MAX_DUPLICATES + 1))
    for i, j, overlap in sorted(pairs[:MAX_DUPLICATES]):
        is_equal = np.array_equal(boxes.xyxy[i], boxes.xyxy[j])
        pair = " and ".join(str(boxes.xyxy[k].round(1).tolist()) for k in (i, j))
        message = f"{names[boxes.label[i]]} {pair}, IoU {overlap:.2f}"
        yield Issue(DUPLICATE_BOX if is_equal else NEAR_DUPLICATE_BOX, str(record.path), message)
    if len(pairs) > MAX_DUPLICATES:
        different = len(np.unique(np.column_stack([boxes.label, boxes.xyxy]), axis=0))
        message = f"more than {MAX_DUPLICATES:,} such pairs; {different:,} of {len(boxes):,} boxes are different"
        yield Issue(DUPLICATE_BOX if different < len(boxes) else NEAR_DUPLICATE_BOX, str(record.path), message)


def _near_pairs(boxes: BoxLabels) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs i < j of boxes with one label and an IoU above `NEAR_DUPLICATE_IOU`, and the IoU, in any order.

    Left borders of such boxes differ by less than a fraction of the width, and top borders by less than a fraction of
    the height. Each box is compared with those that begin soon after it, along the axis on which these are fewer.
    """
    along_x, along_y = _Neighbours.of(boxes, axis=0), _Neighbours.of(boxes, axis=1)
    near = along_x if along_x.following.sum() <= along_y.following.sum() else along_y
    for row, other in range_chunks(np.arange(1, len(boxes) + 1), near.following):
        close = np.abs(near.across[other] - near.across[row]) <= np.maximum(near.reach[other], near.reach[row])
        i, j = near.order[row[close]], near.order[other[close]]
        overlap = iou(boxes.xyxy[i], boxes.xyxy[j])
        chosen = overlap > NEAR_DUPLICATE_IOU
        i, j = np.minimum(i, j)[chosen], np.maximum(i, j)[chosen]
        yield from zip(i.tolist(), j.tolist(), overlap[chosen].tolist(), strict=True)


class _Neighbours(NamedTuple):
    """Boxes sorted by label, then by their begin along one axis (`order`).

    `following`: how many of those after each box begin soon enough to be a near-duplicate. `across`: their begin on
    the other axis, and `reach`, by how much it may differ.
    """

    order: np.ndarray
    following: np.ndarray
    across: np.ndarray
    reach: np.ndarray

    @classmethod
    def of(cls, boxes: BoxLabels, axis: int) -> "_Neighbours":
        order = np.lexsort((boxes.xyxy[:, axis], boxes.label))
        label, xyxy = boxes.label[order], boxes.xyxy[order].astype(float)
        begin, reach = xyxy[:, :2], (xyxy[:, 2:] - xyxy[:, :2]) * (1 - NEAR_DUPLICATE_IOU) * 1.001  # more, for rounding
        end = begin[:, axis] + reach[:, axis]
        span = 2 * (end.max(initial=0) - begin[:, axis].min(initial=0)) + 1  # keeps the labels apart on one axis
        stop = np.searchsorted(label * span + begin[:, axis], label * span + end, side="right")
        count = np.maximum(stop - np.arange(1, len(order) + 1), 0)
        return cls(order, count, begin[:, 1 - axis], reach[:, 1 - axis])


def describe_split(name: str, part: Annotations) -> SplitReport:
    """Compute the statistics of one split."""
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
        small=int((areas < SMALL_AREA).sum()),
        medium=int(((areas >= SMALL_AREA) & (areas < LARGE_AREA)).sum()),
        large=int((areas >= LARGE_AREA).sum()),
        classes=_count_classes(part),
        image_width=LengthStats.of(image_wh[:, 0]),
        image_height=LengthStats.of(image_wh[:, 1]),
        box_width=LengthStats.of(xyxy[:, 2] - xyxy[:, 0]),
        box_height=LengthStats.of(xyxy[:, 3] - xyxy[:, 1]),
    )


def _count_classes(part: Annotations) -> tuple[ClassCount, ...]:
    counts = np.zeros((3, len(part.labels)), np.int64)  # images, boxes, ignored
    has_excluded = any(each.node is None for each in part.classes)  # their boxes are ignored and have label 0
    for record in part.records:
        boxes = record.boxes
        if has_excluded:
            boxes = boxes[~boxes.ignore | (boxes.label > 0)]
        counts[0, np.unique(boxes.label)] += 1
        np.add.at(counts[1], boxes.label, 1)
        np.add.at(counts[2], boxes.label[boxes.ignore], 1)
    rows = zip(part.labels.names, *counts.tolist(), strict=True)
    return tuple(ClassCount(*row) for row in rows)
