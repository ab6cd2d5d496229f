import json
import xml.etree.ElementTree as ElementTree
from itertools import product

import numpy as np
import pytest

from yolo9k.anchors import (
    SAME_IOU,
    STAGES,
    Anchors,
    Stage,
    _count_different,
    _k_means,
    _run,
    _seeds,
    climb,
    cluster,
    measure,
    nearest,
    suspicions,
    sweep,
)
from yolo9k.boxes import shape_iou
from yolo9k.errors import DataError
from yolo9k.placements import letterbox_placement

LAST_STEP = STAGES[-1].last_step


def boxes_around(centres, count=100, spread=0.05, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([np.array(c) * np.exp(rng.normal(0, spread, (count, 2))) for c in centres])


def test_nearest_by_hand():
    sizes = np.array([[1.0, 1.0], [2.0, 4.0]])
    best, overlap = nearest(sizes, np.array([[2.0, 2.0], [1.0, 1.0]]))
    assert best.tolist() == [1, 0]
    assert overlap.tolist() == [1.0, 0.5]  # 2x4 and 2x2 share 4 of 8


def test_measure_sorts_by_area_and_counts_strictly_above_half():
    found = measure(np.array([[1.0, 1.0], [2.0, 4.0]]), np.array([[2.0, 2.0], [1.0, 1.0]]))
    assert found.wh.tolist() == [[1, 1], [2, 2]]
    assert found.average_iou == 0.75
    assert found.above_half == 0.5


def test_finds_separate_groups():
    centres = [(0.5, 0.5), (1, 3), (6, 4)]
    found = cluster(boxes_around(centres), 3)
    assert np.allclose(found.wh, centres, rtol=0.05)
    assert found.average_iou > 0.92


def test_as_many_anchors_as_sizes_fit_exactly():
    sizes = np.array([[1, 1], [1, 2], [2, 1], [5, 5]] * 3, float)
    assert cluster(sizes, 4).average_iou == pytest.approx(1)


def test_one_anchor_is_near_the_best_of_a_fine_search():
    sizes = boxes_around([(1, 1), (3, 2)], 40, 0.3)
    sides = np.exp(np.linspace(-1, 1.5, 120))
    best = max(measure(sizes, np.array([wh])).average_iou for wh in product(sides, sides))
    assert cluster(sizes, 1).average_iou >= best - 1e-4


def test_climbing_never_falls():
    sizes = boxes_around([(1, 1), (3, 2), (2, 6)], 60, 0.4)
    start = sizes[:4]
    assert measure(sizes, climb(sizes, start, 0.1, LAST_STEP)).average_iou >= measure(sizes, start).average_iou


def test_climbing_reaches_the_box_in_every_direction():
    for start in ([1.0, 1.0], [9.0, 9.0], [9.0, 1.0]):
        (found,) = climb(np.array([[4.0, 3.0]]), np.array([start]), 0.1, LAST_STEP)
        assert found == pytest.approx([4, 3], rel=2 * LAST_STEP)


def test_climbing_moves_each_anchor_for_its_own_boxes():
    sizes = np.array([[1.0, 1.0], [8.0, 4.0]])
    found = climb(sizes, np.array([[6.0, 6.0], [1.5, 1.0]]), 0.1, LAST_STEP)
    assert np.allclose(found, sizes[::-1], rtol=2 * LAST_STEP)


def test_an_anchor_without_boxes_stays():
    sizes, start = np.array([[4.0, 3.0]]), np.array([[3.0, 3.0], [50.0, 50.0]])
    assert np.allclose(climb(sizes, start, 0.1, LAST_STEP), [[4, 3], [50, 50]], rtol=2 * LAST_STEP)
    assert _k_means(sizes, start, np.mean).tolist() == [[4, 3], [50, 50]]


def test_k_means_by_hand():
    sizes = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 6.0], [8.0, 8.0], [8.0, 10.0]])
    start = np.array([[1.0, 1.0], [8.0, 8.0]])
    assert _k_means(sizes, start, np.mean).tolist() == [[1, 3], [8, 9]]
    assert _k_means(sizes, start, np.median).tolist() == [[1, 2], [8, 9]]


