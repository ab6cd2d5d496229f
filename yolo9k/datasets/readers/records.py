"""Records of a data set: images with checked boxes, the issues found, and what all readers of annotations share."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

import numpy as np

from yolo9k import io
from yolo9k.config.datasets import SplitSource, name_problem
from yolo9k.errors import DataError, shorten
from yolo9k.images import ImageSource, read_orientation, read_size_wh
from yolo9k.samples import BoxLabels
from yolo9k.wordtree import WordTree

OnError = Literal["stop", "skip"]
Entry = str | SplitSource
Item = TypeVar("Item")
Corners = tuple[float, float, float, float]

CLIP_TOLERANCE_PX = 1.0  # rounding, or VOC corners counted from 0: clipped without an issue
TURNED = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
TRUE_TEXTS = frozenset(("1", "true", "yes", "y"))
FALSE_TEXTS = frozenset(("0", "false", "no", "n", "", "unspecified", "none", "null"))
MAX_MESSAGE = 600  # characters
MIN_SIDE_PX = 1e-3  # a shorter side counts as zero: float32 cannot represent it far from the origin


class LabelledImage(Protocol):
    """What training needs to know of an image: where it is, and its boxes or its image-level label."""

    @property
    def source(self) -> ImageSource:
        """Return the image file, or the part of a file that holds the image."""

    @property
    def boxes(self) -> BoxLabels:
        """Return the boxes; empty if the image has an image-level label."""

    @property
    def image_label(self) -> int | None:
        """Return the node of the image-level label; `None` if the image has boxes."""

    def boxes_in(self, image_wh: tuple[int, int]) -> BoxLabels:
        """Return the boxes in pixels of the image, whose size was not known before. Raises `BadFile`."""


class ImageSequence(Protocol):
    """Labelled images by index; an implementation may create them on access, to save memory."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> LabelledImage: ...


@dataclass(frozen=True)
class Record:
    """One image with its boxes, clipped to `size_wh` in pixels; `id`: COCO's image id, else the file name's stem."""

    path: Path
    size_wh: tuple[int, int]
    boxes: BoxLabels
    id: int | str

    @property
    def source(self) -> Path:
        """Return the image file."""
        return self.path

    @property
    def image_label(self) -> None:
        """Return `None`: the image has box labels."""

    def boxes_in(self, image_wh: tuple[int, int]) -> BoxLabels:
        """Return the boxes in pixels of the upright image of this size, which may differ from the annotated `size_wh`.

        They are scaled if the aspect ratio is the same, and turned if the file has an EXIF orientation and they are
        annotated on the stored image. Raises `BadFile` if neither fits.
        """
        if image_wh == self.size_wh or not len(self.boxes):
            return self.boxes
        orientation = read_orientation(self.path)
        upright_wh = (self.size_wh[1], self.size_wh[0]) if orientation in TURNED else self.size_wh
        if orientation in TURNED and _same_aspect(upright_wh, image_wh):
            return _scaled(_turned(self.boxes, self.size_wh, orientation), upright_wh, image_wh)
        if _same_aspect(self.size_wh, image_wh):
            return _scaled(self.boxes, self.size_wh, image_wh)
        annotated = f"{self.size_wh[0]}x{self.size_wh[1]}"
        raise BadFile("wrong size", self.path, f"is {image_wh[0]}x{image_wh[1]}, but annotated as {annotated}")


def _same_aspect(one_wh: tuple[int, int], other_wh: tuple[int, int]) -> bool:
    """Return whether two sizes are one image at two scales: their sides differ by less than a pixel by rounding."""
    (w1, h1), (w2, h2) = one_wh, other_wh
    return abs(w1 * h2 - h1 * w2) <= max(w1, h1, w2, h2)


def _scaled(boxes: BoxLabels, from_wh: tuple[int, int], to_wh: tuple[int, int]) -> BoxLabels:
    factors = np.array([to_wh[0] / from_wh[0], to_wh[1] / from_wh[1]] * 2)
    return replace(boxes, xyxy=(boxes.xyxy * factors).astype(np.float32))


def _turned(boxes: BoxLabels, stored_wh: tuple[int, int], orientation: int) -> BoxLabels:
    """Turn boxes from the stored image to the upright one (EXIF orientations 5 to 8 exchange the axes)."""
    w, h = stored_wh
    x1, y1, x2, y2 = boxes.xyxy.T
    across = (h - y2, h - y1) if orientation in (6, 7) else (y1, y2)
    down = (w - x2, w - x1) if orientation in (7, 8) else (x1, x2)
    return replace(boxes, xyxy=np.stack([across[0], down[0], across[1], down[1]], axis=1))


@dataclass(frozen=True)
class Issue:
    """An error or warning about a data set: its kind (e.g. `zero area`), its location, and a message."""

    kind: str
    location: str
    message: str


