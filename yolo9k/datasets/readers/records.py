"""What a reader gives: images with checked boxes, and every issue met on the way."""

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

SLACK_PX = 1.0  # rounding, and VOC files whose corners count from 0: clipped without a word
SMALLEST_PX = 1e-3  # a side below this is no side: float32 cannot hold it at the far end of an image


class LabelledImage(Protocol):
    """What training reads of an image: its boxes, or a label of the whole of it."""

    @property
    def source(self) -> ImageSource:
        """Where it lies: a file, or a part of one."""

    @property
    def boxes(self) -> BoxLabels:
        """None where the image has an image label."""

    @property
    def image_label(self) -> int | None:
        """A node of the label tree; none where the image has boxes."""


class ImageSequence(Protocol):
    """ImageSequence by number; made when asked for, where they are too many to be held."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> LabelledImage: ...


@dataclass(frozen=True)
class Record:
    """One image and its boxes, clipped to `size_wh`; `id` is COCO's number, else the file's stem."""

    path: Path
    size_wh: tuple[int, int]
    boxes: BoxLabels
    id: int | str

    @property
    def source(self) -> Path:
        """Its file."""
        return self.path

    @property
    def image_label(self) -> None:
        """None: its labels are those of its boxes."""


@dataclass(frozen=True)
class Issue:
    """Something wrong in a data set: its kind (e.g. `zero area`), where, and what it is in words."""

    kind: str
    location: str
    message: str


class BadFile(DataError):
    """An image or an annotation that cannot be used at all; `issue` says why."""

    def __init__(self, kind: str, place: object, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.issue = Issue(kind, str(place), message)


def unreadable(place: object, message: str) -> BadFile:
    """An annotation that breaks the rules of its format."""
    return BadFile("unreadable annotation", place, message)


@dataclass(frozen=True)
class OwnClass:
    """A class as a data set calls and numbers it; `node` is what it is in the label tree, none if it is left out."""

    name: str
    node: int | None
    category_id: int | None = None


@dataclass(frozen=True)
class Annotations:
    """One split as read; labels of boxes are nodes of `labels`.

    `classes` are the data set's own, in its order. `category_ids` are COCO's own numbers by label: none for other
    kinds, and over a tree, where `classes` have them.
    """

    records: tuple[Record, ...]
    labels: WordTree
    errors: tuple[Issue, ...] = ()
    category_ids: tuple[int, ...] | None = None
    classes: tuple[OwnClass, ...] = ()


@dataclass(frozen=True)
class Selection:
    """What a reader shall read: `entries` of one split below `root`, and of those what `keep` wants.

    `keep` gets the name of an image below the root; `labels` is empty where the data set names them itself,
    and `all_entries` are those of all splits, so that every split numbers its labels alike.
    """

    root: Path
    entries: tuple[Entry, ...]
    labels: tuple[str, ...] = ()
    all_entries: tuple[Entry, ...] = ()
    keep: Callable[[str], bool] = lambda name: True


class Read(NamedTuple):
    """What a reader gives."""

    records: list[Record]
    labels: tuple[str, ...]
    category_ids: tuple[int, ...] | None = None


class RawBox(NamedTuple):
    """A box as its file gives it, in 0-based pixels: not clipped, not checked; `label` is none if unknown."""

    location: str
    xyxy: Corners
    name: str
    label: int | None
    ignore: bool = False


@dataclass
class Findings:
    """Collects the errors of a reading, and decides what a file that cannot be used does."""

    on_error: OnError = "stop"
    errors: list[Issue] = field(default_factory=list)

    @contextmanager
    def file(self) -> Iterator[None]:
        """Around the reading of one file: a `BadFile` goes on, or is noted where bad files are skipped."""
        try:
            yield
        except BadFile as error:
            if self.on_error == "stop":
                raise
            self.errors.append(error.issue)

    def check(self, boxes: Iterable[RawBox], size_wh: tuple[int, int]) -> BoxLabels:
        """The boxes that can be used, clipped to the image; what is wrong is noted."""
        kept: list[tuple[RawBox, Corners]] = []
        for box in boxes:
            inside, problem = check_box(box, size_wh)
            if inside is not None:
                kept.append((box, inside))
            if problem is not None:
                self.errors.append(problem)
        return BoxLabels.of(
            [inside for _, inside in kept], [box.label for box, _ in kept], [box.ignore for box, _ in kept]
        )


def check_box(box: RawBox, size_wh: tuple[int, int]) -> tuple[Corners | None, Issue | None]:
    """The box cut to its image, none where it cannot be used; and what is wrong with it, if anything."""
    (x1, y1, x2, y2), (w, h) = box.xyxy, size_wh
    if 0 <= x1 < x2 - SMALLEST_PX and 0 <= y1 < y2 - SMALLEST_PX and x2 <= w and y2 <= h and box.label is not None:
        return box.xyxy, None  # nearly all boxes: nothing else needs a look
    if box.label is None:
        return None, Issue("unknown class", box.location, f"{box.name!r} is none of the labels")
    if not all(map(isfinite, box.xyxy)):
        return None, Issue("not finite", box.location, f"{_text(box)} is not finite")
    if _is_empty(box.xyxy):
        return None, Issue("zero area", box.location, f"{_text(box)} has no area")
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(w)), min(y2, float(h)))
    if _is_empty(inside):
        return None, Issue("outside", box.location, f"{_text(box)} lies outside the image ({w}x{h})")
    if max(abs(a - b) for a, b in zip(box.xyxy, inside, strict=True)) > SLACK_PX:
        return inside, Issue("clipped", box.location, f"{_text(box)} was cut to the image ({w}x{h})")
    return inside, None


def _is_empty(xyxy: Corners) -> bool:
    return xyxy[2] - xyxy[0] < SMALLEST_PX or xyxy[3] - xyxy[1] < SMALLEST_PX


def _text(box: RawBox) -> str:
    return f"the box [{', '.join(f'{value:g}' for value in box.xyxy)}] ({box.name})"


def number(value: object, place: str, what: str) -> float:
    """A coordinate as a number; text that is one counts, infinities and NaN are left to the box check.

    Raises `BadFile` at `place` naming `what`.
    """
    if type(value) is float:  # all of COCO's millions of numbers: the short way
        return value
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise unreadable(place, f"{what} is {value!r}, a number is needed")


def image_size_wh(path: Path) -> tuple[int, int]:
    """Width and height from the header of an image. Raises `BadFile`."""
    if not path.is_file():
        raise BadFile("missing image", path, "no such image")
    try:
        return read_size_wh(path)
    except DataError as error:
        raise BadFile("unreadable image", path, str(error).removeprefix(f"{path}: ")) from error


def read_text(path: Path) -> str:
    """A text file of the data set. Raises `BadFile` where it is missing, unreadable or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise BadFile("missing annotation", path, "no such file") from error
    except UnicodeDecodeError as error:
        raise unreadable(path, "not a text file (UTF-8)") from error
    except OSError as error:
        raise unreadable(path, f"cannot be read: {error.strerror or error}") from error


def numbers_by_name(labels: Iterable[str]) -> Mapping[str, int]:
    """The number of each label by its name."""
    return {name: number for number, name in enumerate(labels)}
