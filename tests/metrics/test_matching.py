import numpy as np
import pytest

from yolo9k.boxes import expand_ranges
from yolo9k.metrics import match
from yolo9k.samples import BoxLabels, Detections

LEFT, RIGHT = (0, 0, 10, 10), (100, 0, 110, 10)


def detections_of(rows):
    """Detections from (box, score, label)."""
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.int64),
    )


def test_ground_truth_is_matched_once_by_the_highest_score():
    detections = [detections_of([(LEFT, 0.5, 0), (LEFT, 0.9, 0), (RIGHT, 0.8, 0)])]
    matches = match(detections, [BoxLabels.of([LEFT], [0])], 1, [0.5])
    assert matches.true_positive.tolist() == [[False, True, False]]
    assert not matches.ignored.any()
    assert matches.ground_truth.tolist() == [0, 0, -1]


def test_equal_scores_keep_their_order():
    detections = [detections_of([(LEFT, 0.5, 0), (LEFT, 0.5, 0)])]
    assert match(detections, [BoxLabels.of([LEFT], [0])], 1, [0.5]).true_positive.tolist() == [[True, False]]


def test_a_second_detection_of_a_ground_truth_is_a_false_positive_even_if_it_overlaps_another():
    # both detections overlap the first box most; VOC does not match the second detection to the second box
    ground_truth = BoxLabels.of([(0, 0, 10, 10), (0, 0, 10, 8)], [0, 0])
    matches = match([detections_of([(LEFT, 0.9, 0), (LEFT, 0.8, 0)])], [ground_truth], 1, [0.5])
    assert matches.true_positive.tolist() == [[True, False]]


def test_detections_of_difficult_boxes_are_ignored():
    detections = [detections_of([(LEFT, 0.9, 0), (LEFT, 0.8, 0)])]
    matches = match(detections, [BoxLabels.of([LEFT], [0], [True])], 1, [0.5])
    assert matches.ignored.tolist() == [[True, True]]
    assert not matches.true_positive.any()
    assert matches.total.tolist() == [0]
    assert matches.present.tolist() == []


def test_only_equal_labels_match():
    matches = match([detections_of([(LEFT, 0.9, 1)])], [BoxLabels.of([LEFT], [0])], 2, [0.5])
    assert not matches.true_positive.any()


def test_an_iou_equal_to_the_threshold_is_a_match():
    # 10x10 in 10x20: IoU exactly .5
    matches = match([detections_of([((0, 0, 10, 20), 0.9, 0)])], [BoxLabels.of([LEFT], [0])], 1, [0.5, 0.55])
    assert matches.true_positive.tolist() == [[True], [False]]


def test_voc_pixel_widens_all_boxes():
    # inclusive corners: 1x1 inside 2x1 is IoU .5; without the pixel both have no area
    detections = [detections_of([((5, 5, 6, 5), 0.9, 0)])]
    ground_truth = [BoxLabels.of([(5, 5, 5, 5)], [0])]
    assert match(detections, ground_truth, 1, [0.5], voc_pixel=True).true_positive.all()
    assert not match(detections, ground_truth, 1, [0.5]).true_positive.any()


def test_images_do_not_mix_and_indices_run_over_all_images():
    ground_truth = [BoxLabels.of([RIGHT], [0]), BoxLabels.of([], []), BoxLabels.of([RIGHT, LEFT], [0, 0])]
    detections = [detections_of([(LEFT, 0.9, 0)]), detections_of([(LEFT, 0.9, 0)]), detections_of([(LEFT, 0.9, 0)])]
    matches = match(detections, ground_truth, 1, [0.5])
    assert matches.ground_truth.tolist() == [-1, -1, 2]
    assert matches.image.tolist() == [0, 1, 2]
    assert matches.true_positive.tolist() == [[False, False, True]]


@pytest.mark.parametrize("images", [0, 2])
def test_no_boxes(images):
    matches = match([detections_of([])] * images, [BoxLabels.of([], [])] * images, 3, [0.5, 0.75])
    assert matches.true_positive.shape == (2, 0)
    assert matches.total.tolist() == [0, 0, 0]


def test_counts_of_images_must_be_equal():
    with pytest.raises(ValueError, match="zip"):
        match([detections_of([])], [], 1, [0.5])


def test_the_first_of_equally_overlapping_boxes_is_matched():
    ground_truth = BoxLabels.of([RIGHT, LEFT, LEFT], [0, 0, 0])
    matches = match([detections_of([(LEFT, 0.9, 0)])], [ground_truth], 1, [0.5])
    assert matches.ground_truth.tolist() == [1]


def test_ranges_are_concatenated():
    index, value = expand_ranges(np.array([5, 9, 0]), np.array([2, 0, 3]))
    assert index.tolist() == [0, 0, 2, 2, 2]
    assert value.tolist() == [5, 6, 0, 1, 2]
    assert expand_ranges(np.zeros(0, int), np.zeros(0, int))[0].tolist() == []


@pytest.mark.parametrize("max_pairs", [1, 7, 1 << 20])
def test_pairs_are_compared_in_parts(monkeypatch, crowded_image, max_pairs):
    found, boxes = crowded_image
    expected = match([found], [boxes], 3, [0.3, 0.5])
    monkeypatch.setattr("yolo9k.boxes.MAX_PAIRS", max_pairs)
    actual = match([found], [boxes], 3, [0.3, 0.5])
    for key, value in vars(expected).items():
        assert np.array_equal(getattr(actual, key), value)
