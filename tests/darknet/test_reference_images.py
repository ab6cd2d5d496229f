"""The numpy reference of Darknet's image operations: equal to Darknet's arrays, and properties without them."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.images import distort, flip, grey_canvas, place, rotate_crop, to_chw

TOLERANCE = 1e-6


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_loading_matches_darknet(image_ops):
    inputs, _, expected = image_ops
    for key in (key for key in inputs.files if not key.endswith("_labels")):
        assert np.array_equal(to_chw(inputs[key]), expected[f"{key}_load"])


def test_place_and_distort_match_darknet(image_ops):
    inputs, operations, expected = image_ops
    cases = operations["augmentation"]
    assert len(cases) == 2
    for op in cases:
        size, offset = (int(op["nw"]), int(op["nh"])), (int(op["dx"]), int(op["dy"]))
        placed = place(inputs[op["image"]], size, offset, grey_canvas(tuple(op["canvas"])))
        assert np.abs(placed - expected[f"{op['key']}_placed"]).max() <= TOLERANCE
        distorted = distort(expected[f"{op['key']}_placed"], op["hue"], op["sat"], op["exp"])
        assert np.abs(distorted - expected[f"{op['key']}_distorted"]).max() <= TOLERANCE


def test_rotate_crop_matches_darknet(image_ops):
    inputs, operations, expected = image_ops
    cases = operations["rotate_crop_image"]
    assert len(cases) == 2
    for op in cases:
        arguments = (op["rad"], op["scale"], tuple(op["canvas"]), (op["dx"], op["dy"]), op["aspect"])
        assert np.abs(rotate_crop(inputs[op["image"]], *arguments) - expected[op["key"]]).max() <= TOLERANCE


# ---- without reference data


def test_place_crops_the_image_and_keeps_the_rest_of_the_canvas():
    image = noise(6, 4)
    canvas = to_chw(noise(5, 5, seed=1))
    placed = place(image, (6, 4), (-2, 3), canvas)
    assert np.array_equal(placed[:, 3:, :4], to_chw(image)[:, :2, 2:])
    assert np.array_equal(placed[:, :3], canvas[:, :3])
    assert np.array_equal(placed[:, :, 4], canvas[:, :, 4])
    assert np.array_equal(canvas, to_chw(noise(5, 5, seed=1)))
    for size, offset in (((6, 4), (5, 0)), ((6, 4), (0, -4)), ((0, 4), (0, 0))):
        assert np.array_equal(place(image, size, offset, canvas), canvas)


def test_an_enlarged_image_fades_to_black_at_its_right_and_bottom_border():
    placed = place(np.full((2, 2, 3), 255, np.uint8), (4, 4), (0, 0), grey_canvas((4, 4)))
    assert placed[0].tolist() == [[1, 1, 1, 0.5], [1, 1, 1, 0.5], [1, 1, 1, 0.5], [0.5, 0.5, 0.5, 0.25]]


def test_rotate_crop_without_rotation_is_a_crop():
    image = noise(9, 7)
    assert np.array_equal(rotate_crop(image, 0, 1, (5, 3), (1, 0), 1), to_chw(image)[:, 2:5, 3:8])
    outside = rotate_crop(image, 0, 1, (9, 7), (4, 0), 1)
    assert np.array_equal(outside[:, :, :5], to_chw(image)[:, :, 4:])
    assert not outside[:, :, 5:].any()
    half = rotate_crop(image, np.pi, 1, (9, 7), (1, 1), 1)  # rotates about the corner of a pixel: shifted by 1
    assert np.allclose(half[:, :6, :8], to_chw(image)[:, ::-1, ::-1][:, :6, :8], atol=1e-5)


def test_two_flips_cancel():
    image = noise(7, 4)
    assert np.array_equal(flip(image), to_chw(image[:, ::-1]))
    assert np.array_equal(flip(flip(image)), to_chw(image))


@pytest.mark.parametrize("value", [0, 77, 255])
def test_grey_has_no_hue_and_raises_no_warning(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distorted = distort(np.full((2, 3, 3), value, np.uint8), 0.3, 5.0, 1.5)
    assert distorted == pytest.approx(min(1, value / 255 * 1.5), abs=TOLERANCE)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([-1.0, 0.0]))
def test_a_neutral_distortion_or_a_full_turn_of_the_hue_changes_almost_nothing(seed, hue):
    image = noise(8, 8, seed)
    assert np.abs(distort(image, hue, 1, 1) - to_chw(image)).max() < 5e-6


def test_distort_shifts_red_to_green_and_clips_only_at_the_end():
    red = np.array([[[200, 50, 50]]], np.uint8)
    assert distort(red, 1 / 3, 1, 1)[:, 0, 0] == pytest.approx(np.array([50, 200, 50]) / 255, abs=1e-5)
    # Saturation .75 * 2 = 1.5: the lowest channel is .784 * (1 - 1.5) < 0, the middle one follows from the hue.
    orange = np.array([[[200, 125, 50]]], np.uint8)
    assert distort(orange, 0, 2, 1)[:, 0, 0] == pytest.approx([200 / 255, 200 / 255 * (1 - 1.5 / 2), 0], abs=1e-5)


def test_a_hue_of_exactly_one_becomes_magenta_as_in_darknet():
    red = np.array([[[255, 0, 0]]], np.uint8)  # hue 0; 0 + 1 is not above 1, so it is not wrapped
    assert distort(red, 1, 1, 1)[:, 0, 0].tolist() == [1, 0, 1]
    almost_red = np.array([1, 0, 1e-9], np.float32).reshape(3, 1, 1)  # its hue -1e-9 + 6 rounds to 6
    assert distort(almost_red, 0, 1, 1)[:, 0, 0].tolist() == [1, 0, 1]


@pytest.mark.parametrize("function", [to_chw, flip])
def test_arguments_are_neither_changed_nor_returned(function):
    image = to_chw(noise(1, 5))
    result = function(image)
    assert np.array_equal(result, image)
    assert not np.shares_memory(result, image)
