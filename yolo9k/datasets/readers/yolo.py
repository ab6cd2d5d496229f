"""Read YOLO label files: one text file per image, one line `class cx cy w h` per box, relative to the image size.

The class is an index into the class names, which are in the config, in `data.yaml`, in the file that Darknet's `.data`
names, or in a class list. Longer lines: see `label_lines.py`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from yolo9k.datasets.readers.data_yaml import keypoint_columns, yolo_names
from yolo9k.datasets.readers.label_files import LabelFinder
from yolo9k.datasets.readers.label_lines import ColumnCheck, check_fractions
from yolo9k.datasets.readers.paths import FileFinder
from yolo9k.datasets.readers.records import (
    BadFile,
    BoxReadResult,
    Entry,
    IssueCollector,
    ParsedBox,
    Record,
    SplitRequest,
    parse_number,
    read_image_size_wh,
    read_text,
    reading_data,
    unknown_class,
    unreadable_annotation,
)
from yolo9k.errors import DataError, shorten
from yolo9k.image_formats import describe_skipped, is_image_file
from yolo9k.io import is_file, is_folder, visible_files
from yolo9k.progress import Track, silent

OWN_IMAGES = "*"  # at the end of an entry: only the images directly in a folder
MAX_NAMED = 5  # images that a warning names


def read_yolo(request: SplitRequest, issues: IssueCollector, track: Track = silent) -> BoxReadResult:
    """Read the images of the folders (sorted) and image lists; sizes come from the headers of the images.

    Raises `DataError` for missing folders, lists and class names, and if most images have no label file while label
    files lie elsewhere; and, unless `issues` skips them, for unusable files, and if no image has a label file while
    those of other splits have.
    """
    names = request.labels or yolo_names(request.root)
    extra = request.extra_columns if request.extra_columns is not None else keypoint_columns(request.root)
    finder, columns = LabelFinder(request.root), ColumnCheck(extra)
    listed = _list_images(request.root, request.entries, issues)
    images = [path for path in listed if request.keep(_relative_name(path, request.root))]
    if not images:
        return BoxReadResult([], names)
    label_files = {path: finder.find(path) for path in images}
    _check_label_files(label_files, finder, request, issues)
    if orphans := finder.orphans_beside(listed):
        issues.warn("no image", request.root, f"{len(orphans):,} label files are of no image; first: {orphans[0]}")
    records = []
    for path in track(images, "Reading labels"):
        with issues.reading_file():
            size_wh = read_image_size_wh(path)
            boxes = _read_boxes(label_files[path], names, size_wh, columns, issues)
            records.append(Record(path, size_wh, issues.check_boxes(boxes, size_wh), path.stem))
    with issues.reading_file():
        columns.report(request.root, issues)
    _warn_shifted(records, names, issues)
    return BoxReadResult(records, names)


def _warn_shifted(records: Sequence[Record], names: Sequence[str], issues: IssueCollector) -> None:
    """Warn if class 0 is unused and the only unknown class is the one after the last: they seem to begin with 1."""
    unknown = {issue.message for issue in issues.errors if issue.kind == "unknown class"}
    is_next = unknown == {unknown_class(str(len(names)))}
    if is_next and not any((record.boxes.label == 0).any() for record in records):
        first = next(issue.location for issue in issues.errors if issue.kind == "unknown class")
        message = f"no box has class 0, but some have {len(names)}: do the labels count the classes from 1?"
        issues.warn("classes from 1", first, message)


def _check_label_files(
    label_files: Mapping[Path, Path | None], finder: LabelFinder, request: SplitRequest, issues: IssueCollector
) -> None:
    """Warn about images without a label file; raise `DataError` if they are most and label files lie elsewhere.

    Other tools write no file for an image without objects, so a few are nothing unusual. In a whole split they are: its
    label files are missing, unless other splits have none either.
    """
    root = request.root
    missing = sorted(path for path, label_file in label_files.items() if label_file is None)
    if 2 * len(missing) > len(label_files):
        orphan = next(iter(finder.orphans()), None)
        if orphan is not None:
            raise DataError(
                f"{len(missing):,} of {len(label_files):,} images have no label file, for example {missing[0]}, but "
                f"label files of no image exist, for example {orphan}; move them to a folder named labels beside the "
                "images, or remove them"
            )
    if missing and len(missing) == len(label_files):
        with issues.reading_file():
            _refuse_if_others_have_labels(missing, finder, request)
    if missing:
        message = f"{_join_names(missing)} without a label file count as images without objects"
        issues.warn("no label file", root, message)
    used = Counter(path for path in label_files.values() if path is not None)
    shared = [path for path, count in used.items() if count > 1]
    if shared:
        message = f"{len(shared):,} label files are used by several images each; first: {shared[0]}"
        issues.warn("shared label file", root, message)


def _refuse_if_others_have_labels(missing: Sequence[Path], finder: LabelFinder, request: SplitRequest) -> None:
    """Raise `BadFile` if the images `missing` a label file are a whole split, while other splits have label files."""
    found = _label_file_of_others(finder, request)
    if found is not None:
        message = (
            f"none of the {len(missing):,} images of a split has a label file, for example {missing[0]}, but those of "
            f"other splits have, for example {found}; if they have no objects, give one of them an empty label file"
        )
        raise BadFile("no label file", request.root, message)


def _label_file_of_others(finder: LabelFinder, request: SplitRequest) -> Path | None:
    """Return a label file of an image of another split; `None` if there is none."""
    for entry in request.all_entries:
        with suppress(DataError):  # other splits need not be there
            images = () if entry in request.entries else _list_images(request.root, (entry,), IssueCollector("skip"))
            for path in images:
                if (label_file := finder.find(path)) is not None:
                    return label_file
    return None


def _join_names(paths: Sequence[Path]) -> str:
    more = ", …" if len(paths) > MAX_NAMED else ""
    return f"{len(paths):,} images ({', '.join(path.name for path in paths[:MAX_NAMED])}{more})"


def _list_images(root: Path, entries: Sequence[Entry], issues: IssueCollector) -> list[Path]:
    finder = FileFinder(root)
    images = [path for entry in entries for path in _entry_images(root, entry, finder, issues)]
    return list(dict.fromkeys(images))


def _relative_name(path: Path, root: Path) -> str:
    return path.as_posix().removeprefix(f"{root.as_posix().rstrip('/')}/")  # `relative_to` is slow for millions


def _entry_images(root: Path, entry: Entry, finder: FileFinder, issues: IssueCollector) -> list[Path]:
    if not isinstance(entry, str):
        raise DataError(f"{root}: a split of kind yolo must be text (a folder or an image list), not {entry}")
    path = root / entry
    if is_folder(path):
        with reading_data(path):
            files = list(visible_files(path))
        for line in describe_skipped(file.name for file in files):
            issues.warn("skipped images", path, line)
        return [file for file in files if is_image_file(file)]
    if path.name == OWN_IMAGES and is_folder(path.parent):
        with reading_data(path.parent):
            return sorted(image for image in path.parent.iterdir() if is_image_file(image))
    if not is_file(path):
        raise DataError(f"{path}: no such image folder or image list")
    images = []
    lines = [(number, line.strip()) for number, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]
    numbers: dict[str, int] = {}  # of the first of equal lines
    for number, line in lines:
        numbers.setdefault(line, number)
    for line, number in numbers.items():
        with issues.reading_file():
            images.append(finder.find(line, (path.parent, root), f"{path}:{number}"))
    finder.report(path, issues)
    repeated = len(lines) - len(numbers) + len(images) - len(set(images))
    if repeated:
        message = f"{repeated:,} of {len(lines):,} lines repeat an image, which is used once"
        issues.warn("repeated image", path, message)
    return images


def _read_boxes(
    path: Path | None, names: Sequence[str], size_wh: tuple[int, int], columns: ColumnCheck, issues: IssueCollector
) -> list[ParsedBox]:
    if path is None:
        return []
    lines = [(number, line.split()) for number, line in enumerate(read_text(path).split("\n"), 1)]
    return issues.parse_each(
        lambda line: _parse_line(line[1], f"{path}:{line[0]}", names, size_wh, columns),
        [(number, words) for number, words in lines if words],
    )


def _parse_line(
    words: Sequence[str], location: str, labels: Sequence[str], size_wh: tuple[int, int], columns: ColumnCheck
) -> ParsedBox:
    values = [parse_number(word, location, f"value {i}") for i, word in enumerate(words, 1)]
    index = values[0]
    if not index.is_integer():
        raise unreadable_annotation(location, f"the class must be an integer, not {shorten(words[0], 40)!r}")
    box_values = columns.box_values(values, location)
    if len(box_values) == 4:
        check_fractions(box_values, location)
    label = int(index) if 0 <= index < len(labels) else None
    name = words[0] if label is None else labels[label]
    return ParsedBox(location, _to_corners(box_values, size_wh), name, label)


def _to_corners(values: Sequence[float], size_wh: tuple[int, int]) -> tuple[float, float, float, float]:
    """Convert relative (cx, cy, w, h), or the points of a polygon, to xyxy in pixels."""
    width, height = size_wh
    if len(values) == 4:
        cx, cy, w, h = values
        x1, y1, x2, y2 = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    else:
        x1, y1, x2, y2 = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
    return x1 * width, y1 * height, x2 * width, y2 * height
