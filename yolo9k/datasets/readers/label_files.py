"""Find the YOLO label file of an image: in the layouts of all tools, without a look at the disk for each image.

`images/train/a.jpg` has `labels/train/a.txt`; the folders may have other names and other cases (`Images` and `Labels`,
`img` and `txt`, `train_images` and `train_labels`), the labels may be in one flat folder, in a folder inside that of
the images, or beside the images.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path

from yolo9k.datasets.readers.label_lines import FAR_OUTSIDE
from yolo9k.datasets.readers.paths import name_key
from yolo9k.datasets.readers.records import BadFile, reading_data
from yolo9k.errors import DataError
from yolo9k.image_formats import is_image_file
from yolo9k.io import is_file, is_folder, is_hidden, subfolders, visible_files

IMAGE_WORD = re.compile(r"(?<![a-z])(jpegimages|images?|imgs?|pic(?:ture)?s?|photos?|frames?|data)(?![a-z])")
LABEL_WORD = re.compile(r"(?<![a-z])(labels?|txts?|annotations?|annos?|anns?|bboxes|boxes)(?![a-z])")
FORMAT_WORD = re.compile(r"[ _.-]*(?<![a-z])(yolo(v?[0-9]+)?|darknet)(?![a-z])[ _.-]*")  # of `labels_yolo`
CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")  # of `trainLabels`
SUFFIX = ".txt"
OUTSIDE_LEVELS = 4  # folders above one that is outside the root
MIN_VALUES = 5  # in a line of a label file


class LabelFinder:
    """Finds the label files of the images below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders = cache(_folders)  # the content of each folder is read once
        self._labels = cache(_label_files)
        self._candidates = cache(self._find_candidates)
        self._found: dict[Path, Path | None] = {}  # of each image

    def find(self, image: Path) -> Path | None:
        """Return the label file of an image; `None` if there is none. Raises `BadFile` for an unreadable folder."""
        if image not in self._found:
            self._found[image] = self._find(image)
        return self._found[image]

    def _find(self, image: Path) -> Path | None:
        folders, stem = [self._labels(folder) for folder in self._candidates(image.parent)], image.stem
        # `a.jpg.txt` is less usual than `a.txt`, another case even less
        return _first(folders, stem) or _first(folders, image.name) or _first(folders, name_key(stem))

    def _find_candidates(self, folder: Path) -> tuple[Path, ...]:
        """Return the folders that may hold the labels of the images in `folder`, the most likely first."""
        exact: list[Path] = []
        flat: list[Path] = []
        for ancestor in self._ancestors(folder):
            below = folder.relative_to(ancestor).parts
            names = self._folders(ancestor)
            for label_folder in (ancestor / name for name in names if _is_label_folder(name, below[:1])):
                exact.append(label_folder.joinpath(*below))  # labels/train of train
                if _holds_images(below[:1], names):
                    exact.append(label_folder.joinpath(*below[1:]))  # labels/train of images/train
                    flat.append(label_folder)
        return tuple(dict.fromkeys(path for path in (*exact, folder, *flat) if self._labels(path)))

    def _ancestors(self, folder: Path) -> list[Path]:
        """Return the folder and its parents up to the root, the nearest first."""
        if not folder.is_relative_to(self.root):  # a config may name a folder elsewhere
            return [folder, *folder.parents[:OUTSIDE_LEVELS]]
        depth = len(folder.relative_to(self.root).parts)
        return [folder, *folder.parents[:depth]]

    def orphans(self) -> Iterator[Path]:
        """Yield the label files below the root that are of no image there.

        Other text files hold numbers, too: these have the name of an image without a label file, or a box in fractions.
        """
        files = self._all_files
        label_files = {path: self.find(path) for path in files if is_image_file(path)}
        used = set(label_files.values())
        lacking = {name_key(path.stem) for path, found in label_files.items() if found is None}
        for path in files:
            if path.suffix.lower() == SUFFIX and path not in used:
                values = _first_row(path)
                is_named = len(values) >= MIN_VALUES and name_key(path.stem) in lacking
                if is_named or _is_label_row(values):
                    yield path

    def orphans_beside(self, images: Iterable[Path]) -> list[Path]:
        """Return the label files of no image that are in the label folders of these images, sorted.

        All images below the root are looked for only if some label file may be of none in the folders of these.
        """
        images = list(images)
        used = {found for image in images if (found := self.find(image)) is not None}
        folders = {folder for folder in {path.parent for path in used} if folder.is_relative_to(self.root)}
        unused = {path for folder in folders for path in self._labels(folder).values()} - used
        if unused:  # of other splits, whose images are in the same folder
            unused -= {self.find(path) for folder in {image.parent for image in images} for path in _images_in(folder)}
        if not any(map(_holds_boxes, unused)):
            return []
        unused -= {self.find(path) for path in self._all_files if is_image_file(path)}
        return sorted(filter(_holds_boxes, unused))

    @cached_property
    def _all_files(self) -> Sequence[Path]:
        with reading_data(self.root):
            return list(visible_files(self.root))


