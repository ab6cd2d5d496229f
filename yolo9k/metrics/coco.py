"""Compute COCO's twelve metrics with pycocotools or faster-coco-eval, see `coco_packages.py`.

`map50_95` is computed without them, in `evaluation/evaluate.py`.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo9k.boxes import xyxy_to_xywh
from yolo9k.samples import BoxLabels, Detections

if TYPE_CHECKING:
    from yolo9k.metrics.coco_packages import CocoPackage

STATISTICS = (
    *("AP", "AP50", "AP75", "AP small", "AP medium", "AP large"),
    *("AR 1", "AR 10", "AR 100", "AR small", "AR medium", "AR large"),
)


def coco_ground_truth(
    ground_truth: Sequence[BoxLabels],
    image_ids: Sequence[int],
    sizes_wh: Sequence[tuple[int, int]],
    names: Sequence[str],
    category_ids: Sequence[int],
) -> dict[str, Any]:
    """Return ground truth boxes as the content of a COCO annotation file; ignored boxes become `iscrowd`."""
    annotations = [
        {
            "image_id": image_id,
            "category_id": int(category_ids[label]),
            "bbox": [float(v) for v in box],
            "area": float(box[2] * box[3]),
            "iscrowd": int(ignore),
        }
        for image_id, boxes in zip(image_ids, ground_truth, strict=True)
        for box, label, ignore in zip(xyxy_to_xywh(boxes.xyxy.astype(float)), boxes.label, boxes.ignore, strict=True)
    ]
    # pycocotools uses 0 for "no match", so ids start at 1
    with_ids = [{"id": index, **annotation} for index, annotation in enumerate(annotations, start=1)]
    images = [{"id": i, "width": int(w), "height": int(h)} for i, (w, h) in zip(image_ids, sizes_wh, strict=True)]
    categories = [{"id": int(i), "name": name} for i, name in zip(category_ids, names, strict=True)]
    return {"info": {}, "images": images, "annotations": with_ids, "categories": categories}


def coco_results(
    detections: Sequence[Detections], image_ids: Sequence[int], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Return detections as the content of a COCO results file."""
    pairs = zip(detections, image_ids, strict=True)
    return [result for each, image_id in pairs for result in each.to_coco(image_id, category_ids)]


def coco_statistics(
    ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], package: "CocoPackage | None" = None
) -> dict[str, float]:
    """Return COCO's twelve box metrics by name; NaN (-1 in the packages) for kinds without ground truth.

    `ground_truth` is the content of an annotation file, `results` that of a results file. Only images listed in
    `ground_truth` are evaluated. `package`: `None`: `choose_package`.
    """
    from pycocotools.coco import COCO  # late, as it is slow to import

    from yolo9k.metrics.coco_packages import choose_package, coco_evaluation

    # pycocotools prints progress, and adds keys to the annotations it receives
    with contextlib.redirect_stdout(io.StringIO()):
        coco_gt, coco_dt = COCO(), COCO()
        coco_gt.dataset = {**ground_truth, "annotations": [dict(each) for each in ground_truth["annotations"]]}
        coco_dt.dataset = {
            **ground_truth,
            "annotations": [_as_annotation(index, result) for index, result in enumerate(results, start=1)],
        }
        coco_gt.createIndex()
        coco_dt.createIndex()
        evaluation = coco_evaluation(package or choose_package(), coco_gt, coco_dt)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = np.where(evaluation.stats < 0, np.nan, evaluation.stats)
    return dict(zip(STATISTICS, values.tolist(), strict=True))


def _as_annotation(index: int, result: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a result as `COCO.loadRes` does; that function itself fails on an empty list."""
    return {**result, "id": index, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
