"""Remarks on the files of a data set: images that nobody labelled, splits that are one and the same."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import dataset_root
from yolo9k.datasets.readers.records import Annotations, Issue
from yolo9k.datasets.readers.voc import ALL, VocFolder
from yolo9k.datasets.readers.yolo import label_file

NAMED = 5  # images of a remark


def check_files(config: DatasetConfig, read: Mapping[str, Annotations]) -> Iterator[Issue]:
    """What is odd about the images of the splits that were `read`, and may be right."""
    root = str(dataset_root(config))
    images = {name: {record.path for record in part.records} for name, part in read.items()}
    used = set().union(*images.values())
    if len(used) == 1:
        yield Issue("single image", root, "there is one image: a detector will know that one, and no other")
    for name in images.keys() - {"train"} if "train" in images else ():
        if images[name] == images["train"]:
            message = f"{name} has the same images as train: its scores say nothing about new images"
            yield Issue("same images", root, message)
    if config.kind == "voc":
        yield from _not_annotated(config, used)
    if config.kind == "yolo":
        bare = sorted(path for path in used if not label_file(path).is_file())
        if bare:
            message = f"{_listed(bare)} without a label file count as images without any object"
            yield Issue("no label file", root, message)


def _not_annotated(config: DatasetConfig, used: set[Path]) -> Iterator[Issue]:
    """Images of VOC folders whose split is every annotation there is: no list says that they are left out."""
    entries = [entry for part in config.splits.values() for entry in part if isinstance(entry, str)]
    folders = dict.fromkeys(name for name, _, split in (entry.rpartition("/") for entry in entries) if split == ALL)
    for name in folders:
        folder = VocFolder.open(dataset_root(config) / name)
        bare = sorted({path for path in folder.images.values() if path.stem not in folder.annotations} - used)
        if bare:
            yield Issue("not annotated", str(folder.root), f"{_listed(bare)} without an annotation are left out")


def _listed(paths: Iterable[Path]) -> str:
    names = [path.name for path in paths]
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names)} images ({', '.join(names[:NAMED])}{more})"
