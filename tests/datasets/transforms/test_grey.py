import numpy as np
import pytest

from yolo9k.config.schema import AugmentConfig
from yolo9k.datasets.readers.index import NO_BOXES
from yolo9k.datasets.transforms.detection import DetectionTransform
from yolo9k.datasets.transforms.grey import for_channels, to_grey
from yolo9k.samples import Sample

SIZE_WH = (64, 32)


def sample():
    return Sample(np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8), NO_BOXES, "a.png")


def test_the_image_has_one_channel_and_the_same_geometry():
    transform = DetectionTransform(AugmentConfig(hue=0, saturation=1, exposure=1))
    for seed in range(5):
        grey = for_channels(transform, 1)([sample()], SIZE_WH, np.random.default_rng(seed)).image
        colour = transform([sample()], SIZE_WH, np.random.default_rng(seed)).image
        assert (grey.shape, grey.dtype, grey.flags.c_contiguous) == ((32, 64, 1), np.uint8, True)
        assert np.abs(to_grey(colour)[..., :1].astype(int) - grey).max() <= 2  # rounded before or after resizing


def test_the_exposure_changes_grey_images_and_hue_and_saturation_do_not():
    def image(**augment):
        calm = {"geometry": "none", "flip": 0, "hue": 0, "saturation": 1, "exposure": 1}
        transform = for_channels(DetectionTransform(AugmentConfig(**calm | augment)), 1)
        return transform([sample()], SIZE_WH, np.random.default_rng(3)).image.astype(int)

    assert np.abs(image(hue=0.5, saturation=3) - image()).max() <= 1
    assert np.abs(image(exposure=3) - image()).max() > 20


def test_rgb_is_left_alone():
    transform = DetectionTransform(AugmentConfig())
    assert for_channels(transform, 3) is transform
    assert for_channels(transform, 1).num_samples == 1


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
def test_the_luma_of_grey_is_itself(value):
    image = np.full((2, 2, 3), value, np.uint8)
    assert np.array_equal(to_grey(image), image)
