"""The numpy reference of Darknet's augmentation: equal to Darknet's arrays, and properties without them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.augment import (
    ClassificationAugmentation,
    DetectionAugmentation,
    draw_classification,
    draw_detection,
    transform_labels,
)
from reference.images import distort, flip, rotate_crop

TOLERANCE = 1e-6


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def augmentation(op):
    """Return the augmentation of an `augN` entry of the reference data, and the size of its canvas."""
    drawn = DetectionAugmentation(
        (op["nw"], op["nh"]), (op["dx"], op["dy"]), op["hue"], op["sat"], op["exp"], bool(op["flip"])
    )
    return drawn, tuple(op["canvas"])


def test_augmented_images_match_darknet(image_ops):
    inputs, operations, expected = image_ops
    for op in operations["augmentation"]:
        drawn, canvas_wh = augmentation(op)
        final = drawn.image(inputs[op["image"]], canvas_wh)
        assert np.abs(final - expected[f"{op['key']}_final"]).max() <= TOLERANCE


def test_augmented_labels_match_darknet(image_ops):
    inputs, operations, expected = image_ops
    for op in operations["augmentation"]:
        drawn, canvas_wh = augmentation(op)
        targets = drawn.targets(inputs[f"{op['key']}_labels"], canvas_wh)
        shuffled = expected[f"{op['key']}_truth_shuffled"]
        assert targets.shape == shuffled.shape
        for row, expected_row in zip(sort_rows(targets), sort_rows(shuffled), strict=True):
            assert row == pytest.approx(expected_row, rel=TOLERANCE, abs=TOLERANCE)


def sort_rows(targets):
    """Sort rows by class, then by position."""
    return targets[np.lexsort(np.round(targets, 4).T)]


def test_boxes_are_moved_flipped_clipped_and_dropped():
    labels = [[3, 0.5, 0.5, 0.4, 0.2], [1, 0.0, 0.0, 0.3, 0.4], [2, 0.05, 0.5, 0.1, 0.1], [7, 0.3, 0.5, 0.2, 0.0015]]
    targets = transform_labels(np.array(labels), flip=False, dx=0.1, dy=0, sx=1.0, sy=0.5, slots=5)
    expected = [[0.4, 0.25, 0.4, 0.1, 3], [999_999] * 4 + [1], [0] * 5, [0] * 5, [0] * 5]  # clipped to nothing; too low
    assert targets == pytest.approx(np.array(expected), abs=TOLERANCE)
    flipped = transform_labels(np.array(labels), flip=True, dx=0.1, dy=0, sx=1.0, sy=0.5, slots=5)
    assert flipped[0] == pytest.approx([0.6, 0.25, 0.4, 0.1, 3], abs=TOLERANCE)
    assert flipped[1].tolist() == [999_999] * 4 + [1]


def test_the_slots_are_filled_before_small_boxes_are_dropped():
    labels = np.array([[0, 0.5, 0.5, 0, 0.1], [1, 0.5, 0.5, 0.1, 0.1], [2, 0.5, 0.5, 0.1, 0.1]])
    targets = transform_labels(labels, flip=False, dx=0, dy=0, sx=1, sy=1, slots=2)
    assert targets[:, 4].tolist() == [1, 0]
    assert transform_labels(np.zeros((0, 5)), flip=True, dx=0, dy=0, sx=1, sy=1).shape == (30, 5)


def test_labels_follow_the_image():
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:30, 15:45] = 255
    drawn = DetectionAugmentation((90.0, 50.0), (-13.0, 6.0), flip=True)
    image = drawn.image(image, (80, 64))
    x, y, w, h, label = drawn.targets(np.array([[4, 0.5, 0.5, 0.5, 0.5]]), (80, 64))[0]
    rows, columns = np.nonzero(image[0] > 0.75)
    corners = [columns.min() / 80, rows.min() / 64, (columns.max() + 1) / 80, (rows.max() + 1) / 64]
    assert corners == pytest.approx([x - w / 2, y - h / 2, x + w / 2, y + h / 2], abs=1.5 / 64)
    assert label == 4


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 900), st.integers(1, 900)))
def test_the_ranges_of_a_detectors_augmentation(seed, image_wh):
    options = {"jitter": 0.2, "hue": 0.1, "saturation": 1.5, "exposure": 0.75}
    drawn = draw_detection(np.random.default_rng(seed), image_wh, (416, 416), **options)
    assert drawn == draw_detection(np.random.default_rng(seed), image_wh, (416, 416), **options)
    assert max(drawn.size_wh) == pytest.approx(416)
    stretch = drawn.size_wh[0] / drawn.size_wh[1] * image_wh[1] / image_wh[0]
    assert stretch * (1 + 1e-9) >= 0.8 / 1.2
    assert stretch <= 1.2 / 0.8 * (1 + 1e-9)
    for size, offset in zip(drawn.size_wh, drawn.offset_xy, strict=True):
        assert -TOLERANCE <= offset <= 416 - size + TOLERANCE
    assert abs(drawn.hue) <= 0.1
    assert 1 / 1.5 <= drawn.saturation <= 1.5
    assert 0.75 <= drawn.exposure <= 1 / 0.75
    assert drawn.image(noise(*image_wh), (416, 416)).shape == (3, 416, 416)


def test_a_detector_may_crop_the_image_on_a_canvas_that_is_not_square():
    options = {"jitter": 0.0, "hue": 0.0, "saturation": 1.0, "exposure": 1.0}
    drawn = draw_detection(np.random.default_rng(0), (100, 99), (320, 160), **options)
    assert drawn.size_wh == pytest.approx((320, 320 * 0.99))
    assert 160 - 320 * 0.99 <= drawn.offset_xy[1] <= 0


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_the_ranges_of_a_classifiers_augmentation(seed, image_wh):
    options = {"angle": 7, "aspect": 0.75, "min_crop": 128, "max_crop": 448, "hue": 0.1}
    options |= {"saturation": 0.75, "exposure": 0.75}
    drawn = draw_classification(np.random.default_rng(seed), image_wh, 64, **options)
    assert abs(drawn.radians) <= np.radians(7)
    assert 0.75 <= drawn.aspect <= 1 / 0.75
    shorter = max(1, int(min(image_wh[1], image_wh[0] * drawn.aspect)))
    assert 128 <= round(drawn.scale * shorter) <= 448
    free = image_wh[0] * drawn.scale / drawn.aspect - 64, image_wh[1] * drawn.scale - 64
    assert (np.abs(drawn.offset_xy) <= np.abs(free) / np.array(2) + TOLERANCE).all()
    assert drawn.image(noise(*image_wh), (64, 64)).shape == (3, 64, 64)


def test_a_classifier_flips_before_it_distorts():
    image = noise(20, 20)
    drawn = ClassificationAugmentation(0.1, 1.0, (1.0, 2.0), 1.1, 0.05, 1.2, 0.9, flip=True)
    crop = rotate_crop(image, 0.1, 1.0, (16, 16), (1.0, 2.0), 1.1)
    assert np.array_equal(drawn.image(image, (16, 16)), distort(flip(crop), 0.05, 1.2, 0.9))
