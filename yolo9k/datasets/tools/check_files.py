"""Warnings about the files of a data set: images without labels, identical splits."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import dataset_root
from yolo9k.datasets.readers.records import Annotations, Issue
from yolo9k.datasets.readers.voc import ALL, VocFolder
from yolo9k.datasets.readers.yolo import label_file

MAX_NAMED = 5  # images that a warning names


def check_files(config: DatasetConfig, read: Mapping[str, Annotations]) -> Iterator[Issue]:
    """Yield warnings about the images of the splits that were `read`."""
    root = str(dataset_root(config))
    images = {name: {record.path for record in part.records} for name, part in read.items()}
    used = set().union(*images.values())
    if len(used) == 1:
        yield Issue("single image", root, "there is only one image: a detector will memorise it")
    for name in images.keys() - {"train"} if "train" in images else ():
        if images[name] == images["train"]:
            message = f"{name} has the same images as train: its scores do not measure generalisation"
            yield Issue("same images", root, message)
    if config.kind == "voc":
        yield from _find_unannotated(config, used)
    if config.kind == "yolo":
        unlabelled = sorted(path for path in used if not label_file(path).is_file())
        if unlabelled:
            message = f"{_join_names(unlabelled)} without a label file count as images without objects"
            yield Issue("no label file", root, message)


def _find_unannotated(config: DatasetConfig, used: set[Path]) -> Iterator[Issue]:
    """Find images without an annotation in VOC folders used as a whole: no image list excludes them on purpose."""
    entries = [entry for part in config.splits.values() for entry in part if isinstance(entry, str)]
    folders = dict.fromkeys(name for name, _, split in (entry.rpartition("/") for entry in entries) if split == ALL)
    for name in folders:
        folder = VocFolder.open(dataset_root(config) / name)
        unannotated = sorted({path for path in folder.images.values() if path.stem not in folder.annotations} - used)
        if unannotated:
            yield Issue(
                "not annotated", str(folder.root), f"{_join_names(unannotated)} without an annotation are skipped"
            )


def _join_names(paths: Iterable[Path]) -> str:
    names = [path.name for path in paths]
    more = ", …" if len(names) > MAX_NAMED else ""
    return f"{len(names)} images ({', '.join(names[:MAX_NAMED])}{more})"
