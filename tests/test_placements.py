import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo9k.pixel_formats import GREY
from yolo9k.placements import Placement, apply_placement, letterbox_placement, resize

SIDES = st.integers(1, 90)
SEEDS = st.integers(0, 2**31)


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def area_weights(whole, side):
    """The fraction of each of `side` pixels that each of `whole` pixels covers."""
    edges = np.arange(side + 1)[:, None] * whole / side
    before = np.minimum(np.maximum(edges - np.arange(whole), 0), 1)
    return np.diff(before, axis=0) * side / whole


def exact_average(image, size_wh):
    """The average of the area of each pixel, as floats."""
    h, w = image.shape[:2]
    rows = np.tensordot(area_weights(h, size_wh[1]), image.astype(np.float64), 1)
    return np.tensordot(area_weights(w, size_wh[0]), rows, ([1], [1])).transpose(1, 0, 2)


@settings(deadline=None)
@given(SIDES, SIDES, st.data(), SEEDS)
def test_shrinking_averages_areas(w, h, data, seed):
    size_wh = data.draw(st.tuples(st.integers(1, w), st.integers(1, h)))
    image = noise(h, w, seed)
    assert np.abs(resize(image, size_wh) - exact_average(image, size_wh)).max() < 1.1


@settings(deadline=None)
@given(SIDES, SIDES, st.data(), SEEDS)
def test_two_steps_differ_from_opencvs_one_step_by_at_most_one_level(w, h, data, seed):
    size_wh = data.draw(st.tuples(st.integers(-(-w // 2), w), st.integers(-(-h // 2), h)))
    image = noise(h, w, seed)
    in_one_step = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)
    assert np.abs(resize(image, size_wh).astype(int) - in_one_step).max() <= 1


@pytest.mark.parametrize("size_wh", [(416, 312), (480, 360), (512, 384), (320, 240), (600, 450)])
def test_whole_numbers_of_pixels_are_not_off_by_rounding(size_wh):
    image = noise(480, 640)  # in (416, 312), every tenth edge is between two pixels, or just beside in floats
    assert np.abs(resize(image, size_wh) - exact_average(image, size_wh)).max() < 1.1


def test_large_results_are_averaged_in_one_step(monkeypatch):
    image = noise(50, 60)
    monkeypatch.setattr("yolo9k.placements.MAX_HALVED", 40 * 30 - 1)
    expected = cv2.resize(image, (40, 30), interpolation=cv2.INTER_AREA)
    assert np.array_equal(resize(image, (40, 30)), expected)
    monkeypatch.setattr("yolo9k.placements.MAX_HALVED", 40 * 30)
    assert not np.array_equal(resize(image, (40, 30)), expected)


def test_enlarging_interpolates():
    image = noise(20, 30)
    expected = cv2.resize(image, (50, 40), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(resize(image, (50, 40)), expected)
    assert resize(image, (30, 20)) is image


def darker(image):
    return image // 2


@pytest.mark.parametrize(
    "placement",
    [
        Placement((0.5, 0.7), (3.2, -8.0)),
        Placement((2.0, 1.5), (-20.0, 30.0)),
        Placement((1.0, 1.0), (0.0, 0.0)),
        Placement((0.5, 0.5), (500.0, 0.0)),  # outside the canvas
    ],
)
def test_colours_change_on_the_whole_canvas(placement):
    image = noise(60, 80)
    plain = apply_placement(image, placement, (64, 48))
    assert np.array_equal(apply_placement(image, placement, (64, 48), darker), darker(plain))


def test_the_result_is_a_new_array():
    image = noise(48, 64)
    image.flags.writeable = False  # as Pillow's
    drawn = apply_placement(image, letterbox_placement((64, 48), (64, 48)), (64, 48))
    assert np.array_equal(drawn, image)
    assert drawn.flags.writeable
    assert drawn.flags.c_contiguous
    assert not np.shares_memory(drawn, image)


def test_padding_is_grey():
    drawn = apply_placement(np.zeros((10, 20, 3), np.uint8), letterbox_placement((20, 10), (40, 40)), (40, 40))
    assert (drawn[:10] == GREY).all()
    assert (drawn[30:] == GREY).all()
    assert (drawn[10:30] == 0).all()
