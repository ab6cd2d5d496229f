"""Add COCO's metrics to an evaluation, and collect the image ids, category ids and ground truth for them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import dataset_root
from yolo9k.datasets.readers.records import Annotations, Record
from yolo9k.metrics import coco_ground_truth, coco_results, coco_statistics
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

if TYPE_CHECKING:
    from yolo9k.evaluation.evaluate import Evaluation


def add_coco_metrics(
    scores: "Evaluation", detections: Sequence[Detections], ground_truth: Mapping[str, Any] | None = None
) -> "Evaluation":
    """Return an evaluation with COCO's metrics added; takes half a minute for 5,000 images.

    `detections`: those that were evaluated. `ground_truth`: content of a COCO annotation file, see
    `read_ground_truth`. It is used only if its categories are the evaluated classes and a box counts for one class
    only; else, or if it is `None`, the ground truth is made from the records.
    """
    if ground_truth is None or not _fits(ground_truth, scores):
        ground_truth = make_ground_truth(scores.records, scores.labels, scores.category_ids)
    results = coco_results(detections, choose_image_ids(scores.records), scores.category_ids)
    return replace(scores, coco=coco_statistics(ground_truth, results))


def _fits(ground_truth: Mapping[str, Any], scores: "Evaluation") -> bool:
    category_ids = {category["id"] for category in ground_truth["categories"]}
    return not scores.by_ancestry and category_ids == set(scores.category_ids)


def choose_image_ids(records: Sequence[Record]) -> list[int]:
    """Return COCO's image ids; 1, 2, ... if not all images have one or if they are not unique."""
    ids = [record.id for record in records if isinstance(record.id, int)]
    return ids if len(set(ids)) == len(records) else list(range(1, len(records) + 1))


def choose_category_ids(labels: WordTree, category_ids: Sequence[int] | None) -> Sequence[int]:
    """Return COCO's category ids; 1, 2, ... if there are none (`None`)."""
    return range(1, len(labels) + 1) if category_ids is None else category_ids


def make_ground_truth(records: Sequence[Record], labels: WordTree, category_ids: Sequence[int]) -> dict[str, Any]:
    """Return the records as the content of a COCO annotation file; areas are those of the boxes."""
    boxes, sizes_wh = [record.boxes for record in records], [record.size_wh for record in records]
    return coco_ground_truth(boxes, choose_image_ids(records), sizes_wh, labels.names, category_ids)


def read_ground_truth(config: DatasetConfig, split: str, annotations: Annotations) -> dict[str, Any] | None:
    """Return the annotation file of a split of a COCO data set, reduced to the images and categories in use.

    Its areas are those of the segments, which decide what counts as small, medium and large. `None`: the data set is
    of another kind, its labels are a tree, or the split has several files, whose ids may collide.
    """
    entries = config.splits.get(split) or config.splits["train"]  # a held-out split is a part of train
    if config.kind != "coco" or annotations.category_ids is None or len(entries) != 1:
        return None
    name = entries[0] if isinstance(entries[0], str) else entries[0].annotations
    content = json.loads((dataset_root(config) / name).read_text(encoding="utf-8-sig"))
    image_ids = {record.id for record in annotations.records}
    category_ids = set(annotations.category_ids)
    return {
        "info": {},
        "images": [image for image in content["images"] if image["id"] in image_ids],
        "categories": [category for category in content["categories"] if category["id"] in category_ids],
        "annotations": [
            {"iscrowd": 0, "area": entry["bbox"][2] * entry["bbox"][3], **entry}
            for entry in content["annotations"]
            if entry["image_id"] in image_ids and entry["category_id"] in category_ids
        ],
    }
