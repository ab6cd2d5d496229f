"""A data set as COCO's evaluation sees it: numbers of images and categories, and the truth."""

import json
from collections.abc import Sequence
from typing import Any

from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import dataset_root
from yolo9k.datasets.readers.records import Annotations, Record
from yolo9k.metrics import coco_ground_truth
from yolo9k.wordtree import WordTree


def image_ids_of(records: Sequence[Record]) -> list[int]:
    """COCO's own numbers of the images; 1, 2, ... where they have none or share some."""
    ids = [record.id for record in records if isinstance(record.id, int)]
    return ids if len(set(ids)) == len(records) else list(range(1, len(records) + 1))


def category_ids_of(labels: WordTree, category_ids: Sequence[int] | None) -> Sequence[int]:
    """COCO's own numbers of the labels; 1, 2, ... where there are none."""
    return range(1, len(labels) + 1) if category_ids is None else category_ids


def ground_truth_of(records: Sequence[Record], labels: WordTree, category_ids: Sequence[int]) -> dict[str, Any]:
    """The records as the content of an annotation file; areas are those of the boxes."""
    truths, sizes = [record.boxes for record in records], [record.size_wh for record in records]
    return coco_ground_truth(truths, image_ids_of(records), sizes, labels.names, category_ids)


def official_ground_truth(config: DatasetConfig, split: str, annotations: Annotations) -> dict[str, Any] | None:
    """The annotation file of a split of kind coco, cut down to the images and categories that were read.

    Its areas are those of the outlines, which decide what COCO calls small, medium and large. None for other
    kinds, for labels over a tree, and for splits of several files, whose numbers may collide.
    """
    entries = config.splits.get(split) or config.splits["train"]  # a split held out is a part of train
    if config.kind != "coco" or annotations.category_ids is None or len(entries) != 1:
        return None
    name = entries[0] if isinstance(entries[0], str) else entries[0].annotations
    content = json.loads((dataset_root(config) / name).read_text(encoding="utf-8-sig"))
    images = {record.id for record in annotations.records}
    categories = set(annotations.category_ids)
    return {
        "info": {},
        "images": [image for image in content["images"] if image["id"] in images],
        "categories": [entry for entry in content["categories"] if entry["id"] in categories],
        "annotations": [
            {"iscrowd": 0, "area": entry["bbox"][2] * entry["bbox"][3], **entry}
            for entry in content["annotations"]
            if entry["image_id"] in images and entry["category_id"] in categories
        ],
    }
