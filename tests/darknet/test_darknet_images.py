"""Darknet's image arithmetic: against arrays that Darknet computed, and properties that need none."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo9k.darknet.images import (
    center_crop,
    correct_boxes,
    distort,
    flip,
    grey,
    letterbox,
    letterbox_wh,
    place,
    resize,
    rotate_crop,
    to_chw,
)
from yolo9k.errors import ConfigError

SIZED = {"resize": resize, "letterbox": letterbox, "center_crop": center_crop}
CLOSE = 1e-6  # images reach up to 1; Darknet's own float32 rounding is below this


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_all_reference_arrays_are_compared(image_ops):
    inputs, operations, expected = image_ops
    compared = {f"{key}_load" for key in inputs.files if not key.endswith("_labels")}
    for kind in (*SIZED, "rotate_crop_image"):
        compared |= {op["key"] for op in operations[kind]}
    for op in operations["augmentation"]:
        compared |= {f"{op['key']}_{part}" for part in ("placed", "distorted", "final", "truth_shuffled")}
    assert compared == set(expected.files)


def test_loading_is_darknets(image_ops):
    inputs, _, expected = image_ops
    images = [key for key in inputs.files if not key.endswith("_labels")]
    assert len(images) == 4
    for key in images:
        assert np.array_equal(to_chw(inputs[key]), expected[f"{key}_load"])


@pytest.mark.parametrize("kind", SIZED)
def test_sizes_are_darknets(image_ops, kind):
    inputs, operations, expected = image_ops
    cases = operations[kind]
    assert cases
    for op in cases:
        image, size_wh, reference = inputs[op["image"]], (op["w"], op["h"]), expected[op["key"]]
        exact = SIZED[kind](image, size_wh, last_row="darknet")
        assert np.abs(exact - reference).max() <= CLOSE, op["key"]
        right = SIZED[kind](image, size_wh)
        rows = last_image_row(image, size_wh, kind) if op["last_row_rounding"] else []
        assert np.abs(np.delete(right - reference, rows, axis=1)).max() <= CLOSE, op["key"]
        assert np.array_equal(right, exact) != op["last_row_rounding"], op["key"]


def last_image_row(image, size_wh, kind):
    """The row in which the image ends."""
    if kind == "resize":
        return [size_wh[1] - 1]
    _, new_h = letterbox_wh((image.shape[1], image.shape[0]), size_wh)
    return [(size_wh[1] - new_h) // 2 + new_h - 1]


def test_placing_and_distorting_are_darknets(image_ops):
    inputs, operations, expected = image_ops
    cases = operations["augmentation"]
    assert len(cases) == 2
    for op in cases:
        size, offset = (int(op["nw"]), int(op["nh"])), (int(op["dx"]), int(op["dy"]))
        placed = place(inputs[op["image"]], size, offset, grey(tuple(op["canvas"])))
        assert np.abs(placed - expected[f"{op['key']}_placed"]).max() <= CLOSE
        distorted = distort(expected[f"{op['key']}_placed"], op["hue"], op["sat"], op["exp"])
        assert np.abs(distorted - expected[f"{op['key']}_distorted"]).max() <= CLOSE


def test_rotated_crops_are_darknets(image_ops):
    inputs, operations, expected = image_ops
    cases = operations["rotate_crop_image"]
    assert len(cases) == 2
    for op in cases:
        arguments = (op["rad"], op["scale"], tuple(op["canvas"]), (op["dx"], op["dy"]), op["aspect"])
        assert np.abs(rotate_crop(inputs[op["image"]], *arguments) - expected[op["key"]]).max() <= CLOSE


def test_boxes_are_corrected_as_darknet_does(shared):
    expected = np.load(shared("golden", "darknet", "forward-v2", "expected.npz"))
    uncorrected = expected["det_box_96x96"]  # an image as square as the network: nothing to undo
    assert np.array_equal(correct_boxes(uncorrected, (96, 96), (96, 96)), uncorrected)
    for image_wh in ((333, 500), (101, 37), (96, 96)):
        for suffix, relative in (("", True), ("_abs", False)):
            wanted = expected[f"det_box{suffix}_{image_wh[0]}x{image_wh[1]}"]
            found = correct_boxes(uncorrected, image_wh, (96, 96), relative=relative)
            assert np.array_equal(found, wanted)


# ---- without reference data


@pytest.mark.parametrize("wh", [(7, 5), (1, 6), (6, 1), (1, 1)])
def test_the_same_size_changes_nothing(wh):
    for last_row in ("right", "darknet"):
        assert np.array_equal(resize(noise(*wh), wh, last_row=last_row), to_chw(noise(*wh)))


sides = st.integers(1, 70)


@settings(deadline=None, max_examples=60)
@given(st.tuples(sides, sides), st.tuples(st.integers(2, 70), st.integers(2, 70)))
def test_resize_is_torchs_with_aligned_corners(image_wh, size_wh):
    image = to_chw(noise(*image_wh))
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None].double(), size=size_wh[::-1], mode="bilinear", align_corners=True
    )[0]
    # Places are float32: their rounding grows with the side and moves a value by up to that share of a step.
    assert np.abs(resize(image, size_wh) - reference.numpy()).max() < 2e-5


@pytest.mark.parametrize("heights", [(400, 332), (13, 80), (30, 104), (333, 320)])
def test_darknets_last_row_can_be_nearly_black(heights):
    white = np.full((heights[0], 3, 3), 255, np.uint8)
    dark = resize(white, (3, heights[1]), last_row="darknet")
    right = resize(white, (3, heights[1]))
    assert dark[:, -1].max() < 0.001
    assert np.abs(right - 1).max() < CLOSE
    assert np.array_equal(dark[:, :-1], right[:, :-1])


def test_a_target_of_one_pixel():
    image = noise(4, 3)
    assert np.array_equal(resize(image, (1, 3))[:, :, 0], to_chw(image)[:, :, -1])  # Darknet's last column
    assert np.array_equal(resize(image, (4, 1))[:, 0], to_chw(image)[:, 0])


@pytest.mark.parametrize(
    ("image_wh", "canvas_wh", "box"),
    [
        ((500, 375), (416, 416), (0, 52, 416, 364)),
        ((353, 500), (416, 416), (61, 0, 354, 416)),  # 353 * 416 / 500 = 293.7; the rest 123 is odd
        ((5, 7), (33, 21), (9, 0, 24, 21)),
        ((1, 60), (40, 30), (19, 0, 20, 30)),  # Darknet would have no columns left
        ((60, 1), (30, 40), (0, 19, 30, 20)),
    ],
)
def test_letterbox_of_odd_sizes(image_wh, canvas_wh, box):
    boxed = letterbox(np.full((*image_wh[::-1], 3), 255, np.uint8), canvas_wh)
    wanted = grey(canvas_wh)
    wanted[:, box[1] : box[3], box[0] : box[2]] = 1
    assert np.abs(boxed - wanted).max() < CLOSE
    assert boxed.dtype == np.float32


def test_ratios_equal_in_float32_are_letterboxed_like_equal_ones():
    assert letterbox_wh((40_000_001, 40_000_000), (608, 608)) == (608, 608)


def test_center_crop_takes_the_middle():
    image = noise(11, 6)
    assert np.array_equal(center_crop(image, (6, 6)), to_chw(image[:, 2:8]))
    assert np.array_equal(center_crop(image.transpose(1, 0, 2), (6, 6)), to_chw(image.transpose(1, 0, 2)[2:8]))


def test_place_cuts_off_and_keeps_the_rest():
    image = noise(6, 4)
    canvas = to_chw(noise(5, 5, seed=1))
    placed = place(image, (6, 4), (-2, 3), canvas)
    assert np.array_equal(placed[:, 3:, :4], to_chw(image)[:, :2, 2:])
    assert np.array_equal(placed[:, :3], canvas[:, :3])
    assert np.array_equal(placed[:, :, 4], canvas[:, :, 4])
    assert np.array_equal(canvas, to_chw(noise(5, 5, seed=1)))
    for size, offset in (((6, 4), (5, 0)), ((6, 4), (0, -4)), ((0, 4), (0, 0))):
        assert np.array_equal(place(image, size, offset, canvas), canvas)


def test_an_enlarged_image_fades_to_black_at_its_lower_right():
    placed = place(np.full((2, 2, 3), 255, np.uint8), (4, 4), (0, 0), grey((4, 4)))
    assert placed[0].tolist() == [[1, 1, 1, 0.5], [1, 1, 1, 0.5], [1, 1, 1, 0.5], [0.5, 0.5, 0.5, 0.25]]


def test_rotate_crop_without_a_turn_is_a_crop():
    image = noise(9, 7)
    assert np.array_equal(rotate_crop(image, 0, 1, (5, 3), (1, 0), 1), to_chw(image)[:, 2:5, 3:8])
    outside = rotate_crop(image, 0, 1, (9, 7), (4, 0), 1)
    assert np.array_equal(outside[:, :, :5], to_chw(image)[:, :, 4:])
    assert not outside[:, :, 5:].any()
    half = rotate_crop(image, np.pi, 1, (9, 7), (1, 1), 1)  # about the corner of a pixel: the middle shifts by 1
    assert np.allclose(half[:, :6, :8], to_chw(image)[:, ::-1, ::-1][:, :6, :8], atol=1e-5)


def test_flipped_twice_is_the_same():
    image = noise(7, 4)
    assert np.array_equal(flip(image), to_chw(image[:, ::-1]))
    assert np.array_equal(flip(flip(image)), to_chw(image))


@pytest.mark.parametrize("value", [0, 77, 255])
def test_grey_keeps_no_hue_and_raises_no_warning(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        changed = distort(np.full((2, 3, 3), value, np.uint8), 0.3, 5.0, 1.5)
    assert changed == pytest.approx(min(1, value / 255 * 1.5), abs=CLOSE)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([-1.0, 0.0]))
def test_distort_by_nothing_or_back_by_a_whole_circle_is_nearly_nothing(seed, hue):
    image = noise(8, 8, seed)
    assert np.abs(distort(image, hue, 1, 1) - to_chw(image)).max() < 5e-6


def test_distort_moves_red_to_green_and_cuts_at_the_end_only():
    red = np.array([[[200, 50, 50]]], np.uint8)
    assert distort(red, 1 / 3, 1, 1)[:, 0, 0] == pytest.approx(np.array([50, 200, 50]) / 255, abs=1e-5)
    # Saturation .75 * 2 = 1.5: the least channel is .784 * (1 - 1.5) < 0, the other lies between by its hue.
    orange = np.array([[[200, 125, 50]]], np.uint8)
    assert distort(orange, 0, 2, 1)[:, 0, 0] == pytest.approx([200 / 255, 200 / 255 * (1 - 1.5 / 2), 0], abs=1e-5)


def test_where_the_hue_ends_at_exactly_one_darknet_shows_magenta():
    red = np.array([[[255, 0, 0]]], np.uint8)  # hue 0; 0 + 1 is not above 1, so it is not wrapped
    assert distort(red, 1, 1, 1)[:, 0, 0].tolist() == [1, 0, 1]
    almost_red = np.array([1, 0, 1e-9], np.float32).reshape(3, 1, 1)  # its hue -1e-9 + 6 rounds to 6
    assert distort(almost_red, 0, 1, 1)[:, 0, 0].tolist() == [1, 0, 1]


@settings(deadline=None, max_examples=60)
@given(st.tuples(st.integers(1, 900), st.integers(1, 900)), st.tuples(st.integers(32, 608), st.integers(32, 608)))
def test_corrected_boxes_fill_the_image(image_wh, net_wh):
    new_wh = letterbox_wh(image_wh, net_wh)
    whole = np.array([[0.5, 0.5, new_wh[0] / net_wh[0], new_wh[1] / net_wh[1]]], np.float32)
    assert correct_boxes(whole, image_wh, net_wh)[0] == pytest.approx([0.5, 0.5, 1, 1], rel=1e-5)
    w, h = image_wh
    assert correct_boxes(whole, image_wh, net_wh, relative=False)[0] == pytest.approx([w / 2, h / 2, w, h], rel=1e-5)


def test_boxes_are_corrected_alike_in_torch_and_numpy():
    boxes = np.random.default_rng(0).random((2, 50, 4), np.float32)
    found = correct_boxes(torch.from_numpy(boxes), (333, 500), (416, 320), relative=False)
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), correct_boxes(boxes, (333, 500), (416, 320), relative=False))
    assert correct_boxes(boxes[:0], (333, 500), (416, 320)).shape == (0, 50, 4)


def test_images_may_have_either_layout():
    image = noise(6, 4)
    chw = to_chw(image)
    for form in (chw, chw.astype(np.float64), chw.transpose(1, 2, 0)):
        assert np.array_equal(to_chw(form), chw)
        assert to_chw(form).dtype == np.float32
    three = to_chw(noise(3, 3))
    assert np.array_equal(to_chw(three), three)


@pytest.mark.parametrize(
    "function", [to_chw, flip, lambda image: resize(image, (1, 5)), lambda image: letterbox(image, (1, 5))]
)
def test_arguments_are_never_changed_nor_returned(function):
    image = to_chw(noise(1, 5))
    result = function(image)
    assert np.array_equal(result, image)
    assert not np.shares_memory(result, image)


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (np.zeros((4, 5), np.uint8), r"uint8 \(4, 5\)"),
        (np.zeros((4, 5, 4), np.uint8), r"uint8 \(4, 5, 4\)"),
        (np.zeros((3, 5, 4), np.uint8), r"uint8 \(3, 5, 4\)"),
        (np.zeros((4, 5, 3), np.int64), r"int64 \(4, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"uint8 \(0, 5, 3\)"),
        (np.zeros((1, 3, 5, 4), np.float32), r"float32 \(1, 3, 5, 4\)"),
    ],
)
def test_what_is_no_image_is_refused(bad, found):
    with pytest.raises(ConfigError, match=rf"an image is uint8 \(H, W, 3\) RGB or floats .*, not {found}$"):
        to_chw(bad)


@pytest.mark.parametrize("function", [resize, letterbox, center_crop])
def test_sizes_below_a_pixel_are_refused(function):
    with pytest.raises(ConfigError, match="at least 1 pixel wide and high, not 5x0"):
        function(noise(4, 4), (5, 0))
    with pytest.raises(ConfigError, match="above 0, not 0 and 1"):
        rotate_crop(noise(4, 4), 0, 0, (4, 4), (0, 0), 1)
