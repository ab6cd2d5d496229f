"""Remarks on the files of a data set: pictures that nobody labelled, splits that are one and the same."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from yolo9k.config import DatasetConfig
from yolo9k.datasets.read import dataset_root
from yolo9k.datasets.records import Annotations, Defect
from yolo9k.datasets.voc import ALL, VocFolder
from yolo9k.datasets.yolo import label_file

NAMED = 5  # pictures of a remark


def remark_on_files(config: DatasetConfig, read: Mapping[str, Annotations]) -> Iterator[Defect]:
    """What is odd about the pictures of the splits that were `read`, and may be right."""
    root = str(dataset_root(config))
    pictures = {name: {record.path for record in part.records} for name, part in read.items()}
    used = set().union(*pictures.values())
    if len(used) == 1:
        yield Defect("single picture", root, "there is one picture: a detector will know that one, and no other")
    for name in pictures.keys() - {"train"} if "train" in pictures else ():
        if pictures[name] == pictures["train"]:
            message = f"{name} has the same pictures as train: its scores say nothing about new pictures"
            yield Defect("same pictures", root, message)
    if config.kind == "voc":
        yield from _not_annotated(config, used)
    if config.kind == "yolo":
        bare = sorted(path for path in used if not label_file(path).is_file())
        if bare:
            message = f"{_listed(bare)} without a label file count as pictures without any object"
            yield Defect("no label file", root, message)


def _not_annotated(config: DatasetConfig, used: set[Path]) -> Iterator[Defect]:
    """Pictures of VOC folders whose split is every annotation there is: no list says that they are left out."""
    entries = [entry for part in config.splits.values() for entry in part if isinstance(entry, str)]
    folders = dict.fromkeys(name for name, _, split in (entry.rpartition("/") for entry in entries) if split == ALL)
    for name in folders:
        folder = VocFolder.open(dataset_root(config) / name)
        bare = sorted({path for path in folder.pictures.values() if path.stem not in folder.annotations} - used)
        if bare:
            yield Defect("not annotated", str(folder.root), f"{_listed(bare)} without an annotation are left out")


def _listed(paths: Iterable[Path]) -> str:
    names = [path.name for path in paths]
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names)} pictures ({', '.join(names[:NAMED])}{more})"
