import contextlib
import io
import json

import numpy as np
import pytest

from yolo9k.metrics import average_precision, coco_ground_truth, coco_results, coco_statistics, match, mean
from yolo9k.metrics.coco import STATISTICS
from yolo9k.samples import BoxLabels, Detections

SIZE = (640, 480)
NAMES = ("a", "b")
CATEGORIES = (7, 90)


def scene(images=20, seed=0):
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        xy, wh = rng.random((6, 2)) * 400, rng.random((6, 2)) * 120 + 10
        boxes = np.concatenate([xy, xy + wh], axis=1).astype(np.float32)
        label = rng.integers(0, 2, 6)
        truths.append(BoxLabels.of(boxes, label))
        moved = (boxes + rng.normal(0, 8, boxes.shape)).astype(np.float32)
        found.append(Detections(moved, rng.random(6).astype(np.float32), label))
    return found, truths


def truth_and_results(found, truths):
    ids = range(1, len(truths) + 1)
    truth = coco_ground_truth(truths, ids, [SIZE] * len(truths), NAMES, CATEGORIES)
    return truth, coco_results(found, ids, CATEGORIES)


def test_truth_is_an_annotation_file():
    truths = [BoxLabels.of([(1, 2, 11, 22)], [1], [True])]
    truth = coco_ground_truth(truths, [42], [SIZE], NAMES, CATEGORIES)
    assert truth["images"] == [{"id": 42, "width": 640, "height": 480}]
    assert truth["categories"] == [{"id": 7, "name": "a"}, {"id": 90, "name": "b"}]
    assert truth["annotations"] == [
        {"id": 1, "image_id": 42, "category_id": 90, "bbox": [1, 2, 10, 20], "area": 200, "iscrowd": 1}
    ]


def test_equals_pycocotools_on_the_files(tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, results = truth_and_results(*scene())
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        expected = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(expected, expected.loadRes(str(tmp_path / "results.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = coco_statistics(truth, results)
    assert tuple(values) == STATISTICS
    np.testing.assert_array_equal(np.nan_to_num(list(values.values()), nan=-1), evaluation.stats)


def test_map50_is_close_to_pycocotools():
    # pycocotools reads the curve at 101 points, and lets a detection take another truth if the best is gone
    found, truths = scene()
    ours = mean(average_precision(match(found, truths, 2, [0.5])))
    assert coco_statistics(*truth_and_results(found, truths))["AP50"] == pytest.approx(ours, abs=0.01)


def test_perfect_detections():
    _, truths = scene()
    found = [Detections(boxes.xyxy, np.ones(len(boxes), np.float32), boxes.label) for boxes in truths]
    assert coco_statistics(*truth_and_results(found, truths))["AP"] == pytest.approx(1)


def test_nothing_is_printed_and_nothing_changed(capsys):
    truth, results = truth_and_results(*scene(images=2))
    before = json.dumps([truth, results])
    coco_statistics(truth, results)
    assert capsys.readouterr().out == ""
    assert json.dumps([truth, results]) == before


def test_no_detections_and_no_truths():
    _, truths = scene(images=2)
    nothing = [Detections.empty()] * 2
    assert coco_statistics(*truth_and_results(nothing, truths))["AP"] == 0
    empty = [BoxLabels.of([], [])] * 2
    assert np.isnan(coco_statistics(*truth_and_results(nothing, empty))["AP"])