def _first(folders: Iterable[Mapping[str, Path]], name: str) -> Path | None:
    return next((labels[name] for labels in folders if name in labels), None)


def refuse_other_labels(images: Iterable[Path], root: Path, location: Path, problem: str) -> None:
    """Raise `DataError` if images that the files of another format leave out have YOLO labels: most of the data.

    `problem` continues their count: "of 3 images have no XML file".
    """
    images, finder = list(images), LabelFinder(root)
    label_file = next((found for path in images if (found := finder.find(path)) is not None), None)
    if label_file is not None:
        raise DataError(
            f"{location}: {len(images):,} {problem}, but some have YOLO label files, for example {label_file}; "
            "use files of one format, or write a config (yolo9k data make config --kind yolo)"
        )


def _is_label_folder(name: str, beside: Sequence[str]) -> bool:
    """Return whether a folder may hold the labels of the images in the folder `beside` it, or of those around it."""
    folded = FORMAT_WORD.sub("", _fold(name))
    if not LABEL_WORD.search(folded):
        return False
    rest = LABEL_WORD.sub("*", folded, count=1)
    return rest == "*" or any(rest == IMAGE_WORD.sub("*", _fold(other), count=1) for other in beside)


def _fold(name: str) -> str:
    """Return a name in lower case, its words divided."""
    return CAPITAL.sub("_", name).casefold()


def _holds_images(folder: Sequence[str], names: Sequence[str]) -> bool:
    """Return whether a folder is the one with the images: called so, or no other of the `names` beside it is."""
    is_named = [bool(IMAGE_WORD.search(_fold(name))) for name in names]
    return not folder or not any(is_named) or bool(IMAGE_WORD.search(_fold(folder[0])))


def _folders(folder: Path) -> tuple[str, ...]:
    """Return the names of the visible subfolders, `labels` first."""
    with reading_data(folder):
        names = [path.name for path in subfolders(folder)]
    return tuple(sorted(names, key=lambda name: (name != "labels", name.casefold() != "labels", name)))


def _images_in(folder: Path) -> Iterator[Path]:
    with reading_data(folder):
        yield from (path for path in folder.iterdir() if is_image_file(path))


def _label_files(folder: Path) -> dict[str, Path]:
    """Return the text files of a folder by their stem, as written and as `name_key`; empty if it does not exist."""
    if not is_folder(folder):
        return {}
    with reading_data(folder):
        names = sorted(path.name for path in folder.iterdir() if not is_hidden(path.name))
    texts = [name for name in names if name.lower().endswith(SUFFIX)]
    files = {name_key(name[: -len(SUFFIX)]): folder / name for name in texts}
    return files | {name[: -len(SUFFIX)]: folder / name for name in texts}


def _holds_boxes(path: Path) -> bool:
    """Return whether the first line of a file is one of a label file: five numbers or more."""
    return len(_first_row(path)) >= MIN_VALUES


def _is_label_row(values: Sequence[float]) -> bool:
    """Return whether the numbers of a line are a class and a box, or an outline, in fractions of the image size."""
    fractions = values[1:MIN_VALUES]
    is_inside = all(-FAR_OUTSIDE <= value <= 1 + FAR_OUTSIDE for value in fractions)
    return len(values) >= MIN_VALUES and values[0] >= 0 and values[0].is_integer() and is_inside


def _first_row(path: Path) -> list[float]:
    """Return the numbers in the first line of a file; empty if it has something else."""
    try:
        if not is_file(path):
            return []
        with path.open("rb") as file:
            line = file.readline(1 << 16)
        return [float(word) for word in line.split()]
    except (OSError, ValueError, BadFile):
        return []
