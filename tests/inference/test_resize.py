from typing import get_args

import numpy as np
import pytest

from yolo9k.config.classifier import ClassifierDataConfig
from yolo9k.config.schema import DataConfig
from yolo9k.darknet import images as darknet
from yolo9k.inference.resize import CENTER_CROPS, FITS
from yolo9k.pixel_formats import GREY

SIZE_WH = (96, 64)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (30, 90, 3), np.uint8)


def test_every_value_of_the_config_has_a_class():
    kinds, modes = (get_args(DataConfig.model_fields[key].annotation) for key in ("resize", "resize_mode"))
    assert set(FITS) == {(kind, mode) for kind in kinds for mode in modes}
    assert set(CENTER_CROPS) == set(get_args(ClassifierDataConfig.model_fields["resize"].annotation))


def test_area_letterbox_by_hand():
    image = np.full((64, 192, 3), 200, np.uint8)  # half the size, 16 rows of padding above and below
    resized = FITS["area", "letterbox"](SIZE_WH).apply(image)
    assert (resized.shape, resized.dtype) == ((3, 64, 96), np.uint8)
    assert (resized[:, 16:48] == 200).all()
    assert (resized[:, :16] == GREY).all()
    assert (resized[:, 48:] == GREY).all()
    undone = FITS["area", "letterbox"](SIZE_WH).undo(np.array([[10, 16, 20, 48]], np.float32), (192, 64))
    assert undone.tolist() == [[20, 0, 40, 64]]


def test_darknet_letterbox_has_darknets_values(image):
    resized = FITS["darknet", "letterbox"](SIZE_WH).apply(image)
    assert (resized.shape, resized.dtype) == ((3, 64, 96), np.float32)
    assert np.array_equal(resized, darknet.letterbox(image, SIZE_WH))


def test_both_letterboxes_undo_alike():
    xyxy = np.array([[10, 20, 50, 40], [0, 16, 96, 48]], np.float32)
    area, by_darknet = (FITS[name, "letterbox"](SIZE_WH).undo(xyxy, (192, 64)) for name in ("area", "darknet"))
    assert np.allclose(area, by_darknet, atol=1e-3)  # the padding is even


@pytest.mark.parametrize("kind", ["area", "darknet"])
def test_a_stretched_image_fills_the_input(kind):
    image = np.zeros((128, 48, 3), np.uint8)
    image[:, :24] = 200  # the left half
    fit = FITS[kind, "stretch"](SIZE_WH)
    resized = fit.apply(image)
    assert (resized.shape, resized.dtype) == ((3, 64, 96), np.uint8)
    assert (resized[..., :47] == 200).all()
    assert (resized[..., 49:] == 0).all()
    assert fit.undo(np.array([[0, 0, 48, 32]], np.float32), (48, 128)).tolist() == [[0, 0, 24, 64]]


def test_darknet_stretch_is_bilinear_at_half_positions():
    image = np.repeat(np.arange(0, 80, 10, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(4, axis=0)
    row = FITS["darknet", "stretch"]((4, 4)).apply(image)[0, 0]
    assert row.tolist() == [5, 25, 45, 65]


def test_center_crops(image):
    by_area, by_darknet = (CENTER_CROPS[name]((32, 32)).apply(image) for name in ("area", "darknet"))
    assert (by_area.dtype, by_darknet.dtype) == (np.uint8, np.float32)
    assert by_area.shape == by_darknet.shape == (3, 32, 32)
    assert np.array_equal(by_darknet, darknet.center_crop(image, (32, 32)))
    assert CENTER_CROPS["area"]((30, 30)).apply(image).transpose(1, 2, 0).tolist() == image[:, 30:60].tolist()
