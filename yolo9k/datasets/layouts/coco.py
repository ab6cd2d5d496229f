"""Find the COCO files of a data set, their splits and their image folders."""

import logging
from pathlib import Path

from yolo9k.config.datasets import SplitSource
from yolo9k.datasets.layouts.layout import Layout, Part, assign_splits, files_with, levels
from yolo9k.datasets.readers.coco import KEYS, CocoSummary, NoCocoFile
from yolo9k.datasets.readers.paths import FileFinder, path_parts
from yolo9k.datasets.readers.records import BadFile, Entry, reading_data
from yolo9k.datasets.readers.split_names import split_of, split_of_path
from yolo9k.io import is_file
from yolo9k.wordtree.tree import describe

INSTANCES = "instances_"
BESIDE_INSTANCES = ("captions_", "image_info_", "panoptic_", "person_keypoints_", "stuff_")  # of the same images
KEYS_AS_WRITTEN = tuple(f'"{key}"'.encode() for key in KEYS)
CHUNK_BYTES = 1 << 20
MAX_NAMED = 5  # files that a warning names
log = logging.getLogger(__name__)


def find_coco(folder: Path) -> Layout | None:
    """Return the layout of the COCO files of a folder; `None` if there are none. Raises `BadFile` for a broken one."""
    places = [place for level in levels(folder) for place in level]
    files = [path for place in places for path in files_with(place, ".json", regular=False)]
    if any(path.name.startswith(INSTANCES) for path in files):
        files = [path for path in files if not path.name.startswith(BESIDE_INSTANCES)]
    opened = {path: _open_coco(path) for path in files}
    used = [file for file in opened.values() if file is not None and file.may_have_boxes]
    if not any(file.used for file in used):
        return None
    if others := [path.name for path, file in opened.items() if file is None]:
        log.warning("%s: not used, since they are no COCO files: %s", folder.name, describe(others, MAX_NAMED))
    return assign_splits("coco", folder, [coco_part(file, folder) for file in used])


def _open_coco(path: Path) -> CocoSummary | None:
    """Open a COCO file; `None` if it is none. Raises `BadFile` if it is a broken one, by its content or its name.

    `instances_val.json` may be nothing else; `instances_stats.json` may be any JSON.
    """
    try:
        return CocoSummary.of(path)
    except NoCocoFile:
        if path.name.startswith(INSTANCES) and split_of(path.stem):
            raise
        return None
    except BadFile:
        if path.name.startswith(INSTANCES) or (is_file(path) and _has_coco_keys(path)):
            raise
        return None


def _has_coco_keys(path: Path) -> bool:
    """Return whether a file of any size has the keys of COCO's format."""
    missing, end = set(KEYS_AS_WRITTEN), b""
    with reading_data(path), path.open("rb") as file:
        while missing and (chunk := file.read(CHUNK_BYTES)):
            missing -= {key for key in missing if key in end + chunk}
            end = chunk[-max(map(len, KEYS_AS_WRITTEN)) :]
    return not missing


def coco_part(file: CocoSummary, root: Path) -> Part:
    """Return the annotation file, with its image folder if the reader would search for every image."""
    annotations = file.path.relative_to(root).as_posix()
    split = split_of(file.path.stem) or split_of_path(file.path.parent.relative_to(root).as_posix())
    return Part(_coco_entry(file, root), annotations, split, len(file.names))


def _coco_entry(file: CocoSummary, root: Path) -> Entry:
    annotations = file.path.relative_to(root).as_posix()
    name = next(iter(file.names), "")
    folders = file.image_folders(root)
    if not name or is_file(folders[0] / name):
        return annotations
    try:
        image = FileFinder(root).find(name, folders, file.path)
    except BadFile:
        return annotations
    depth = len(path_parts(name))
    if not image.as_posix().endswith("/" + name) or len(image.relative_to(root).parts) <= depth:
        return annotations
    return SplitSource(annotations=annotations, images=image.parents[depth - 1].relative_to(root).as_posix())


def finds_image(file: CocoSummary, root: Path) -> bool:
    """Return whether the first image of a file is below `root`; the file may be in a folder beside the images."""
    name = next(iter(file.names), "")
    return bool(name) and any(is_file(folder / name) for folder in file.image_folders(root))
