"""Decide what the columns of a YOLO label file are: a box, an outline, or a box and columns that are not used.

The data set says it (`extra_columns`, `kpt_shape`), else five columns are a box, six a box and a score, and more an
outline. What does not fit is an error that names the line: nothing is guessed from a count of columns alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from pathlib import Path

from yolo9k.datasets.readers.records import Issue, IssueCollector, unreadable_annotation

BOX_COLUMNS = 5  # class cx cy w h
SCORE_COLUMNS = 6  # and a confidence, as `yolo9k detect --txt` and Ultralytics' `save_conf` write
OUTLINE_COLUMNS = 7  # class and three points
FAR_OUTSIDE = 0.5  # of the image size: a coordinate so far outside is none
MAX_FRACTION = 3.0  # of the image size: a box with a larger number is in pixels
TOLERANCE = 2e-3  # of the image size: rounding
MAX_KEYPOINT_VALUES = 4 + 3 * 200  # of a line: the largest skeletons known have 133 keypoints


@dataclass
class ColumnCheck:
    """Decides what the columns of longer lines are, and whether all lines of a split agree.

    `extra`: columns after the box, as the data set says; `None`: lines are boxes, or outlines if they are longer.
    """

    extra: int | None = None
    boxes: int = 0
    scores: int = 0
    first_score: str = ""
    unused: int = 0
    tracks: "TrackCheck" = field(default_factory=lambda: TrackCheck())
    keypoints: "KeypointCheck" = field(default_factory=lambda: KeypointCheck())

    def box_values(self, values: Sequence[float], location: str) -> Sequence[float]:
        """Return (cx, cy, w, h) or the points of an outline. Raises `BadFile` for a line of another length."""
        count = len(values)
        if count == BOX_COLUMNS:
            self.boxes += 1
            return values[1:]
        if self.extra:
            if count != BOX_COLUMNS + self.extra:
                needed = f"`class cx cy w h` and {self.extra} more (extra_columns, or kpt_shape of data.yaml)"
                raise unreadable_annotation(location, f"must be {needed}, not {count} numbers")
            self.unused += 1
            return values[1:BOX_COLUMNS]
        if count == SCORE_COLUMNS and self.extra is None:
            if not 0 <= values[-1] <= 1:
                message = f"the sixth number must be a score from 0 to 1, not {values[-1]:g}; for another column set"
                raise unreadable_annotation(location, f"{message} extra_columns: 1 in the config")
            self.scores += 1
            self.first_score = self.first_score or location
            return values[1:BOX_COLUMNS]
        if self.extra is None and count > SCORE_COLUMNS:
            self.tracks.add(values[1:], location)  # first: a track is no coordinate
        _check_outline(values, location)
        if self.extra is None:
            self.keypoints.add(values[1:], location)
        return values[1:]

    def report(self, root: Path, issues: IssueCollector) -> None:
        """Warn about columns that are not used. Raises `BadFile` if the outlines are boxes with keypoints."""
        if self.unused:
            issues.warn("extra columns", root, f"{self.unused:,} lines have {self.extra} columns that are not used")
        if self.scores and self.boxes:
            message = f"{self.scores:,} lines have a sixth number, but {self.boxes:,} have five; set extra_columns: 1"
            issues.errors.append(Issue("unreadable annotation", self.first_score, message))
        elif self.scores:
            issues.warn("score column", root, f"{self.scores:,} lines have a score, which is not used")
        if self.keypoints.are_certain:
            count = self.keypoints.length + 1
            message = (
                f"all long lines have {count} numbers and look like boxes with keypoints, not like outlines; set "
                f"kpt_shape in data.yaml, or extra_columns: {count - BOX_COLUMNS} in the config (0 means outlines)"
            )
            raise unreadable_annotation(self.keypoints.location, message)
        if self.tracks.are_certain:
            message = (
                "all long lines have 7 numbers, of which the last is whole, like a box, a score and a track; set "
                "extra_columns: 2 in the config (0 means outlines)"
            )
            raise unreadable_annotation(self.tracks.location, message)


def check_fractions(box: Sequence[float], location: str) -> None:
    """Raise `BadFile` if a box cannot be in fractions of the image size; most often it is in pixels."""
    if max(map(abs, box)) <= MAX_FRACTION:  # nearly all, millions of times
        return
    outside = next((value for value in box if isfinite(value) and abs(value) > MAX_FRACTION), None)
    if outside is not None:
        message = f"cx, cy, w and h must be fractions of the image size, from 0 to 1, not {outside:g}"
        raise unreadable_annotation(location, f"{message}; are these pixels?")


def _check_outline(values: Sequence[float], location: str) -> None:
    """Raise `BadFile` if a line cannot be a class and the points of an outline."""
    count = len(values)
    if count < OUTLINE_COLUMNS or count % 2 == 0:
        message = f"must be `class cx cy w h` or `class x1 y1 x2 y2 x3 y3 …`, not {count} numbers"
        raise unreadable_annotation(location, f"{message}; set extra_columns in the config for other columns")
    outside = next((value for value in values[1:] if not -FAR_OUTSIDE <= value <= 1 + FAR_OUTSIDE), None)
    if outside is not None:
        message = f"{count} numbers are no outline: {outside:g} is no coordinate from 0 to 1"
        raise unreadable_annotation(location, f"{message}; for keypoints set extra_columns or kpt_shape")


@dataclass
class TrackCheck:
    """Decides whether long lines are a box, a score and the number of a track instead of outlines of three points.

    They are if all, and more than one, are a box in the image, a score from 0 to 1 and a whole number. One triangle may
    end at the edge of the image; one line with a larger number is an error of its own.
    """

    location: str = ""
    lines: int = 0
    tracks: int = 0

    @property
    def are_certain(self) -> bool:
        """Return whether the lines are boxes with tracks."""
        return 1 < self.lines == self.tracks

    def add(self, row: Sequence[float], location: str) -> None:
        """Check one line: the numbers after the class."""
        self.location = self.location or location
        self.lines += 1
        is_box = len(row) == OUTLINE_COLUMNS - 1 and _encloses_points(row[:4], 2)
        self.tracks += is_box and 0 <= row[4] <= 1 and row[5].is_integer() and row[5] >= 0


@dataclass
class KeypointCheck:
    """Decides whether long lines are boxes with keypoints instead of outlines.

    They are if all have the same length, all are a box around the points that follow, and the points of some, taken as
    an outline, cross themselves, which none does that is drawn by hand.
    """

    length: int = 0
    location: str = ""
    sizes: tuple[int, ...] = (2, 3)  # numbers of a keypoint that fit all lines
    crosses: bool = False

    @property
    def are_certain(self) -> bool:
        """Return whether the lines are boxes with keypoints."""
        return bool(self.length and self.sizes and self.crosses)

    def add(self, row: Sequence[float], location: str) -> None:
        """Check one line: the numbers after the class."""
        if not self.sizes:
            return
        self.location = self.location or location
        self.length = self.length or len(row)
        fits = len(row) == self.length <= MAX_KEYPOINT_VALUES
        self.sizes = tuple(size for size in self.sizes if fits and _encloses_points(row, size))
        self.crosses = self.crosses or (bool(self.sizes) and _crosses_itself(row))


def _encloses_points(row: Sequence[float], size: int) -> bool:
    """Return whether the first four values are a box in the image around the points of `size` values that follow."""
    if (len(row) - 4) % size:
        return False
    cx, cy, w, h = row[:4]
    x1, x2, y1, y2 = cx - w / 2, cx + w / 2, cy - h / 2, cy + h / 2
    if min(w, h) <= 0 or min(x1, y1) < -TOLERANCE or max(x2, y2) > 1 + TOLERANCE:
        return False
    points = [row[start : start + size] for start in range(4, len(row), size)]
    return all(_is_inside(point, (x1, y1, x2, y2)) for point in points)


def _is_inside(point: Sequence[float], xyxy: tuple[float, float, float, float]) -> bool:
    """Return whether a keypoint is in a box, or is (0, 0): not annotated."""
    x, y, *visibility = point
    (x1, y1, x2, y2), near = xyxy, TOLERANCE
    is_keypoint = visibility in ([], [0], [1], [2])
    return is_keypoint and (x == y == 0 or (x1 - near <= x <= x2 + near and y1 - near <= y <= y2 + near))


def _crosses_itself(row: Sequence[float]) -> bool:
    """Return whether two sides of an outline cross."""
    points = list(zip(row[::2], row[1::2], strict=True))
    sides = list(pairwise([*points, points[0]]))
    return any(
        _cross(*sides[i], *sides[j])
        for i in range(len(sides))
        for j in range(i + 2, len(sides))
        if (i, j) != (0, len(sides) - 1)
    )


def _cross(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float], d: tuple[float, float]) -> bool:
    """Return whether the segments ab and cd cross in their insides."""
    return _side(a, b, c) * _side(a, b, d) < 0 and _side(c, d, a) * _side(c, d, b) < 0


def _side(a: tuple[float, float], b: tuple[float, float], point: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])
