"""Read Darknet's `.data` file: lists of images and the file of the class names (Darknet `option_list.c`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yolo9k.datasets.readers.data_yaml import missing_path
from yolo9k.datasets.readers.paths import FileFinder, find_tail
from yolo9k.datasets.readers.records import check_distinct, read_class_names, read_lines
from yolo9k.datasets.readers.split_names import SPLIT_OF_WORD
from yolo9k.errors import DataError
from yolo9k.io import is_file, is_folder

TREE_KEYS = ("tree", "map")


@dataclass(frozen=True)
class DarknetData:
    """The content of a `.data` file: the image list of each split, and the class names.

    `unused`: the keys of labels over a tree, which only a config can describe.
    """

    splits: Mapping[str, Path]
    names: tuple[str, ...]
    unused: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path, root: Path) -> "DarknetData":
        """Read the file; its paths are below `root`. Raises `DataError` if one does not exist."""
        values = _read_values(path)
        keys = {key: SPLIT_OF_WORD.get(key.casefold()) for key, text in values.items() if text and key != "eval"}
        texts = {split: (key, values[key]) for key, split in keys.items() if split}
        splits = {split: _locate(path, root, key, text) for split, (key, text) in texts.items()}
        names: tuple[str, ...] = ()
        if values.get("names"):
            names_file = _locate(path, root, "names", values["names"])
            names = read_class_names(names_file)
            check_distinct(names, names_file)
        classes = values.get("classes", "")
        is_count = classes.isascii() and classes.isdigit()
        if names and is_count and classes.lstrip("0") != str(len(names)):  # as text: it may be of any length
            raise DataError(f"{path}: classes is {classes}, but {values['names']} has {len(names)} names")
        return cls(splits, names, tuple(key for key in TREE_KEYS if values.get(key)))

    @classmethod
    def fits(cls, path: Path, root: Path) -> bool:
        """Return whether the paths of the file are found below `root`."""
        try:
            cls.open(path, root)
        except DataError:
            return False
        return True


def _read_values(path: Path) -> dict[str, str]:
    values: dict[str, str] = {}
    for line in read_lines(path):
        key, equals, value = line.partition("=")
        if line[0] not in "#;" and equals:
            values.setdefault(key.strip(), value.strip())
    return values


def _locate(path: Path, root: Path, key: str, text: str) -> Path:
    """Return the file or folder that a path names: beside the file, from the root, or by its tail."""
    finder = FileFinder(root)
    written = (path.parent / text, root / text)
    found = next((place for place in written if (is_file(place) or is_folder(place)) and finder.contains(place)), None)
    found = found or find_tail(path.parent, text) or find_tail(root, text)
    if found is None:
        raise DataError(f"{path}: {key}: {missing_path(path, text, written, root)}")
    return found
