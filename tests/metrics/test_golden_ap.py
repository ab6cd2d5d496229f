"""Average precision on reference cases: Padilla's published sample, and cases of the reference data (`shared`)."""

import json

import numpy as np
import pytest

from yolo9k.metrics import (
    area_under_envelope,
    average_precision,
    coco_ground_truth,
    coco_results,
    coco_statistics,
    eleven_point,
    match,
)
from yolo9k.samples import BoxLabels, Detections

# R. Padilla, Object-Detection-Metrics: 15 boxes (left, top, width, height), 24 detections (score first).
PADILLA_GROUND_TRUTH = [
    [(25, 16, 38, 56), (129, 123, 41, 62)],
    [(123, 11, 43, 55), (38, 132, 59, 45)],
    [(16, 14, 35, 48), (123, 30, 49, 44), (99, 139, 47, 47)],
    [(53, 42, 40, 52), (154, 43, 31, 34)],
    [(59, 31, 44, 51), (48, 128, 34, 52)],
    [(36, 89, 52, 76), (62, 58, 44, 67)],
    [(28, 31, 55, 63), (58, 67, 50, 58)],
]
PADILLA_DETECTIONS = [
    [(0.88, 5, 67, 31, 48), (0.70, 119, 111, 40, 67), (0.80, 124, 9, 49, 67)],
    [(0.71, 64, 111, 64, 58), (0.54, 26, 140, 60, 47), (0.74, 19, 18, 43, 35)],
    [
        (0.18, 109, 15, 77, 39),
        (0.67, 86, 63, 46, 45),
        (0.38, 160, 62, 36, 53),
        (0.91, 105, 131, 47, 47),
        (0.44, 18, 148, 40, 44),
    ],
    [(0.35, 83, 28, 28, 26), (0.78, 28, 68, 42, 67), (0.45, 87, 89, 25, 39), (0.14, 10, 155, 60, 26)],
    [(0.62, 50, 38, 28, 46), (0.44, 95, 11, 53, 28), (0.95, 29, 131, 72, 29), (0.23, 29, 163, 72, 29)],
    [(0.45, 43, 48, 74, 38), (0.84, 17, 155, 29, 35), (0.43, 95, 110, 25, 42)],
    [(0.48, 16, 20, 101, 88), (0.95, 33, 116, 37, 49)],
]


def padilla():
    ground_truth, detections = [], []
    for boxes, rows in zip(PADILLA_GROUND_TRUTH, PADILLA_DETECTIONS, strict=True):
        ground_truth.append(BoxLabels.of([(x, y, x + w, y + h) for x, y, w, h in boxes], [0] * len(boxes)))
        xyxy = np.array([(x, y, x + w, y + h) for _, x, y, w, h in rows], np.float32)
        score = np.array([row[0] for row in rows], np.float32)
        detections.append(Detections(xyxy, score, np.zeros(len(rows), np.int64)))
    return detections, ground_truth


@pytest.mark.parametrize(
    ("voc_pixel", "rule", "expected"),
    [(True, area_under_envelope, 0.245687), (True, eleven_point, 0.268398), (False, area_under_envelope, 0.225397)],
)
def test_published_sample(voc_pixel, rule, expected):
    detections, ground_truth = padilla()
    result = average_precision(match(detections, ground_truth, 1, [0.3], voc_pixel=voc_pixel), rule)
    assert result[0, 0] == pytest.approx(expected, abs=1e-6)


def read_case(path):
    case = json.loads(path.read_text())
    ground_truth, detections = [], []
    for image in case["images"]:
        t, d = image["truths"], image["detections"]
        ground_truth.append(BoxLabels.of([x["bbox"] for x in t], [x["class"] for x in t], [x["difficult"] for x in t]))
        detections.append(
            Detections(
                np.array([x["bbox"] for x in d], np.float32).reshape(-1, 4),
                np.array([x["score"] for x in d], np.float32),
                np.array([x["class"] for x in d], np.int64),
            )
        )
    return case, detections, ground_truth


@pytest.mark.shared
@pytest.mark.parametrize("name", ["padilla", "random1", "random2"])
def test_voc_equals_reference(shared, name):
    case, detections, ground_truth = read_case(shared("golden", "ap", f"{name}.json"))
    matches = match(detections, ground_truth, len(case["classes"]), [case["iou"]], voc_pixel=True)
    for rule, key in ((area_under_envelope, "voc_area"), (eleven_point, "voc_11_point")):
        expected = list(case["expected"][key].values())
        np.testing.assert_allclose(average_precision(matches, rule)[0], expected, atol=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["padilla", "random1", "random2"])
def test_coco_equals_reference(shared, name):
    case, detections, ground_truth = read_case(shared("golden", "ap", f"{name}.json"))
    ids, categories = range(1, len(ground_truth) + 1), range(1, len(case["classes"]) + 1)
    sizes = [(image["width"], image["height"]) for image in case["images"]]
    annotations = coco_ground_truth(ground_truth, ids, sizes, case["classes"], categories)
    values = list(coco_statistics(annotations, coco_results(detections, ids, categories)).values())
    expected = np.array(case["expected"]["coco_stats_difficult_as_crowd"], float)
    np.testing.assert_allclose(values, np.where(expected < 0, np.nan, expected), atol=1e-6)
