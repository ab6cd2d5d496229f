import numpy as np
import pytest

from yolo9k.metrics import match
from yolo9k.metrics.matching import spread
from yolo9k.samples import BoxLabels, Detections

LEFT, RIGHT = (0, 0, 10, 10), (100, 0, 110, 10)


def found(rows):
    """Detections from (box, score, label)."""
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.int64),
    )


def test_a_truth_is_used_once_by_the_best_score():
    detections = [found([(LEFT, 0.5, 0), (LEFT, 0.9, 0), (RIGHT, 0.8, 0)])]
    matches = match(detections, [BoxLabels.of([LEFT], [0])], 1, [0.5])
    assert matches.hit.tolist() == [[False, True, False]]
    assert not matches.ignored.any()
    assert matches.truth.tolist() == [0, 0, -1]


def test_equal_scores_keep_the_order_of_the_file():
    detections = [found([(LEFT, 0.5, 0), (LEFT, 0.5, 0)])]
    assert match(detections, [BoxLabels.of([LEFT], [0])], 1, [0.5]).hit.tolist() == [[True, False]]


def test_a_used_truth_makes_a_false_positive_even_where_another_overlaps_enough():
    # both detections overlap the first truth most; VOC does not offer the second truth to the loser
    truths = BoxLabels.of([(0, 0, 10, 10), (0, 0, 10, 8)], [0, 0])
    matches = match([found([(LEFT, 0.9, 0), (LEFT, 0.8, 0)])], [truths], 1, [0.5])
    assert matches.hit.tolist() == [[True, False]]


def test_difficult_truths_count_neither_way():
    detections = [found([(LEFT, 0.9, 0), (LEFT, 0.8, 0)])]
    matches = match(detections, [BoxLabels.of([LEFT], [0], [True])], 1, [0.5])
    assert matches.ignored.tolist() == [[True, True]]
    assert not matches.hit.any()
    assert matches.total.tolist() == [0]
    assert matches.present.tolist() == []


def test_labels_do_not_mix():
    matches = match([found([(LEFT, 0.9, 1)])], [BoxLabels.of([LEFT], [0])], 2, [0.5])
    assert not matches.hit.any()


def test_the_threshold_itself_is_a_match():
    # 10x10 in 10x20: IoU exactly .5
    matches = match([found([((0, 0, 10, 20), 0.9, 0)])], [BoxLabels.of([LEFT], [0])], 1, [0.5, 0.55])
    assert matches.hit.tolist() == [[True], [False]]


def test_voc_pixel_widens_all_boxes():
    # inclusive corners: 1x1 inside 2x1 is IoU .5; without the pixel both have no area
    detections = [found([((5, 5, 6, 5), 0.9, 0)])]
    truths = [BoxLabels.of([(5, 5, 5, 5)], [0])]
    assert match(detections, truths, 1, [0.5], voc_pixel=True).hit.all()
    assert not match(detections, truths, 1, [0.5]).hit.any()


def test_images_do_not_mix_and_truths_are_numbered_through():
    truths = [BoxLabels.of([RIGHT], [0]), BoxLabels.of([], []), BoxLabels.of([RIGHT, LEFT], [0, 0])]
    detections = [found([(LEFT, 0.9, 0)]), found([(LEFT, 0.9, 0)]), found([(LEFT, 0.9, 0)])]
    matches = match(detections, truths, 1, [0.5])
    assert matches.truth.tolist() == [-1, -1, 2]
    assert matches.image.tolist() == [0, 1, 2]
    assert matches.hit.tolist() == [[False, False, True]]


@pytest.mark.parametrize("images", [0, 2])
def test_nothing_at_all(images):
    matches = match([found([])] * images, [BoxLabels.of([], [])] * images, 3, [0.5, 0.75])
    assert matches.hit.shape == (2, 0)
    assert matches.total.tolist() == [0, 0, 0]


def test_numbers_of_images_must_agree():
    with pytest.raises(ValueError, match="zip"):
        match([found([])], [], 1, [0.5])


def test_of_truths_that_overlap_equally_the_first_is_taken():
    truths = BoxLabels.of([RIGHT, LEFT, LEFT], [0, 0, 0])
    matches = match([found([(LEFT, 0.9, 0)])], [truths], 1, [0.5])
    assert matches.truth.tolist() == [1]


def test_runs_of_numbers():
    run, number = spread(np.array([5, 9, 0]), np.array([2, 0, 3]))
    assert run.tolist() == [0, 0, 2, 2, 2]
    assert number.tolist() == [5, 6, 0, 1, 2]
    assert spread(np.zeros(0, int), np.zeros(0, int))[0].tolist() == []
