"""The kinds of data sets. The one list of them: everything that depends on the kind takes it from here.

To add a kind, add it to the list and the table, write a reader (`datasets/readers/`, registered in `datasets/load.py`)
and, if a folder should be recognised as that kind, a finder (`datasets/autodetect.py`).
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

KindName = Literal["voc", "coco", "yolo", "folder", "shards"]


class DatasetKind(NamedTuple):
    """What a kind is, in words, and whether its images have boxes rather than image-level labels."""

    description: str
    has_boxes: bool


KINDS: Mapping[KindName, DatasetKind] = {
    "voc": DatasetKind("Pascal VOC: one XML file per image", has_boxes=True),
    "coco": DatasetKind("COCO: one JSON file per split", has_boxes=True),
    "yolo": DatasetKind("YOLO: one text file per image", has_boxes=True),
    "folder": DatasetKind("class folders of images", has_boxes=False),
    "shards": DatasetKind("tar files of labelled images, in webdataset's layout", has_boxes=False),
}
BOX_KINDS = tuple(name for name, kind in KINDS.items() if kind.has_boxes)
IMAGE_KINDS = tuple(name for name, kind in KINDS.items() if not kind.has_boxes)