def test_a_cluster_is_a_peak_of_the_average_iou():
    """Neither a mean nor a median nor a box is one."""
    sizes = boxes_around([(1, 1)], 25, 0.8)
    found = cluster(sizes, 1)
    for start in (found.wh[0], sizes.mean(0), np.median(sizes, 0), *sizes):
        assert measure(sizes, climb(sizes, start[None], 0.01, LAST_STEP)).average_iou <= found.average_iou + 1e-4
    for start in (sizes.mean(0), np.median(sizes, 0), *sizes):
        assert measure(sizes, start[None]).average_iou < found.average_iou - 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_the_best_anchors_of_few_boxes_are_refined_on_many(monkeypatch, seed):
    monkeypatch.setattr("yolo9k.anchors.STAGES", (Stage(6, 48, 0.1, 0.02), Stage(100, 2, 0.1, 0.001)))
    sizes = boxes_around([(1, 1)], 100, 0.6)
    found = cluster(sizes, 1, seed)
    best = measure(sizes, climb(sizes, found.wh, 0.1, LAST_STEP)).average_iou
    assert found.average_iou == pytest.approx(best, abs=1e-3)


class Draws:
    """A random generator that draws given indices, and records the probabilities."""

    def __init__(self, *indices):
        self.indices, self.probabilities = list(indices), []

    def integers(self, high, size):
        return np.array([self.indices.pop(0)])

    def choice(self, count, p):
        self.probabilities.append(p)
        return self.indices.pop(0)


def test_seeds_are_drawn_by_their_distance():
    sizes = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 4.0]])
    draws = Draws(0, 2, 1)
    assert _seeds(sizes, 3, draws).tolist() == [[1, 1], [1, 4], [1, 2]]
    first, second = draws.probabilities
    assert first == pytest.approx([0, 0.5 / 1.25, 0.75 / 1.25])  # IoU 1, 1/2, 1/4 with the box drawn first
    assert second == pytest.approx([0, 1, 0], abs=1e-9)


def test_a_stage_returns_each_peak_once_and_the_best_first():
    sizes = boxes_around([(1, 1), (3, 3), (9, 9)], 50, 0.02)
    one_and_six, two_and_nine = np.array([[1.0, 1.0], [6.0, 6.0]]), np.array([[9.0, 9.0], [2.0, 2.0]])
    starts = [one_and_six * 1.01, two_and_nine, one_and_six, two_and_nine[::-1], np.array([[99.0, 99.0], [50.0, 50.0]])]
    found = _run(Stage(150, 4, 0.1, 0.001), sizes, starts)
    scores = [measure(sizes, anchors).average_iou for anchors in found]
    assert len(found) == 2
    assert scores == sorted(scores, reverse=True)
    assert nearest(*found)[1].min() <= SAME_IOU


@pytest.mark.parametrize("seed", range(3))
def test_a_sample_reaches_the_average_iou_of_all_boxes(seed):
    sizes = boxes_around([(1, 1), (3, 2), (2, 6)], 60_000, 0.5)
    found = cluster(sizes, 3, seed)
    best = measure(sizes, climb(sizes, found.wh, 0.02, LAST_STEP))
    assert found.average_iou >= best.average_iou - 2e-4
    assert found.average_iou == measure(sizes, found.wh).average_iou  # the score of all boxes


@pytest.mark.parametrize("k", [1, 2, 7])
def test_nearest_is_the_first_of_the_best(k):
    rng = np.random.default_rng(k)
    sizes, anchors = rng.integers(1, 5, (200, 2)).astype(float), rng.integers(1, 5, (k, 2)).astype(float)
    overlaps = shape_iou(sizes[:, None], anchors[None])
    best, overlap = nearest(sizes, anchors)
    assert best.tolist() == overlaps.argmax(axis=1).tolist()
    assert overlap.tolist() == overlaps.max(axis=1).tolist()


def test_different_sizes_are_counted_up_to_a_limit():
    few = np.array([[1, 1]] * 5_000 + [[1, 2], [2, 1], [2.00001, 1]])
    assert [_count_different(few, limit) for limit in (1, 2, 3, 4, 9)] == [1, 2, 3, 3, 3]


def test_same_seed_same_anchors_also_beyond_the_sample():
    sizes = boxes_around([(1, 1), (3, 2), (2, 6)], 30_000, 0.4)
    assert len(sizes) > STAGES[-1].boxes
    first, second = cluster(sizes, 3, seed=7), cluster(sizes, 3, seed=7)
    assert np.array_equal(first.wh, second.wh)
    assert first.average_iou == second.average_iou


