"""Resize, letterbox, centre crop and box correction: equal to Darknet's arrays, and properties without them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.images import grey_canvas, to_chw

from yolo9k.darknet.images import center_crop, correct_boxes, letterbox, letterbox_wh, resize
from yolo9k.errors import ConfigError

FUNCTIONS = {"resize": resize, "letterbox": letterbox, "center_crop": center_crop}
TOLERANCE = 1e-6  # images reach up to 1; Darknet's own float32 rounding is below this


def noise(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_all_reference_arrays_are_compared(image_ops):
    """Those of the other operations are compared in test_reference_images.py and test_reference_augment.py."""
    inputs, operations, expected = image_ops
    compared = {f"{key}_load" for key in inputs.files if not key.endswith("_labels")}
    for kind in (*FUNCTIONS, "rotate_crop_image"):
        compared |= {op["key"] for op in operations[kind]}
    for op in operations["augmentation"]:
        compared |= {f"{op['key']}_{part}" for part in ("placed", "distorted", "final", "truth_shuffled")}
    assert compared == set(expected.files)


def test_loading_matches_darknet(image_ops):
    inputs, _, expected = image_ops
    images = [key for key in inputs.files if not key.endswith("_labels")]
    assert len(images) == 4
    for key in images:
        height, width = inputs[key].shape[:2]
        assert np.array_equal(resize(inputs[key], (width, height)), expected[f"{key}_load"])


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_resizing_matches_darknet(image_ops, kind):
    inputs, operations, expected = image_ops
    cases = operations[kind]
    assert cases
    for op in cases:
        image, size_wh, reference = inputs[op["image"]], (op["w"], op["h"]), expected[op["key"]]
        as_darknet = FUNCTIONS[kind](image, size_wh, last_row="darknet")
        assert np.abs(as_darknet - reference).max() <= TOLERANCE, op["key"]
        correct = FUNCTIONS[kind](image, size_wh)
        rows = last_image_row(image, size_wh, kind) if op["last_row_rounding"] else []
        assert np.abs(np.delete(correct - reference, rows, axis=1)).max() <= TOLERANCE, op["key"]
        assert np.array_equal(correct, as_darknet) != op["last_row_rounding"], op["key"]


def last_image_row(image, size_wh, kind):
    """Return the index of the last row of the image in the result."""
    if kind == "resize":
        return [size_wh[1] - 1]
    _, new_h = letterbox_wh((image.shape[1], image.shape[0]), size_wh)
    return [(size_wh[1] - new_h) // 2 + new_h - 1]


def test_corrected_boxes_match_darknet(shared):
    arrays = np.load(shared("golden", "darknet", "forward-v2", "expected.npz"))
    uncorrected = arrays["det_box_96x96"]  # a square image of the network's size: no letterbox
    assert np.array_equal(correct_boxes(uncorrected, (96, 96), (96, 96)), uncorrected)
    for image_wh in ((333, 500), (101, 37), (96, 96)):
        for suffix, relative in (("", True), ("_abs", False)):
            expected = arrays[f"det_box{suffix}_{image_wh[0]}x{image_wh[1]}"]
            assert np.array_equal(correct_boxes(uncorrected, image_wh, (96, 96), relative=relative), expected)


# ---- without reference data


@pytest.mark.parametrize("wh", [(7, 5), (1, 6), (6, 1), (1, 1)])
def test_resizing_to_the_same_size_changes_nothing(wh):
    for last_row in ("correct", "darknet"):
        assert np.array_equal(resize(noise(*wh), wh, last_row=last_row), to_chw(noise(*wh)))


sides = st.integers(1, 70)


@settings(deadline=None, max_examples=60)
@given(st.tuples(sides, sides), st.tuples(st.integers(2, 70), st.integers(2, 70)))
def test_resize_equals_torch_with_aligned_corners(image_wh, size_wh):
    image = to_chw(noise(*image_wh))
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None].double(), size=size_wh[::-1], mode="bilinear", align_corners=True
    )[0]
    # The rounding error of a float32 position grows with the side; it shifts the interpolation weights.
    assert np.abs(resize(image, size_wh) - reference.numpy()).max() < 2e-5


@pytest.mark.parametrize("heights", [(400, 332), (13, 80), (30, 104), (333, 320)])
def test_darknets_last_row_can_be_nearly_black(heights):
    white = np.full((heights[0], 3, 3), 255, np.uint8)
    as_darknet = resize(white, (3, heights[1]), last_row="darknet")
    correct = resize(white, (3, heights[1]))
    assert as_darknet[:, -1].max() < 0.001
    assert np.abs(correct - 1).max() < TOLERANCE
    assert np.array_equal(as_darknet[:, :-1], correct[:, :-1])


def test_a_target_of_one_pixel():
    image = noise(4, 3)
    assert np.array_equal(resize(image, (1, 3))[:, :, 0], to_chw(image)[:, :, -1])  # Darknet's last column
    assert np.array_equal(resize(image, (4, 1))[:, 0], to_chw(image)[:, 0])


@pytest.mark.parametrize(
    ("image_wh", "canvas_wh", "box"),
    [
        ((500, 375), (416, 416), (0, 52, 416, 364)),
        ((353, 500), (416, 416), (61, 0, 354, 416)),  # 353 * 416 / 500 = 293.7; the padding of 123 is odd
        ((5, 7), (33, 21), (9, 0, 24, 21)),
        ((1, 60), (40, 30), (19, 0, 20, 30)),  # Darknet would have no columns left
        ((60, 1), (30, 40), (0, 19, 30, 20)),
    ],
)
def test_letterbox_of_odd_sizes(image_wh, canvas_wh, box):
    boxed = letterbox(np.full((*image_wh[::-1], 3), 255, np.uint8), canvas_wh)
    expected = grey_canvas(canvas_wh)
    expected[:, box[1] : box[3], box[0] : box[2]] = 1
    assert np.abs(boxed - expected).max() < TOLERANCE
    assert boxed.dtype == np.float32


def test_aspect_ratios_are_compared_in_float32():
    assert letterbox_wh((40_000_001, 40_000_000), (608, 608)) == (608, 608)


def test_center_crop_takes_the_middle():
    image = noise(11, 6)
    assert np.array_equal(center_crop(image, (6, 6)), to_chw(image[:, 2:8]))
    assert np.array_equal(center_crop(image.transpose(1, 0, 2), (6, 6)), to_chw(image.transpose(1, 0, 2)[2:8]))


@settings(deadline=None, max_examples=60)
@given(st.tuples(st.integers(1, 900), st.integers(1, 900)), st.tuples(st.integers(32, 608), st.integers(32, 608)))
def test_the_letterboxed_area_is_corrected_to_the_whole_image(image_wh, net_wh):
    new_wh = letterbox_wh(image_wh, net_wh)
    whole = np.array([[0.5, 0.5, new_wh[0] / net_wh[0], new_wh[1] / net_wh[1]]], np.float32)
    assert correct_boxes(whole, image_wh, net_wh)[0] == pytest.approx([0.5, 0.5, 1, 1], rel=1e-5)
    w, h = image_wh
    assert correct_boxes(whole, image_wh, net_wh, relative=False)[0] == pytest.approx([w / 2, h / 2, w, h], rel=1e-5)


def test_boxes_are_corrected_alike_in_torch_and_numpy():
    boxes = np.random.default_rng(0).random((2, 50, 4), np.float32)
    corrected = correct_boxes(torch.from_numpy(boxes), (333, 500), (416, 320), relative=False)
    assert corrected.dtype == torch.float32
    assert np.array_equal(corrected.numpy(), correct_boxes(boxes, (333, 500), (416, 320), relative=False))
    assert correct_boxes(boxes[:0], (333, 500), (416, 320)).shape == (0, 50, 4)


def test_images_may_have_either_layout():
    image = noise(6, 4)
    chw = to_chw(image)
    for layout in (image, chw, chw.astype(np.float64), chw.transpose(1, 2, 0)):
        assert np.array_equal(resize(layout, (6, 4)), chw)
        assert resize(layout, (6, 4)).dtype == np.float32
    three = to_chw(noise(3, 3))
    assert np.array_equal(resize(three, (3, 3)), three)


@pytest.mark.parametrize("function", [resize, letterbox])
def test_arguments_are_neither_changed_nor_returned(function):
    image = to_chw(noise(1, 5))
    result = function(image, (1, 5))
    assert np.array_equal(result, image)
    assert not np.shares_memory(result, image)


@pytest.mark.parametrize(
    ("image", "description"),
    [
        (np.zeros((4, 5), np.uint8), r"uint8 \(4, 5\)"),
        (np.zeros((4, 5, 4), np.uint8), r"uint8 \(4, 5, 4\)"),
        (np.zeros((3, 5, 4), np.uint8), r"uint8 \(3, 5, 4\)"),
        (np.zeros((4, 5, 3), np.int64), r"int64 \(4, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"uint8 \(0, 5, 3\)"),
        (np.zeros((1, 3, 5, 4), np.float32), r"float32 \(1, 3, 5, 4\)"),
    ],
)
@pytest.mark.parametrize("function", [resize, letterbox, center_crop])
def test_arrays_that_are_not_images_are_refused(function, image, description):
    with pytest.raises(ConfigError, match=rf"image: must be uint8 \(H, W, 3\) RGB or float .*, not {description}$"):
        function(image, (5, 5))


@pytest.mark.parametrize("function", [resize, letterbox, center_crop])
def test_sizes_below_a_pixel_are_refused(function):
    with pytest.raises(ConfigError, match="image size: must be at least 1x1 pixels, not 5x0"):
        function(noise(4, 4), (5, 0))
