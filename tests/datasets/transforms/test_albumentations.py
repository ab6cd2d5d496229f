import numpy as np
import pytest

from yolo9k.datasets.transforms.albumentations import AlbumentationsChain
from yolo9k.errors import ConfigError
from yolo9k.samples import BoxLabels, Sample


@pytest.fixture
def sample() -> Sample:
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    return Sample(image, BoxLabels.of([[5, 6, 20, 30], [30, 0, 60, 40]], [3, 1], [False, True]), "a", 9)


def test_no_entries_change_nothing(sample):
    assert AlbumentationsChain([])(sample, np.random.default_rng(0)) is sample


def test_a_flip_moves_boxes(sample):
    changed = AlbumentationsChain([{"HorizontalFlip": {"p": 1}}])(sample, np.random.default_rng(0))
    assert np.array_equal(changed.image, sample.image[:, ::-1])
    assert changed.boxes.xyxy.tolist() == pytest.approx(np.array([[40, 6, 55, 30], [0, 0, 30, 40]]), abs=1e-4)
    assert changed.boxes.label.tolist() == [3, 1]
    assert changed.boxes.ignore.tolist() == [False, True]
    assert (changed.name, changed.image_label) == ("a", 9)


def test_transforms_are_applied_in_order(sample):
    crop = {"Crop": {"x_min": 0, "y_min": 0, "x_max": 30, "y_max": 40, "p": 1}}
    chain = AlbumentationsChain([{"HorizontalFlip": {"p": 1}}, crop])
    changed = chain(sample, np.random.default_rng(0))
    assert np.array_equal(changed.image, sample.image[:, :29:-1])
    assert changed.boxes.label.tolist() == [1]  # the other box was cut off


@pytest.mark.parametrize("boxes", [[], [[-3, -2, 20, 30]], [[59.9999, 0, 60.5, 40]], [[70, 5, 90, 20]]])
def test_boxes_outside_the_image_are_clipped_or_dropped(sample, boxes):
    outside = Sample(sample.image, BoxLabels.of(boxes, [0] * len(boxes)), "a")
    changed = AlbumentationsChain([{"HorizontalFlip": {"p": 1}}])(outside, np.random.default_rng(0))
    assert changed.boxes.xyxy.shape == (len(changed.boxes), 4)
    assert (changed.boxes.xyxy >= 0).all()
    assert (changed.boxes.xyxy <= [60, 40, 60, 40]).all()


def test_the_generator_decides_all_randomness(sample):
    chain = AlbumentationsChain(
        [{"GaussNoise": {"p": 1}}, {"RandomBrightnessContrast": {}}, {"Affine": {"rotate": 10}}]
    )
    one, other = (chain(sample, np.random.default_rng(3)) for _ in range(2))
    same_chain = AlbumentationsChain(
        [{"GaussNoise": {"p": 1}}, {"RandomBrightnessContrast": {}}, {"Affine": {"rotate": 10}}]
    )
    fresh = same_chain(sample, np.random.default_rng(3))
    for changed in (other, fresh):
        assert np.array_equal(one.image, changed.image)
        assert np.array_equal(one.boxes.xyxy, changed.boxes.xyxy)
    assert not np.array_equal(one.image, chain(sample, np.random.default_rng(4)).image)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"GausianBlur": {}}, "'GausianBlur' is not an albumentations transform"),
        ({"Compose": {}}, "'Compose' is not an albumentations transform"),
        ({"__name__": {}}, "'__name__' is not an albumentations transform"),
        ({"BasicTransform": {}}, "BasicTransform: "),
        ({"HorizontalFlip": {"prob": 1}}, "HorizontalFlip: .*'prob'"),
        ({"GaussianBlur": {"blur_limit": "wide"}}, "GaussianBlur: .*blur_limit"),
        ({"HorizontalFlip": {"p": "often"}}, "HorizontalFlip: .*p "),
    ],
)
def test_wrong_names_and_arguments(entry, message):
    with pytest.raises(ConfigError, match=r"data\.augment\.transforms.*" + message) as error:
        AlbumentationsChain([entry])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["Normalize", "ToFloat", "ToTensorV2"])
def test_an_image_must_stay_uint8(sample, name):
    try:
        chain = AlbumentationsChain([{name: {"p": 1}}])
    except ConfigError:
        pytest.skip(f"this albumentations has no {name}")
    with pytest.raises(ConfigError, match=r"must stay uint8 \(H, W, 3\), got"):
        chain(sample, np.random.default_rng(0))
