import gc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from yolo9k.pillow_memory import copy_pixels


def noise(w, h, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 2**31))
def test_pixels_are_pillows(w, h, seed):
    image = noise(w, h, seed)
    assert np.array_equal(copy_pixels(Image.fromarray(image)), image)


def test_the_array_outlives_its_image():
    expected = noise(300, 200)
    image = Image.fromarray(expected)
    pixels = copy_pixels(image)
    image.paste(0, (0, 0, 300, 200))
    assert pixels.flags.writeable
    del image
    gc.collect()
    assert np.array_equal(pixels, expected)


@pytest.mark.parametrize("size_wh", [(2100, 2100), (5000, 1000), (0, 0), (4, 0)])  # of several blocks, or none
def test_images_that_cannot_be_exported(size_wh):
    image = Image.new("RGB", size_wh, (1, 2, 3))
    pixels = copy_pixels(image)
    assert pixels.shape == (size_wh[1], size_wh[0], 3)
    assert (pixels == (1, 2, 3)).all()


def test_a_pillow_without_arrow():
    class OldImage(Image.Image):
        __arrow_c_array__ = None

    image = OldImage()
    image.__setstate__(Image.fromarray(noise(8, 5)).__getstate__())
    assert np.array_equal(copy_pixels(image), noise(8, 5))


@pytest.mark.parametrize("mode", ["L", "F", "LA"])
def test_other_layouts_are_not_taken_for_rgb(mode):
    """Their bytes are others."""
    image = Image.fromarray(noise(8, 5)).convert(mode)
    assert np.array_equal(copy_pixels(image), np.asarray(image))
