import contextlib
import importlib.util
import io
import json
import logging
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo9k.metrics import average_precision, coco_ground_truth, coco_results, coco_statistics, match, mean
from yolo9k.metrics.coco import STATISTICS
from yolo9k.metrics.coco_packages import choose_package
from yolo9k.samples import BoxLabels, Detections

SIZE = (640, 480)
NAMES = ("a", "b")
CATEGORIES = (7, 90)


needs_both = pytest.mark.skipif(
    importlib.util.find_spec("faster_coco_eval") is None, reason="faster-coco-eval is not installed"
)


@pytest.fixture(params=["pycocotools", pytest.param("faster-coco-eval", marks=needs_both)])
def package(request):
    return request.param


def scene(images=20, seed=0):
    rng = np.random.default_rng(seed)
    ground_truth, detections = [], []
    for _ in range(images):
        xy, wh = rng.random((6, 2)) * 400, rng.random((6, 2)) * 120 + 10
        boxes = np.concatenate([xy, xy + wh], axis=1).astype(np.float32)
        label = rng.integers(0, 2, 6)
        ground_truth.append(BoxLabels.of(boxes, label))
        moved = (boxes + rng.normal(0, 8, boxes.shape)).astype(np.float32)
        detections.append(Detections(moved, rng.random(6).astype(np.float32), label))
    return detections, ground_truth


def coco_files(detections, ground_truth):
    ids = range(1, len(ground_truth) + 1)
    annotations = coco_ground_truth(ground_truth, ids, [SIZE] * len(ground_truth), NAMES, CATEGORIES)
    return annotations, coco_results(detections, ids, CATEGORIES)


def test_a_second_detection_of_a_box_is_a_false_positive(package):
    """Even if the first of the list is the first detection: pycocotools takes the id 0 for no match."""
    box, other = [0, 0, 10, 10], [100, 100, 120, 120]
    found = Detections(np.array([box, box, other], np.float32), np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, int))
    files = coco_files([found], [BoxLabels.of(np.array([box, other], np.float32), [0, 0])])
    ap50 = coco_statistics(*files, package)["AP50"]
    assert ap50 == pytest.approx((51 + 50 * 2 / 3) / 101)  # precision 1 up to recall .5, then 2/3


def test_ground_truth_as_an_annotation_file():
    ground_truth = [BoxLabels.of([(1, 2, 11, 22)], [1], [True])]
    annotations = coco_ground_truth(ground_truth, [42], [SIZE], NAMES, CATEGORIES)
    assert annotations["images"] == [{"id": 42, "width": 640, "height": 480}]
    assert annotations["categories"] == [{"id": 7, "name": "a"}, {"id": 90, "name": "b"}]
    assert annotations["annotations"] == [
        {"id": 1, "image_id": 42, "category_id": 90, "bbox": [1, 2, 10, 20], "area": 200, "iscrowd": 1}
    ]


