"""Read `data.yaml` (Ultralytics, Roboflow): class names, splits, keypoints; and class lists of other tools."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolo9k.config.loading import DATA_YAML_STEMS, YAML_SUFFIXES, is_data_yaml
from yolo9k.datasets.readers.paths import FileFinder, find_tail, path_parts
from yolo9k.datasets.readers.records import check_distinct, read_class_names, reading_data, unreadable_annotation
from yolo9k.errors import DataError, shorten
from yolo9k.io import is_file, is_folder, is_hidden, visible_files
from yolo9k.yaml_files import load_yaml

SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}  # Roboflow: `valid`
DATA_YAML = tuple(stem + suffix for stem in DATA_YAML_STEMS for suffix in YAML_SUFFIXES)
CLASS_LISTS = (
    "classes.txt", "obj.names", "class_names.txt", "labels.txt", "_darknet.labels", "classes.names", "names.txt",
    "class.txt", "predefined_classes.txt",
)  # fmt: skip
GENERAL_LISTS = ("labels.txt", "predefined_classes.txt")  # of a tool: may have more classes than the data set
MAX_NAMED = 5  # lists that a message names
MAX_KEYPOINTS = 300  # the largest skeletons known have 133
YAML_KEYS = ("names", "path", *(key for keys in SPLIT_KEYS.values() for key in keys))  # whose values are text
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataYaml:
    """The content of a `data.yaml`: class names in order, the folders or image lists of each split, extra columns.

    `missing`: why a path of a split cannot be used, by split; such a path is also in `splits`.
    """

    names: tuple[str, ...]
    splits: Mapping[str, tuple[Path, ...]]
    extra_columns: int | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path, root: Path | None = None) -> "DataYaml":
        """Read the file; its paths are below `root`, by default its folder. Raises `DataError` for another format."""
        content = load_yaml(path, unreadable_annotation, YAML_KEYS)
        if not isinstance(content, dict) or "names" not in content:
            raise DataError(f"{path}: must be a mapping with 'names'")
        names = _parse_names(path, content["names"])
        _check_count(path, content.get("nc"), names)
        splits: dict[str, tuple[Path, ...]] = {}
        missing: dict[str, str] = {}
        for split, keys in SPLIT_KEYS.items():
            texts = [text for key in keys for text in _split_texts(path, key, content.get(key))]
            base = path.parent / str(content.get("path") or "")
            found = [_locate_split(path, root or path.parent, base, text) for text in texts]
            lost = [text for text, place in zip(texts, found, strict=True) if place is None]
            if texts:
                splits[split] = tuple(
                    place or path.parent.joinpath(*path_parts(text)) for text, place in zip(texts, found, strict=True)
                )
            if lost:
                missing[split] = missing_path(
                    path, lost[0], (base / lost[0], path.parent / lost[0]), root or path.parent
                )
        return cls(names, splits, _keypoint_columns(path, content.get("kpt_shape")), missing)


def _parse_names(path: Path, names: Any) -> tuple[str, ...]:
    """Parse class names: a list, or a mapping from index to name."""
    if isinstance(names, dict) and {str(key) for key in names} == {str(i) for i in range(len(names))}:
        by_index = {str(key): name for key, name in names.items()}
        names = [by_index[str(i)] for i in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        shown = shorten(repr(names))
        raise DataError(f"{path}: names must be a list, or a mapping of 0, 1, 2, … to names, not {shown}")
    check_distinct(names, path)
    return tuple(names)


def _check_count(path: Path, count: Any, names: Sequence[str]) -> None:
    if count is not None and str(count) != str(len(names)):
        raise DataError(f"{path}: nc is {shorten(str(count), 40)}, but there are {len(names)} names")


def _split_texts(path: Path, key: str, value: Any) -> list[str]:
    """Return the paths of a split as written; none if it has none."""
    texts = [value] if isinstance(value, str) else value if value is not None else []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{path}: {key}: must be a folder, an image list or a list of these")
    return [text for text in texts if text not in ("", "~", "null")]


def missing_path(file: Path, text: str, places: Iterable[Path], root: Path) -> str:
    """Return why a path that a file names cannot be used: nothing is at its `places`, or it is outside the root."""
    outside = next((place for place in places if is_file(place) or is_folder(place)), None)
    if outside is None:
        return f"{shorten(text)} does not exist, also not by its tail below {root}"
    return (
        f"{shorten(text)} is {outside}, outside {root}, and is not used; move {file.name} to the folder of its data, "
        "or write a config with that folder as `root`"
    )


def _locate_split(path: Path, root: Path, base: Path, text: str) -> Path | None:
    """Return the folder or list below the root that a path names; exporters disagree on what it is relative to."""
    finder = FileFinder(root)
    written = [base / text, path.parent / text]
    found = next((place for place in written if (is_folder(place) or is_file(place)) and finder.contains(place)), None)
    return finder.below_root(found) if found else find_tail(root, text)


def _keypoint_columns(path: Path, shape: Any) -> int | None:
    """Return the number of columns after the box of a pose data set; `None` if it is none."""
    if shape is None:
        return None
    is_pair = isinstance(shape, list) and len(shape) == 2 and all(type(number) is int for number in shape)
    if not is_pair or not 1 <= shape[0] <= MAX_KEYPOINTS or shape[1] not in (2, 3):
        needed = f"[number of keypoints (at most {MAX_KEYPOINTS}), 2 or 3]"
        raise DataError(f"{path}: kpt_shape must be {needed}, not {shorten(str(shape), 60)}")
    return int(shape[0] * shape[1])


def is_data_yaml_file(path: Path) -> bool:
    """Return whether a YAML file has class names and no kind of our own configs. Raises `BadFile` if it is not YAML."""
    return is_data_yaml(load_yaml(path, unreadable_annotation, YAML_KEYS))


def read_data_yaml(root: Path) -> DataYaml | None:
    """Return the `data.yaml` of a data set; `None` if there is none. Raises `DataError` if it is broken."""
    path = next((root / name for name in DATA_YAML if is_file(root / name)), None)
    return None if path is None else DataYaml.open(path)


def keypoint_columns(root: Path) -> int | None:
    """Return the columns after the box that the `data.yaml` of a data set says; `None` without one that can be read."""
    try:
        content = read_data_yaml(root)
    except DataError:  # class names and splits may come from elsewhere
        return None
    return None if content is None else content.extra_columns


def yolo_names(root: Path) -> tuple[str, ...]:
    """Return the class names in the files of a data set. Raises `DataError` if there are none."""
    content = read_data_yaml(root)
    names = find_class_list(root) if content is None else content.names
    if not names:
        raise DataError(f"{root}: no class names: add labels to the config, or names to data.yaml or classes.txt there")
    return names


def find_class_list(root: Path) -> tuple[str, ...]:
    """Return the names in the class list of a data set, one per line; empty if there is none.

    It is in the root or in `labels`, in `data`, or in a folder beside the images. Of lists that begin alike the longest
    is taken. Raises `DataError` if several lists differ, since the indices of the labels then mean different classes.
    """
    for folders in ((root, root / "labels"), (root / "data",)):
        lists = [path for folder in folders if is_folder(folder) for path in _class_lists(folder)]
        if lists:
            return _read_agreeing(lists)
    with reading_data(root):
        return _read_agreeing([path for path in visible_files(root) if path.name in CLASS_LISTS])


def _class_lists(folder: Path) -> list[Path]:
    """Return the class lists in a folder, the most usual name first."""
    with reading_data(folder):
        listed = sorted(path for path in folder.iterdir() if path.suffix == ".names" and not is_hidden(path.name))
    return [path for path in dict.fromkeys((*listed, *(folder / name for name in CLASS_LISTS))) if is_file(path)]


def _read_agreeing(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the class names that all these lists have; empty without a list. Raises `DataError` if they differ.

    One may continue another: labelImg adds classes to `classes.txt`, not to `predefined_classes.txt`.
    """
    specific = [path for path in paths if path.name not in GENERAL_LISTS]
    if unused := [path for path in paths if specific and path not in specific]:
        log.info("not used: %s, since there is %s", ", ".join(map(str, unused[:MAX_NAMED])), specific[0])
    lists = {path: read_class_names(path) for path in specific or paths}
    names = max(lists.values(), key=len, default=())
    for path, other in lists.items():
        if other != names[: len(other)]:
            longest = next(each for each in lists if lists[each] == names)
            first, second = (each for each in lists if each in (path, longest))
            raise DataError(
                f"{first} and {second}: the class lists differ, so that labels of one index mean other classes"
            )
        check_distinct(other, path)
    return names