class BadFile(DataError):
    """An image or annotation file that cannot be used; `issue` says why."""

    def __init__(self, kind: str, location: object, message: str) -> None:
        message = shorten(message, MAX_MESSAGE)
        super().__init__(f"{location}: {message}")
        self.issue = Issue(kind, str(location), message)


def unreadable_annotation(location: object, message: str) -> BadFile:
    """Return the error for an annotation that violates its format."""
    return BadFile("unreadable annotation", location, message)


def count_by_kind(issues: Iterable[Issue]) -> dict[str, int]:
    """Count issues by kind, the most frequent first."""
    return dict(Counter(issue.kind for issue in issues).most_common())


@dataclass(frozen=True)
class DatasetClass:
    """A class of a data set: its name, its node in the label tree (`None`: excluded), and its COCO category id."""

    name: str
    node: int | None
    category_id: int | None = None


@dataclass(frozen=True)
class Annotations:
    """One split of a data set with boxes, whose labels are nodes of `labels`.

    `classes`: the classes of the data set, in its order. `category_ids`: COCO's category id of each label; `None` for
    other kinds, and over a label tree (there `classes` have the ids). `warnings`: what was not used or was changed.
    """

    records: tuple[Record, ...]
    labels: WordTree
    errors: tuple[Issue, ...] = ()
    category_ids: tuple[int, ...] | None = None
    classes: tuple[DatasetClass, ...] = ()
    warnings: tuple[Issue, ...] = ()


@dataclass(frozen=True)
class SplitRequest:
    """What a reader has to read: the `entries` of one split below `root`.

    `labels`: class names in order; empty if the data name them. `all_entries`: those of all splits, so that every split
    gets the same labels. `keep`: whether to read the image with this name (relative to the root). `extra_columns`:
    see `DatasetConfig`.
    """

    root: Path
    entries: tuple[Entry, ...]
    labels: tuple[str, ...] = ()
    all_entries: tuple[Entry, ...] = ()
    keep: Callable[[str], bool] = lambda name: True
    extra_columns: int | None = None


class BoxReadResult(NamedTuple):
    """What a reader of boxes returns: records, class names in order, and COCO's category id of each class.

    `annotated_sizes`: whether sizes are as annotated, so that those of the image files may differ.
    """

    records: list[Record]
    labels: tuple[str, ...]
    category_ids: tuple[int, ...] | None = None
    annotated_sizes: bool = False


class ParsedBox(NamedTuple):
    """A box as annotated, in pixels counted from 0, neither clipped nor checked; `label`: `None` if unknown.

    `exchanged`: whether it was annotated with two other corners, or with these in another order.
    """

    location: str
    xyxy: Corners
    name: str
    label: int | None
    ignore: bool = False
    exchanged: bool = False


@dataclass
class IssueCollector:
    """Collects the issues found while reading; `on_error`: stop at an unusable file, or skip it.

    `warnings`: what is not used or was changed, in one issue with its count. `unused_objects`: the errors of objects
    that are not used: malformed, of an unknown class, outside the image, of no image. `exchanged`: the locations of
    boxes that are used with their corners in another order.
    """

    on_error: OnError = "stop"
    errors: list[Issue] = field(default_factory=list)
    warnings: list[Issue] = field(default_factory=list)
    unused_objects: list[Issue] = field(default_factory=list)
    exchanged: list[str] = field(default_factory=list)

    def warn(self, kind: str, location: object, message: str) -> None:
        """Add a warning."""
        self.warnings.append(Issue(kind, str(location), message))

    @contextmanager
    def reading_file(self) -> Iterator[None]:
        """Read one file in this block: a `BadFile` is raised, or its issue is collected if `on_error` is "skip"."""
        try:
            yield
        except BadFile as error:
            if self.on_error == "stop":
                raise
            self.errors.append(error.issue)

    def drop_object(self, issue: Issue) -> None:
        """Add the error of an object that is not used."""
        self.errors.append(issue)
        self.unused_objects.append(issue)

    def parse_each(self, parse: Callable[[Item], "ParsedBox"], items: Iterable[Item]) -> list["ParsedBox"]:
        """Parse objects; one that is malformed is an error of the data set, and the others stay."""
        boxes = []
        for item in items:
            try:
                boxes.append(parse(item))
            except BadFile as error:
                self.drop_object(error.issue)
        return boxes

    def check_boxes(self, boxes: Iterable[ParsedBox], size_wh: tuple[int, int]) -> BoxLabels:
        """Return the valid boxes, clipped to the image; issues are collected."""
        kept: list[tuple[ParsedBox, Corners]] = []
        for box in boxes:
            clipped, issue = check_box(box, size_wh)
            if clipped is not None:
                kept.append((box, clipped))
                if box.exchanged:
                    self.exchanged.append(box.location)
                if issue is not None:
                    self.errors.append(issue)
            elif issue is not None:
                self.drop_object(issue)
        return BoxLabels.of(
            [clipped for _, clipped in kept], [box.label for box, _ in kept], [box.ignore for box, _ in kept]
        )