def test_sweep_rises():
    sizes = boxes_around([(1, 1), (3, 2), (2, 6), (8, 8)], 30, 0.3)
    found = sweep(sizes, [1, 2, 4])
    assert [len(a) for a in found] == [1, 2, 4]
    assert found[0].average_iou < found[1].average_iou < found[2].average_iou


def test_units():
    anchors = Anchors(np.array([[1.5, 2.0]]), 1, 1)
    assert anchors.pixels(32).tolist() == [[48, 64]]
    assert anchors.relative((96, 128), 32).tolist() == [[0.5, 0.5]]
    assert anchors.rounded() == [[1.5, 2.0]]


@pytest.mark.parametrize(
    ("sizes", "k", "says"),
    [
        (np.zeros((0, 2)), 1, "no box; clustering anchors needs boxes"),
        (np.array([[1.0, 0.0]]), 1, "box size 1 x 0: sizes must be positive"),
        (np.array([[np.nan, 1.0]]), 1, "must be positive"),
        (np.ones((1, 2)), 0, "must be at least 1"),
    ],
)
def test_refuses(sizes, k, says):
    with pytest.raises(DataError, match=says):
        cluster(sizes, k)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ([[2, 3]] * 9, "anchors: 1 instead of 3: all 9 boxes have one size"),
        ([[2, 3], [2.00001, 3]], "anchors: 1 instead of 3: all 2 boxes have one size"),  # rounding
        ([[2, 3]], "anchors: 1 instead of 3: there is one box"),
        ([[2, 3], [3, 2], [2, 3]], "anchors: 2 instead of 3: 3 boxes have 2 sizes"),
        ([[2, 3], [3, 2], [2, 2]], None),
    ],
)
def test_as_many_anchors_as_sizes(caplog, sizes, says):
    anchors = cluster(np.array(sizes, float), 3)
    assert [record.getMessage() for record in caplog.records] == ([says] if says else [])
    assert len(anchors) == len(np.unique(np.round(sizes, 3), axis=0))
    assert anchors.average_iou == pytest.approx(1, abs=1e-3)
    assert [len(each) for each in sweep(np.array(sizes, float), range(1, 6))] == list(range(1, len(anchors) + 1))


@pytest.mark.parametrize(
    ("anchors", "says"),
    [
        ([[0.1, 0.2], [0.5, 0.5]], "fractions of the image"),
        ([[1.3, 1.7], [160, 200]], "anchor 160 x 200 is far larger"),
        ([[2.0, 2.0], [2.05, 2.0]], "anchors 1 and 2 are nearly equal"),
    ],
)
def test_suspicions(anchors, says):
    (line,) = suspicions(np.array(anchors), (13, 13))
    assert says in line


def test_official_anchors_are_above_suspicion():
    coco = [[0.57, 0.68], [1.87, 2.06], [3.34, 5.47], [7.88, 3.53], [9.77, 9.17]]
    assert suspicions(np.array(coco), (13, 13)) == []


def scaled(size_wh, image_wh):
    return np.array(size_wh) * letterbox_placement(image_wh, (416, 416)).scale_xy / 32


@pytest.mark.shared
def test_blood_cells_reach_the_target(shared):
    base, sizes = shared("data", "bccd"), []
    for name in (base / "ImageSets/Main/train.txt").read_text().split():
        for box in ElementTree.parse(base / f"Annotations/{name}.xml").iter("bndbox"):
            x1, y1, x2, y2 = (float(box.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax"))
            if x2 > x1 and y2 > y1:
                sizes.append(scaled((x2 - x1, y2 - y1), (640, 480)))
    assert cluster(np.array(sizes), 5).average_iou >= 0.852


@pytest.mark.shared
def test_coco_mini_reaches_the_target(shared):
    content = json.loads(shared("data", "coco-mini", "annotations", "instances_train2017.json").read_text())
    images = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    sizes = [scaled(a["bbox"][2:], images[a["image_id"]]) for a in content["annotations"] if not a["iscrowd"]]
    assert cluster(np.array(sizes), 5).average_iou >= 0.550
