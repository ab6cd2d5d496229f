import pickle

import numpy as np
import pytest
from reference.augment import draw_classification
from reference.images import rotate_crop

from yolo9k.config.classifier import ClassifierAugmentConfig
from yolo9k.darknet.images import center_crop
from yolo9k.datasets.transforms.classification import (
    MAX_WARP_SIDE,
    ClassificationTransform,
    RotatedCrop,
    draw_crop,
    draw_rotated_crop,
)
from yolo9k.errors import ConfigError
from yolo9k.placements import resize_center_crop
from yolo9k.samples import BoxLabels, Sample

CALM = {"hue": 0, "saturation": 1, "exposure": 1, "flip": 0}


def smooth(size_wh=(160, 120)):
    """Return a smooth image: neighbouring pixels differ by little."""
    x, y = np.meshgrid(np.linspace(0, 3, size_wh[0]), np.linspace(0, 2, size_wh[1]))
    planes = np.sin(x + y), np.cos(2 * x - y), np.sin(x * y)
    return np.rint(127.5 + 120 * np.stack(planes, axis=-1)).astype(np.uint8)


def sample(image=None):
    return Sample(smooth() if image is None else image, BoxLabels.of([], []), "image", 7)


class Quantile:
    """A random generator that returns the same quantile of every distribution."""

    def __init__(self, quantile):
        self.quantile = quantile

    def uniform(self, low, high):
        return low + self.quantile * (high - low)

    def integers(self, low, high=None, endpoint=False):
        low, high = (0, low) if high is None else (low, high)
        return min(low + int(self.quantile * (high - low + endpoint)), high - (not endpoint))

    def random(self):  # below 0.5 if `integers(2)` is 1
        return 1 - self.quantile


# --- geometry: darknet


@pytest.mark.parametrize("quantile", [0.0, 0.1, 0.3, 0.51, 0.8, 0.999])
@pytest.mark.parametrize("image_wh", [(500, 375), (333, 500), (40, 2000), (3, 1)])
def test_draws_like_darknet(quantile, image_wh):
    config = ClassifierAugmentConfig()
    crop = draw_rotated_crop(image_wh, (256, 256), config, Quantile(quantile))
    parity = draw_classification(
        Quantile(quantile), image_wh, 256, min_crop=128, max_crop=448, angle=7, aspect=0.75,
        hue=0.1, saturation=0.75, exposure=0.75,
    )  # fmt: skip
    assert (crop.radians, crop.scale, crop.aspect) == pytest.approx((parity.radians, parity.scale, parity.aspect))
    assert crop.offset_xy == pytest.approx(parity.offset_xy)


@pytest.mark.parametrize("size", [64, 224, 448])
def test_crop_sizes_scale_with_the_network_size(size):
    config = ClassifierAugmentConfig(min_crop=128, max_crop=512, aspect=1)
    rng = np.random.default_rng(0)
    sides = [100 * draw_rotated_crop((150, 100), (size, size), config, rng).scale for _ in range(300)]
    assert min(sides) == pytest.approx(size / 2, rel=0.05)
    assert max(sides) == pytest.approx(size * 2, rel=0.05)


CROPS = [
    RotatedCrop(0.0, 1.0, (0.0, 0.0), 1.0),
    RotatedCrop(0.12, 0.8, (5.5, -3.25), 1.2),
    RotatedCrop(-0.1, 2.3, (-30.0, 40.0), 0.8),
    RotatedCrop(0.05, 0.35, (0.0, 10.0), 1.0),  # smaller than the crop: black around it
    RotatedCrop(1.5, 1.0, (7.0, 7.0), 0.6),
]


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("size_wh", [(64, 64), (96, 48)])
def test_crop_equals_the_float32_version(crop, size_wh):
    image = smooth()
    exact = rotate_crop(image, crop.radians, crop.scale, size_wh, crop.offset_xy, crop.aspect)
    difference = np.abs(crop.apply(image, size_wh).astype(float) - 255 * exact.transpose(1, 2, 0))
    inside = rotate_crop(np.ones((120, 160, 3)), crop.radians, crop.scale, size_wh, crop.offset_xy, crop.aspect)
    # positions are rounded to 1/32 pixel: a small error inside, up to 1/32 of the value range at the image's border
    assert difference[(inside == 1).all(axis=0)].max(initial=0) < 2
    assert difference.max() < 255 / 16
    assert difference.mean() < 0.6