def check_box(box: ParsedBox, size_wh: tuple[int, int]) -> tuple[Corners | None, Issue | None]:
    """Return the box clipped to its image (`None` if it is invalid), and its issue (`None` if there is none)."""
    (x1, y1, x2, y2), (w, h) = box.xyxy, size_wh
    if 0 <= x1 < x2 - MIN_SIDE_PX and 0 <= y1 < y2 - MIN_SIDE_PX and x2 <= w and y2 <= h and box.label is not None:
        return box.xyxy, None  # fast path: nearly all boxes
    if box.label is None:
        return None, Issue("unknown class", box.location, unknown_class(box.name))
    if not all(map(isfinite, box.xyxy)):
        return None, Issue("not finite", box.location, f"{_describe(box)} is not finite")
    if _is_empty(box.xyxy):
        return None, Issue("zero area", box.location, f"{_describe(box)} has no area")
    clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(w)), min(y2, float(h)))
    if _is_empty(clipped):
        return None, Issue("outside", box.location, f"{_describe(box)} is outside the image ({w}x{h})")
    if max(abs(a - b) for a, b in zip(box.xyxy, clipped, strict=True)) > CLIP_TOLERANCE_PX:
        return clipped, Issue("clipped", box.location, f"{_describe(box)} was clipped to the image ({w}x{h})")
    return clipped, None


def unknown_class(name: str) -> str:
    """Return the message for a box whose class has no label."""
    return f"{name[:60]!r} is not one of the class names"


def _is_empty(xyxy: Corners) -> bool:
    return xyxy[2] - xyxy[0] < MIN_SIDE_PX or xyxy[3] - xyxy[1] < MIN_SIDE_PX


def _describe(box: ParsedBox) -> str:
    return f"box [{', '.join(f'{value:g}' for value in box.xyxy)}] ({box.name[:60]})"


def parse_number(value: object, location: str, field_name: str) -> float:
    """Convert a number or its text to float; infinities and NaN are accepted here and rejected by `check_box`.

    Raises `BadFile` with `location` and `field_name` for anything else.
    """
    if type(value) is float:  # fast path for the millions of numbers in COCO
        return value
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise unreadable_annotation(location, f"{field_name} must be a number, not {str(value)[:60]!r}")


def read_image_size_wh(path: Path) -> tuple[int, int]:
    """Return width and height from the header of an image file. Raises `BadFile`."""
    try:
        return read_size_wh(path)
    except DataError as error:
        kind = "unreadable image" if io.exists(path) else "missing image"
        raise BadFile(kind, path, str(error).removeprefix(f"{path}: ")) from error


def parse_flag(value: object, location: str, field_name: str) -> bool:
    """Return whether a flag is set: true, 1, 1.0, "1", "yes"; a missing or "Unspecified" one is not.

    Raises `BadFile` for anything else.
    """
    if value is None or isinstance(value, bool | int | float):
        if value in (None, 0, 1):
            return bool(value)
    elif isinstance(value, str):
        text = value.strip().lower()
        if text in TRUE_TEXTS or text == "1.0":
            return True
        if text in FALSE_TEXTS or text == "0.0":
            return False
    raise unreadable_annotation(location, f"{field_name} must be 0 or 1, not {str(value)[:40]!r}")


def read_text(path: Path, max_bytes: int = io.MAX_TEXT_BYTES) -> str:
    """Read a text file of a data set, as `io.read_text`. Raises `BadFile`."""
    if not os.path.lexists(path):
        raise BadFile("missing annotation", path, "no such file")
    return io.read_text(path, unreadable_annotation, max_bytes)


def read_lines(path: Path) -> list[str]:
    """Read the lines of a text file of a data set that are not empty, stripped. Raises `BadFile`."""
    if not os.path.lexists(path):
        raise BadFile("missing annotation", path, "no such file")
    return [line.strip() for line in io.read_lines(path, unreadable_annotation) if line.strip()]


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read a class list, one name per line. Raises `BadFile`, also for an empty line, which would number a class."""
    lines = [line.strip() for line in io.read_lines(path, unreadable_annotation)]
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        message = "an empty line in a list of class names; their lines are the indices of the labels"
        raise unreadable_annotation(f"{path}:{lines.index('') + 1}", message)
    return tuple(lines)


def check_distinct(names: Sequence[str], path: Path) -> None:
    """Raise `BadFile` if a class name in a file is empty or occurs twice."""
    if problem := name_problem(names):
        raise unreadable_annotation(path, problem)


def reading_data(location: object) -> AbstractContextManager[None]:
    """Convert what opening and decoding can raise in the block to a `BadFile` that names `location`."""
    return io.reading(location, unreadable_annotation)


def index_by_name(labels: Iterable[str]) -> Mapping[str, int]:
    """Return the index of each label by its name."""
    return {name: index for index, name in enumerate(labels)}
