from typing import get_args

import numpy as np
import pytest
import torch

from yolo9k.config.classifier import ClassifierDataConfig
from yolo9k.config.schema import DataConfig
from yolo9k.darknet import images as darknet
from yolo9k.images import GREY
from yolo9k.inference.resize import CENTER_CROPS, LETTERBOXES

SIZE_WH = (96, 64)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (30, 90, 3), np.uint8)


def test_every_value_of_the_config_has_a_class():
    assert set(LETTERBOXES) == set(get_args(DataConfig.model_fields["resize"].annotation))
    assert set(CENTER_CROPS) == set(get_args(ClassifierDataConfig.model_fields["resize"].annotation))


def test_area_letterbox_by_hand():
    image = np.full((64, 192, 3), 200, np.uint8)  # half the size, 16 rows of padding above and below
    resized = LETTERBOXES["area"](SIZE_WH).apply(image)
    assert (resized.shape, resized.dtype) == ((3, 64, 96), torch.uint8)
    assert (resized[:, 16:48] == 200).all()
    assert (resized[:, :16] == GREY).all()
    assert (resized[:, 48:] == GREY).all()
    undone = LETTERBOXES["area"](SIZE_WH).undo(np.array([[10, 16, 20, 48]], np.float32), (192, 64))
    assert undone.tolist() == [[20, 0, 40, 64]]


def test_darknet_letterbox_has_darknets_values(image):
    resized = LETTERBOXES["darknet"](SIZE_WH).apply(image)
    assert (resized.shape, resized.dtype) == ((3, 64, 96), torch.float32)
    assert np.array_equal(resized.numpy(), darknet.letterbox(image, SIZE_WH))


def test_both_letterboxes_undo_alike():
    xyxy = np.array([[10, 20, 50, 40], [0, 16, 96, 48]], np.float32)
    area, by_darknet = (LETTERBOXES[name](SIZE_WH).undo(xyxy, (192, 64)) for name in ("area", "darknet"))
    assert np.allclose(area, by_darknet, atol=1e-3)  # the padding is even


def test_center_crops(image):
    by_area, by_darknet = (CENTER_CROPS[name]((32, 32)).apply(image) for name in ("area", "darknet"))
    assert (by_area.dtype, by_darknet.dtype) == (torch.uint8, torch.float32)
    assert by_area.shape == by_darknet.shape == (3, 32, 32)
    assert np.array_equal(by_darknet.numpy(), darknet.center_crop(image, (32, 32)))
    assert CENTER_CROPS["area"]((30, 30)).apply(image).permute(1, 2, 0).tolist() == image[:, 30:60].tolist()
