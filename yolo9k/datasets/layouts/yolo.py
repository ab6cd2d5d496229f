"""Find the splits of a YOLO data set: in `data.yaml`, Darknet's `.data`, image lists, or by its folders."""

import codecs
import logging
from pathlib import Path

from yolo9k.config.loading import DATA_YAML_STEMS
from yolo9k.datasets.layouts.layout import Layout, Part, assign_splits, describe_part, files_with, named_layout
from yolo9k.datasets.readers.darknet_data import DarknetData
from yolo9k.datasets.readers.data_yaml import DataYaml, is_data_yaml_file
from yolo9k.datasets.readers.label_files import LabelFinder
from yolo9k.datasets.readers.paths import path_parts
from yolo9k.datasets.readers.records import BadFile, read_lines, reading_data
from yolo9k.datasets.readers.split_names import exact_split, split_of, split_of_path
from yolo9k.datasets.readers.yolo import OWN_IMAGES
from yolo9k.errors import DataError
from yolo9k.image_formats import is_image_file, is_image_name
from yolo9k.io import is_file, is_folder, visible_files

HEAD_BYTES = 1 << 13  # of a text file: its first line
BOMS_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
log = logging.getLogger(__name__)


def find_yolo(folder: Path) -> Layout | None:
    """Return the layout by `data.yaml`, else Darknet's `.data`, else image lists, else folders with label files."""
    tables = [path for path in files_with(folder, ".yaml", ".yml") if _is_table(path)]
    for path in sorted(tables, key=lambda path: (path.stem not in DATA_YAML_STEMS, path.name)):
        layout = data_yaml_layout(path, folder)
        if layout is not None:
            return layout
    for place in (folder, folder / "data", folder / "cfg"):
        files = files_with(place, ".data") if is_folder(place) else []
        fitting = [path for path in files if DarknetData.fits(path, folder)]
        if fitting or files:
            return darknet_layout((fitting or files)[0], folder)
    return assign_splits("yolo", folder, _image_lists(folder) or _labelled_folders(folder))


def describes_splits(folder: Path) -> bool:
    """Return whether a folder has a `data.yaml` or a `.data` file."""
    return bool(files_with(folder, ".data")) or any(_is_table(path) for path in files_with(folder, ".yaml", ".yml"))


def _is_table(path: Path) -> bool:
    """Return whether a YAML file is a `data.yaml`; only one with such a name may not be broken."""
    try:
        return is_data_yaml_file(path)
    except BadFile:
        if path.stem in DATA_YAML_STEMS:
            raise
        return False


def data_yaml_layout(path: Path, *roots: Path) -> Layout | None:
    """Return the layout that a `data.yaml` describes; `None` if it names no split.

    Its root is the first that all its paths but those of `test` are below, else the first.
    """
    opened: dict[Path, DataYaml] = {}
    for root in roots:
        opened[root] = content = DataYaml.open(path, root)
        if content.missing.keys() <= {"test"}:
            break
    else:
        root, content = next(iter(opened.items()))
    for split, problem in content.missing.items():
        if split != "test":
            raise DataError(f"{path}: {split}: {problem}")
        log.warning("%s: %s: %s; the split cannot be used", path, split, problem)
    parts = [
        Part(_path_below(place, root), _path_below(place, root), split, _count_images(place))
        for split, places in content.splits.items()
        for place in places
    ]
    return named_layout("yolo", root, parts, labels=content.names, extra_columns=content.extra_columns)


def darknet_layout(path: Path, root: Path) -> Layout:
    """Return the layout that a Darknet `.data` file describes. Raises `DataError` if it names no images."""
    content = DarknetData.open(path, root)
    for key in content.unused:
        log.warning("%s: %s is not used; a config with labels: {tree: ...} has labels over a tree", path, key)
    parts = [Part(_path_below(place, root), _path_below(place, root), split, _count_images(place))
             for split, place in content.splits.items()]  # fmt: skip
    layout = named_layout("yolo", root, parts, labels=content.names)
    if layout is None:
        raise DataError(f"{path}: names no list of images: train = or valid =")
    return layout


def _count_images(place: Path) -> int:
    if is_folder(place):
        with reading_data(place):
            return sum(1 for path in visible_files(place) if is_image_file(path))
    return len(read_lines(place)) if is_file(place) else 0


def _path_below(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _image_lists(folder: Path) -> list[Part]:
    """Return the image lists of a folder; if one has just the name of a split (`train.txt`), only such ones."""
    lists = [path for path in files_with(folder, ".txt") if _lists_images(path)]
    exact = [path for path in lists if exact_split(path.stem)]
    if len(exact) < len(lists) and exact:
        log.info("not used: %s", ", ".join(path.name for path in lists if path not in exact))
    return [Part(path.name, path.name, split_of(path.stem), len(read_lines(path))) for path in exact or lists]


def _lists_images(path: Path) -> bool:
    """Return whether the first line of a text file names an image."""
    try:
        with reading_data(path), path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except BadFile:
        return False
    text = head.decode("utf-16" if head.startswith(BOMS_16) else "utf-8-sig", "replace")
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    parts = path_parts(first)
    return bool(parts) and is_image_name(parts[-1])


def _labelled_folders(folder: Path) -> list[Part]:
    """Return every folder whose own images have label files; of nested ones the outer, if they mean the same split."""
    finder = LabelFinder(folder)
    images: dict[Path, list[Path]] = {}
    with reading_data(folder):
        for path in visible_files(folder):
            if is_image_file(path):
                images.setdefault(path.parent, []).append(path)
    labelled = [place for place, own in images.items() if any(finder.find(path) for path in own)]
    splits = {place: split_of_path(_path_below(place, folder)) for place in images}
    below: dict[Path, list[Path]] = {}
    for place in images:
        for outer in (place, *place.parents):
            below.setdefault(outer, []).append(place)
    parts: list[Part] = []
    covered: set[Path] = set()
    for place in sorted(labelled, key=lambda place: (len(place.parts), place)):
        if not covered.isdisjoint((place, *place.parents)):
            continue
        inner = below[place]
        name = _path_below(place, folder)
        if all(splits[other] == splits[place] for other in inner):
            covered.add(place)
            parts.append(Part(name, name, splits[place], sum(len(images[other]) for other in inner)))
        else:
            entry = OWN_IMAGES if name == "." else f"{name}/{OWN_IMAGES}"
            parts.append(Part(entry, name, splits[place], len(images[place])))
    seen = {*covered, *labelled}
    without = {place: len(own) for place, own in images.items() if seen.isdisjoint((place, *place.parents))}
    if parts and without:
        names = ", ".join(
            describe_part(Part("", _path_below(place, folder), None, count)) for place, count in without.items()
        )
        log.info("not used, since they have no label files: %s", names)
    return sorted(parts, key=lambda part: part.name)
