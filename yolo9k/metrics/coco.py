"""COCO's twelve numbers, computed by pycocotools."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yolo9k.boxes import xyxy_to_xywh
from yolo9k.samples import BoxLabels, Detections

STATISTICS = (
    *("AP", "AP50", "AP75", "AP small", "AP medium", "AP large"),
    *("AR 1", "AR 10", "AR 100", "AR small", "AR medium", "AR large"),
)


def coco_ground_truth(
    truths: Sequence[BoxLabels],
    image_ids: Sequence[int],
    sizes_wh: Sequence[tuple[int, int]],
    names: Sequence[str],
    category_ids: Sequence[int],
) -> dict[str, Any]:
    """Truths as the content of a COCO annotation file; those to ignore are `iscrowd`."""
    annotations = [
        {
            "image_id": image_id,
            "category_id": int(category_ids[label]),
            "bbox": [float(v) for v in box],
            "area": float(box[2] * box[3]),
            "iscrowd": int(ignore),
        }
        for image_id, boxes in zip(image_ids, truths, strict=True)
        for box, label, ignore in zip(xyxy_to_xywh(boxes.xyxy.astype(float)), boxes.label, boxes.ignore, strict=True)
    ]
    # pycocotools takes 0 for "no match", so numbers start at 1
    numbered = [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)]
    images = [{"id": i, "width": int(w), "height": int(h)} for i, (w, h) in zip(image_ids, sizes_wh, strict=True)]
    categories = [{"id": int(i), "name": name} for i, name in zip(category_ids, names, strict=True)]
    return {"info": {}, "images": images, "annotations": numbered, "categories": categories}


def coco_results(
    detections: Sequence[Detections], image_ids: Sequence[int], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Detections as the content of a COCO results file."""
    pairs = zip(detections, image_ids, strict=True)
    return [entry for found, image_id in pairs for entry in found.to_coco(image_id, category_ids)]


def coco_statistics(truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The twelve numbers of pycocotools for boxes, by name; NaN (its -1) where no truth of that kind exists.

    `truth` is the content of an annotation file, `results` that of a results file; only the images that
    `truth` lists are looked at.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # pycocotools prints as it goes, and adds keys to the annotations that it is given
    with contextlib.redirect_stdout(io.StringIO()):
        expected, found = COCO(), COCO()
        expected.dataset = {**truth, "annotations": [dict(entry) for entry in truth["annotations"]]}
        found.dataset = {
            **truth,
            "annotations": [_as_annotation(n, r) for n, r in enumerate(results, start=1)],
        }
        expected.createIndex()
        found.createIndex()
        evaluation = COCOeval(expected, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = np.where(evaluation.stats < 0, np.nan, evaluation.stats)
    return dict(zip(STATISTICS, values.tolist(), strict=True))


def _as_annotation(number: int, result: Mapping[str, Any]) -> dict[str, Any]:
    """What `COCO.loadRes` makes of a result; that function itself fails on an empty list."""
    return {**result, "id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