def test_an_image_too_large_for_opencv():
    thin = np.zeros((4, MAX_WARP_SIDE + 500, 3), np.uint8)
    thin[:, : thin.shape[1] // 2] = 200
    crop = RotatedCrop(0.0, 0.002, (0.0, 0.0), 1.0).apply(np.repeat(thin, 2000, axis=0), (32, 32))
    assert (crop[10:22, 2:14] == 200).all()
    assert (crop[:, 18:] == 0).all()


def test_the_whole_transform_equals_the_float32_version():
    """Fix all random draws, the HSV distortion too: the mean difference is below 2.5 of 255."""
    config = ClassifierAugmentConfig(flip=1, hue=0.05, saturation=1.2, exposure=1.1)
    transformed = ClassificationTransform(config)([sample()], (64, 64), Quantile(0.6)).image
    parity = draw_classification(
        Quantile(0.6), (160, 120), 64, min_crop=32, max_crop=112, angle=7, aspect=0.75,
        hue=0.05, saturation=1.2, exposure=1.1,
    )  # fmt: skip
    assert parity.flip
    exact = 255 * parity.image(smooth(), (64, 64)).transpose(1, 2, 0)
    assert np.abs(transformed - exact).mean() < 2.5


def test_the_generator_decides_all_randomness():
    transform = ClassificationTransform(ClassifierAugmentConfig())
    seen = {transform([sample()], (32, 32), np.random.default_rng(seed)).image.tobytes() for seed in range(20)}
    assert len(seen) == 20
    one, same = (transform([sample()], (32, 32), np.random.default_rng(1)) for _ in range(2))
    assert np.array_equal(one.image, same.image)


# --- geometry: crop and none


@pytest.mark.parametrize("geometry", ["darknet", "crop", "none"])
@pytest.mark.parametrize("image_wh", [(160, 120), (1, 1), (1, 300), (700, 3)])
@pytest.mark.parametrize("size_wh", [(32, 32), (64, 32)])
def test_any_image_gets_the_size_and_keeps_its_label(geometry, image_wh, size_wh):
    transform = ClassificationTransform(ClassifierAugmentConfig(geometry=geometry))
    for seed in range(5):
        changed = transform([sample(smooth(image_wh))], size_wh, np.random.default_rng(seed))
        assert changed.image.shape == (size_wh[1], size_wh[0], 3)
        assert (changed.image.dtype, changed.image.flags.c_contiguous) == (np.uint8, True)
        assert (changed.image_label, changed.name, len(changed.boxes)) == (7, "image", 0)


def test_crops_have_the_area_and_the_aspect():
    config = ClassifierAugmentConfig(geometry="crop", area=(0.2, 0.5), aspect=0.5)
    rng = np.random.default_rng(0)
    crops = np.array([draw_crop((400, 300), (64, 32), config, rng) for _ in range(400)])
    left, top, w, h = crops.T
    assert (left >= 0).all() and (top >= 0).all() and (left + w <= 400).all() and (top + h <= 300).all()  # noqa: PT018
    areas, aspects = w * h / 120_000, w / h / 2
    assert areas.min() == pytest.approx(0.2, abs=0.02)
    assert areas.max() == pytest.approx(0.5, abs=0.03)
    assert aspects.min() == pytest.approx(0.5, rel=0.05)
    assert aspects.max() < 2
    assert {left.min(), top.min(), (left + w).max(), (top + h).max()} == {0, 400, 300}  # borders are reached


def test_crops_have_random_positions():
    image = np.zeros((40, 60, 3), np.uint8)
    image[10:30, 20:40] = 255
    config = ClassifierAugmentConfig(geometry="crop", area=(400 / 2400, 400 / 2400), aspect=1, **CALM)
    whites = [
        (ClassificationTransform(config)([sample(image)], (20, 20), np.random.default_rng(seed)).image == 255).mean()
        for seed in range(100)
    ]
    assert max(whites) > 0.6
    assert min(whites) < 0.05


def test_if_no_crop_fits_it_is_the_centre_crop():
    config = ClassifierAugmentConfig(geometry="crop", area=(1, 1), aspect=1, **CALM)
    image = smooth((200, 50))
    transformed = ClassificationTransform(config)([sample(image)], (32, 32), np.random.default_rng(0)).image
    assert np.array_equal(transformed, resize_center_crop(image, (32, 32)))


def test_geometry_none_is_the_centre_crop_of_evaluation():
    transform = ClassificationTransform(ClassifierAugmentConfig(geometry="none", **CALM))
    assert np.array_equal(
        transform([sample()], (64, 64), np.random.default_rng(0)).image, resize_center_crop(smooth(), (64, 64))
    )


@pytest.mark.parametrize("key", ["flip", "flip_vertical"])
def test_flips(key):
    plain, flipped = (
        ClassificationTransform(ClassifierAugmentConfig(geometry="none", **CALM | {key: p}))(
            [sample()], (64, 64), np.random.default_rng(0)
        ).image
        for p in (0, 1)
    )
    assert np.array_equal(flipped, np.flip(plain, 1 if key == "flip" else 0))


def test_albumentations_come_first_and_are_not_pickled():
    entries = ({"Crop": {"x_min": 80, "y_min": 60, "x_max": 160, "y_max": 120, "p": 1}},)
    transform = ClassificationTransform(ClassifierAugmentConfig(geometry="none", transforms=entries, **CALM))
    expected = resize_center_crop(smooth()[60:, 80:], (32, 32))
    for each in (transform, pickle.loads(pickle.dumps(transform))):
        assert np.array_equal(each([sample()], (32, 32), np.random.default_rng(0)).image, expected)
    with pytest.raises(ConfigError, match="'Nothing' is not an albumentations transform"):
        ClassificationTransform(ClassifierAugmentConfig(transforms=({"Nothing": {}},)))


# --- centre crop


@pytest.mark.parametrize("image_wh", [(64, 64), (100, 64), (64, 101), (65, 64)])
def test_the_centre_crop_is_darknets(image_wh):
    """If the shorter side already has the right length, no pixel value changes."""
    noise = np.random.default_rng(0).integers(0, 256, (image_wh[1], image_wh[0], 3), np.uint8)
    assert np.array_equal(
        resize_center_crop(noise, (64, 64)), np.rint(255 * center_crop(noise, (64, 64))).transpose(1, 2, 0)
    )