def test_metrics_equal_those_of_pycocotools_on_files(tmp_path, package):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations, results = coco_files(*scene())
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    (tmp_path / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        expected = COCO(str(tmp_path / "annotations.json"))
        evaluation = COCOeval(expected, expected.loadRes(str(tmp_path / "results.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = coco_statistics(annotations, results, package)
    assert tuple(values) == STATISTICS
    np.testing.assert_allclose(np.nan_to_num(list(values.values()), nan=-1), evaluation.stats, rtol=1e-12)


def test_map50_is_close_to_pycocotools():
    # pycocotools samples the curve at 101 points, and matches another box if the best one is already matched
    detections, ground_truth = scene()
    ours = mean(average_precision(match(detections, ground_truth, 2, [0.5])))
    assert coco_statistics(*coco_files(detections, ground_truth))["AP50"] == pytest.approx(ours, abs=0.01)


def test_perfect_detections():
    _, ground_truth = scene()
    detections = [Detections(boxes.xyxy, np.ones(len(boxes), np.float32), boxes.label) for boxes in ground_truth]
    assert coco_statistics(*coco_files(detections, ground_truth))["AP"] == pytest.approx(1)


def test_nothing_is_printed_and_arguments_are_not_edited(capfd, caplog, package):
    caplog.set_level(logging.DEBUG)
    annotations, results = coco_files(*scene(images=2))
    before = json.dumps([annotations, results])
    coco_statistics(annotations, results, package)
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == []
    assert json.dumps([annotations, results]) == before


def test_no_detections_and_no_ground_truth(package):
    _, ground_truth = scene(images=2)
    nothing = [Detections.empty()] * 2
    assert coco_statistics(*coco_files(nothing, ground_truth), package)["AP"] == 0
    empty = [BoxLabels.of([], [])] * 2
    assert np.isnan(coco_statistics(*coco_files(nothing, empty), package)["AP"])


def crowded(seed: int, boxes: int, sides=(4, 60)):
    """One image: many ground truths of two classes, some ignored, and detections near some of them."""
    rng = np.random.default_rng(seed)
    xy = rng.integers(0, 100, (boxes, 2))
    xyxy = np.concatenate([xy, xy + rng.integers(*sides, (boxes, 2))], axis=1)
    ground_truth = BoxLabels.of(xyxy, rng.integers(0, 2, boxes), rng.random(boxes) < 0.2)
    near = xyxy[rng.integers(0, boxes, 60)] + rng.integers(-3, 4, (60, 4))
    found = Detections(near.astype(np.float32), rng.random(60).astype(np.float32), rng.integers(0, 2, 60))
    dataset = coco_ground_truth([ground_truth], [1], [(200, 200)], ["a", "b"], [1, 2])
    return dataset, coco_results([found], [1], [1, 2])


@pytest.mark.parametrize("seed", range(6))
def test_ground_truths_that_cannot_be_matched_change_nothing(monkeypatch, seed):
    dataset, results = crowded(seed, boxes=(40, 300)[seed % 2])
    expected = coco_statistics(dataset, results, "pycocotools")
    monkeypatch.setattr("yolo9k.metrics.coco_packages.MAX_GROUND_TRUTHS", 0)
    assert coco_statistics(dataset, results, "pycocotools") == pytest.approx(expected, abs=0, nan_ok=True)


def test_an_image_of_20_000_boxes_takes_seconds(package):
    dataset, results = crowded(0, boxes=20_000)
    start = time.perf_counter()
    assert coco_statistics(dataset, results, package)["AP50"] > 0
    assert time.perf_counter() - start < 60


def both(dataset, results):
    slow, fast = (coco_statistics(dataset, results, package) for package in ("pycocotools", "faster-coco-eval"))
    assert fast == pytest.approx(slow, abs=1e-5, nan_ok=True)
    return slow


@needs_both
@pytest.mark.parametrize("seed", range(4))
def test_both_packages_agree_for_every_class(seed):
    """With crowds, areas in all ranges, more detections than count, and areas that are not those of the boxes."""
    dataset, results = crowded(seed, boxes=(30, 200)[seed % 2], sides=(4, 160))
    rng = np.random.default_rng(seed)
    for entry in dataset["annotations"][::3]:
        entry["area"] = float(rng.choice([32**2, 96**2, entry["area"] / 2]))
    results += [{**result, "score": result["score"] / 2} for result in results]
    assert all(np.isfinite(list(both(dataset, results).values())))
    for category in dataset["categories"]:
        own = [entry for entry in dataset["annotations"] if entry["category_id"] == category["id"]]
        both({**dataset, "categories": [category], "annotations": own}, results)


SIDES = st.integers(0, 40)
BOXES = st.tuples(SIDES, SIDES, SIDES, SIDES)
OBJECTS = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2), BOXES, st.integers(0, 1)), max_size=8)


@needs_both
@settings(deadline=None)
@given(OBJECTS, OBJECTS, st.integers(1, 40))
def test_both_packages_agree_with_ties_and_empty_images(ground_truth, detections, scale):
    annotations = [
        {"id": i, "image_id": image, "category_id": label, "bbox": [float(v * scale) for v in box],
         "area": float(box[2] * box[3] * scale**2), "iscrowd": crowd}
        for i, (image, label, box, crowd) in enumerate(ground_truth, 1)
    ]  # fmt: skip
    results = [
        {"image_id": image, "category_id": label, "bbox": [float(v * scale) for v in box], "score": (1 + index % 3) / 4}
        for index, (image, label, box, _) in enumerate(detections)
    ]
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    both(
        {"info": {}, "images": [{"id": i} for i in (1, 2, 3)], "categories": categories, "annotations": annotations},
        results,
    )


def test_the_faster_package_is_chosen_where_it_works(monkeypatch, caplog):
    monkeypatch.setattr("yolo9k.metrics.coco_packages.find_spec", lambda name: None)
    assert choose_package() == "pycocotools"
    assert caplog.messages == []
    monkeypatch.setattr("yolo9k.metrics.coco_packages.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)  # its import fails
    assert choose_package() == "pycocotools"
    assert caplog.messages[0].startswith("COCO metrics: faster-coco-eval cannot be imported, so pycocotools is used: ")
    monkeypatch.setitem(sys.modules, "faster_coco_eval", object())
    assert choose_package() == "faster-coco-eval"
