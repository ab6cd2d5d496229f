"""Add COCO's metrics to an evaluation, and collect the image ids, category ids and ground truth for them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo9k.boxes import xyxy_to_xywh
from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import dataset_root
from yolo9k.datasets.readers.coco import CocoFile, annotated_size_wh, parse_id, read_box
from yolo9k.datasets.readers.records import Annotations, BadFile, Record, parse_number
from yolo9k.metrics import coco_ground_truth, coco_results, coco_statistics
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

if TYPE_CHECKING:
    from yolo9k.evaluation.evaluate import Evaluation


def add_coco_metrics(
    scores: "Evaluation", detections: Sequence[Detections], ground_truth: Mapping[str, Any] | None = None
) -> "Evaluation":
    """Return an evaluation with COCO's metrics added.

    It takes half a minute for 5,000 images, and seconds if faster-coco-eval is installed.

    `detections`: those that were evaluated. `ground_truth`: content of a COCO annotation file, see
    `read_ground_truth`. It is used only if its categories are the evaluated classes and a box counts for one class
    only; else, or if it is `None`, the ground truth is made from the records.
    """
    from yolo9k.metrics.coco_packages import choose_package  # late: it imports pycocotools

    if ground_truth is None or not _fits(ground_truth, scores):
        ground_truth = make_ground_truth(scores.records, scores.labels, scores.category_ids)
    image_ids = choose_image_ids(scores.records)
    if len(image_ids) < len(ground_truth["images"]):  # an evaluation of a part
        ground_truth = _reduced(ground_truth, set(image_ids))
    results = coco_results(detections, image_ids, scores.category_ids)
    package = choose_package()
    return replace(scores, coco=coco_statistics(ground_truth, results, package), coco_package=package)


def _reduced(ground_truth: Mapping[str, Any], image_ids: Collection[int]) -> dict[str, Any]:
    """Return the content of a COCO annotation file for some of its images."""
    return {
        **ground_truth,
        "images": [image for image in ground_truth["images"] if image["id"] in image_ids],
        "annotations": [entry for entry in ground_truth["annotations"] if entry["image_id"] in image_ids],
    }


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
    of another kind, its labels are a tree, the split has several files, whose ids may collide, or ids and image sizes
    are not those of the file. Annotations that the reader refuses are left out.
    """
    entries = config.splits.get(split) or config.splits["train"]  # a held-out split is a part of train
    if config.kind != "coco" or annotations.category_ids is None or len(entries) != 1:
        return None
    name = entries[0] if isinstance(entries[0], str) else entries[0].annotations
    file = CocoFile.open(dataset_root(config) / name)
    records = {record.id: record for record in annotations.records}
    if choose_image_ids(annotations.records) != list(records) or _is_resized(file, records):
        return None
    categories = {category: category for category in annotations.category_ids if category in file.categories}
    by_image = file.boxes_by_image()
    boxes = [_annotation(entry, key, file, categories) for key in records for entry in by_image.get(key, ())]
    return {
        "info": {},
        "images": [{"id": key} for key in records],
        "categories": [{"id": category, "name": file.categories[category]} for category in categories],
        # pycocotools uses 0 for "no match", so ids start at 1
        "annotations": [{"id": index, **box} for index, box in enumerate(filter(None, boxes), start=1)],
    }


def _is_resized(file: CocoFile, records: Mapping[int | str, Record]) -> bool:
    """Return whether an image has another size than the file says, so that the reader scaled its boxes."""
    for image in file.images:
        record = records.get(parse_id(image.get("id")) or "")
        size_wh = annotated_size_wh(image, str(file.path)) if record else None
        if record and size_wh not in (None, record.size_wh):
            return True
    return False


def _annotation(
    entry: Mapping[str, Any], image_id: int | str, file: CocoFile, categories: Mapping[int, int | None]
) -> dict[str, Any] | None:
    """Return an annotation with the types that pycocotools needs; `None` if the reader refuses it."""
    try:
        box = read_box(entry, file, categories)
    except BadFile:
        return None
    bbox = [float(value) for value in entry.get("bbox") or xyxy_to_xywh(np.array(box.xyxy))]
    if box.label is None or not np.isfinite(bbox).all():
        return None
    area = _area(entry, bbox[2] * bbox[3])
    return {"image_id": image_id, "category_id": box.label, "bbox": bbox, "area": area, "iscrowd": int(box.ignore)}


def _area(entry: Mapping[str, Any], box_area: float) -> float:
    """Return the area of an annotation, that of its box if it has none."""
    try:
        area = parse_number(entry.get("area"), "annotation", "area")
    except BadFile:
        return box_area
    return area if 0 <= area < np.inf else box_area
