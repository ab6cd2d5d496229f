"""Records of a data set: images with checked boxes, the issues found, and what all readers of annotations share."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from yolo9k.config.datasets import SplitSource
from yolo9k.errors import DataError
from yolo9k.images import ImageSource, read_size_wh
from yolo9k.samples import BoxLabels
from yolo9k.wordtree import WordTree

OnError = Literal["stop", "skip"]
Entry = str | SplitSource
Corners = tuple[float, float, float, float]

CLIP_TOLERANCE_PX = 1.0  # rounding, or VOC corners counted from 0: clipped without an issue
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


@dataclass(frozen=True)
class Issue:
    """An error or warning about a data set: its kind (e.g. `zero area`), its location, and a message."""

    kind: str
    location: str
    message: str


class BadFile(DataError):
    """An image or annotation file that cannot be used; `issue` says why."""

    def __init__(self, kind: str, location: object, message: str) -> None:
        super().__init__(f"{location}: {message}")
        self.issue = Issue(kind, str(location), message)


def unreadable_annotation(location: object, message: str) -> BadFile:
    """Return the error for an annotation that violates its format."""
    return BadFile("unreadable annotation", location, message)


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
    other kinds, and over a label tree (there `classes` have the ids).
    """

    records: tuple[Record, ...]
    labels: WordTree
    errors: tuple[Issue, ...] = ()
    category_ids: tuple[int, ...] | None = None
    classes: tuple[DatasetClass, ...] = ()


@dataclass(frozen=True)
class SplitRequest:
    """What a reader has to read: the `entries` of one split below `root`.

    `labels`: class names in order; empty if the data name them. `all_entries`: those of all splits, so that every split
    gets the same labels. `keep`: whether to read the image with this name (relative to the root).
    """

    root: Path
    entries: tuple[Entry, ...]
    labels: tuple[str, ...] = ()
    all_entries: tuple[Entry, ...] = ()
    keep: Callable[[str], bool] = lambda name: True


class BoxReadResult(NamedTuple):
    """What a reader of boxes returns: records, class names in order, and COCO's category id of each class."""

    records: list[Record]
    labels: tuple[str, ...]
    category_ids: tuple[int, ...] | None = None


class ParsedBox(NamedTuple):
    """A box as annotated, in pixels counted from 0, neither clipped nor checked; `label`: `None` if unknown."""

    location: str
    xyxy: Corners
    name: str
    label: int | None
    ignore: bool = False


@dataclass
class IssueCollector:
    """Collects the issues found while reading; `on_error`: stop at an unusable file, or skip it."""

    on_error: OnError = "stop"
    errors: list[Issue] = field(default_factory=list)

    @contextmanager
    def reading_file(self) -> Iterator[None]:
        """Read one file in this block: a `BadFile` is raised, or its issue is collected if `on_error` is "skip"."""
        try:
            yield
        except BadFile as error:
            if self.on_error == "stop":
                raise
            self.errors.append(error.issue)

    def check_boxes(self, boxes: Iterable[ParsedBox], size_wh: tuple[int, int]) -> BoxLabels:
        """Return the valid boxes, clipped to the image; issues are collected."""
        kept: list[tuple[ParsedBox, Corners]] = []
        for box in boxes:
            clipped, issue = check_box(box, size_wh)
            if clipped is not None:
                kept.append((box, clipped))
            if issue is not None:
                self.errors.append(issue)
        return BoxLabels.of(
            [clipped for _, clipped in kept], [box.label for box, _ in kept], [box.ignore for box, _ in kept]
        )


def check_box(box: ParsedBox, size_wh: tuple[int, int]) -> tuple[Corners | None, Issue | None]:
    """Return the box clipped to its image (`None` if it is invalid), and its issue (`None` if there is none)."""
    (x1, y1, x2, y2), (w, h) = box.xyxy, size_wh
    if 0 <= x1 < x2 - MIN_SIDE_PX and 0 <= y1 < y2 - MIN_SIDE_PX and x2 <= w and y2 <= h and box.label is not None:
        return box.xyxy, None  # fast path: nearly all boxes
    if box.label is None:
        return None, Issue("unknown class", box.location, f"{box.name!r} is not one of the class names")
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


def _is_empty(xyxy: Corners) -> bool:
    return xyxy[2] - xyxy[0] < MIN_SIDE_PX or xyxy[3] - xyxy[1] < MIN_SIDE_PX


def _describe(box: ParsedBox) -> str:
    return f"box [{', '.join(f'{value:g}' for value in box.xyxy)}] ({box.name})"


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
    raise unreadable_annotation(location, f"{field_name} must be a number, not {value!r}")


def read_image_size_wh(path: Path) -> tuple[int, int]:
    """Return width and height from the header of an image file. Raises `BadFile`."""
    if not path.is_file():
        raise BadFile("missing image", path, "no such image")
    try:
        return read_size_wh(path)
    except DataError as error:
        raise BadFile("unreadable image", path, str(error).removeprefix(f"{path}: ")) from error


def read_text(path: Path) -> str:
    """Read a text file of a data set. Raises `BadFile` if it is missing, unreadable or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BadFile("missing annotation", path, "no such file") from error
    except UnicodeDecodeError as error:
        raise unreadable_annotation(path, "not a text file (UTF-8)") from error
    except OSError as error:
        raise unreadable_annotation(path, f"cannot be read: {error.strerror or error}") from error


def index_by_name(labels: Iterable[str]) -> Mapping[str, int]:
    """Return the index of each label by its name."""
    return {name: index for index, name in enumerate(labels)}
