"""Find the folders of a data set that have Pascal VOC annotations, and their splits."""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from yolo9k.datasets.layouts.layout import Layout, Part, assign_splits, subfolders
from yolo9k.datasets.readers.records import reading_data
from yolo9k.datasets.readers.split_names import exact_split, split_of, split_of_path
from yolo9k.datasets.readers.voc import ALL, ANNOTATION_FOLDERS, IMAGE_FOLDERS, VocFolder, find_annotations
from yolo9k.io import is_file

PROBED = 50  # images checked for labels per folder
HEAD_BYTES = 1 << 12  # of an XML file: its first element
log = logging.getLogger(__name__)


def find_voc(folder: Path) -> Layout | None:
    """Return the layout of all folders with XML files of this format."""
    parts: list[Part] = []
    pending, seen = [folder], set[Path]()
    while pending:
        place = pending.pop(0)
        if place.resolve() in seen:  # a link back
            continue
        seen.add(place.resolve())
        with reading_data(place):
            annotations = find_annotations(place)
            has_voc = _are_voc(annotations.values())
        inner = subfolders(place)
        if has_voc:
            parts += _voc_parts(place, folder)
            if place not in {path.parent for path in annotations.values()}:
                own = (*ANNOTATION_FOLDERS, *IMAGE_FOLDERS)
                inner = [path for path in inner if path.name.casefold() not in own]
        pending += inner
    return assign_splits("voc", folder, parts)


def _are_voc(paths: Iterable[Path]) -> bool:
    """Return whether XML files have this format; other XML files may lie anywhere."""
    probed = (_read_head(path) for path in islice(paths, PROBED) if is_file(path))
    return any(b"<annotation" in head.replace(b"\0", b"") for head in probed)  # also in UTF-16


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _voc_parts(folder: Path, root: Path) -> Iterator[Part]:
    """Yield the parts of one VOC folder: its image lists, else its subfolders by split, else all of it."""
    below = folder.relative_to(root).as_posix()
    prefix = "" if below == "." else f"{below}/"
    voc = VocFolder.open(folder)
    names = [name for name in voc.lists() if exact_split(name)]
    names = names or [name for name in voc.lists() if split_of(name) and not voc.is_of_class(name)]
    counts = {name: len(voc.split(name)) for name in names}
    for name in (name for name, count in counts.items() if not count):
        log.warning("%s: the image list %s names no image; it is not used", voc.root, name)
    lists = {name: count for name, count in counts.items() if count}
    if lists:
        has_train = any(split_of(name) == "train" and name != "trainval" for name in lists)
        for name, count in lists.items():
            split = split_of(name)
            if (name == "trainval" and has_train) or (split == "val" and "trainval" in lists and not has_train):
                continue  # the same images
            yield Part(f"{prefix}{name}", f"{prefix}{name}", split, count)
        return
    places: dict[Path, int] = {}
    for path in voc.annotations.values():
        places[path.parent] = places.get(path.parent, 0) + 1
    if any(split_of_path(path.relative_to(folder).as_posix()) for path in places):
        for path, count in places.items():
            name = path.relative_to(root).as_posix()
            yield Part(f"{name}/{ALL}", name, split_of_path(name), count)
        return
    yield Part(f"{prefix}{ALL}", f"{prefix}{ALL}", split_of_path(below), len(voc.annotations))
