"""The kinds of data sets, that is their annotation formats: VOC, COCO, YOLO, class folders, shards.

To add a kind:

1. add its name and its row here; describe the values of its `splits` in `DatasetConfig` (`config/datasets.py`);
2. write a reader in `datasets/readers/` and register it in `datasets/load.py`;
3. for a kind with boxes, write a finder, which recognises its folders, and register it in `datasets/autodetect.py`;
4. name it in the help of `--kind`, which does not import this file (`cli/options.py`).

`tests/config/test_kinds.py` fails if the row, reader, finder or help is missing. Two files
have optional extras for single kinds: `datasets/tools/check_files.py` and `evaluation/coco.py`.
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
