"""Large JPEGs are decoded at 1/2, 1/4 or 1/8 of their size where they are shrunk anyway."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from yolo9k import images as module
from yolo9k.config.classifier import ClassifierAugmentConfig
from yolo9k.config.schema import AugmentConfig
from yolo9k.datasets.loader.dataset import TrainingDataset
from yolo9k.datasets.loader.sampler import SampleRequest, augmentation_generator
from yolo9k.datasets.readers.records import Record
from yolo9k.datasets.transforms.classification import ClassificationTransform
from yolo9k.datasets.transforms.detection import DetectionTransform
from yolo9k.datasets.transforms.grey import for_channels
from yolo9k.errors import DataError
from yolo9k.images import read_image, read_reduced
from yolo9k.inference.resize import CENTER_CROPS, FITS
from yolo9k.inference.sources import read_ahead
from yolo9k.placements import Placement, apply_placement, letterbox_placement, resize
from yolo9k.samples import BoxLabels

ORIENTATION = 0x0112


@pytest.fixture(autouse=True)
def _any_size(monkeypatch):
    """Reduce small images, too: large ones would take long to write."""
    monkeypatch.setattr(module, "MIN_REDUCIBLE", 1)


def smooth(w, h):
    """A smooth colour image, which every decoder and resizer agrees on."""
    x, y = np.meshgrid(np.linspace(0, 3, w), np.linspace(0, 3, h))
    waves = [np.sin(x * 2 + 1), np.cos(y * 2), np.sin(x + y)]
    return np.rint(127 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def write(path, image, orientation=None, **options):
    exif = Image.Exif()
    if orientation:
        exif[ORIENTATION] = orientation
    Image.fromarray(image).save(path, exif=exif, **{"quality": 95, "subsampling": 0} | options)
    return path


@pytest.mark.parametrize(
    ("needed_wh", "pixels_wh"),
    [
        ((13, 10), (40, 30)),
        ((13, 10.1), (80, 60)),  # 11 rows are needed, and 33 kept
        ((26, 20), (80, 60)),
        ((26, 20.1), (160, 120)),
        ((53, 40), (160, 120)),
        ((53.1, 10), (320, 240)),
        ((1000, 1000), (320, 240)),
        ((0.01, 0.01), (40, 30)),
        (None, (320, 240)),
    ],
)
def test_three_times_the_needed_pixels_are_kept(tmp_path, needed_wh, pixels_wh):
    asked = []
    pixels, image_wh = read_reduced(
        write(tmp_path / "a.jpg", smooth(320, 240)), lambda size: asked.append(size) or needed_wh
    )
    assert (pixels.shape, pixels.dtype) == ((pixels_wh[1], pixels_wh[0], 3), np.uint8)
    assert image_wh == (320, 240)
    assert asked == [(320, 240)]


def test_small_images_and_other_formats_are_read_whole(tmp_path, monkeypatch):
    image = smooth(64, 48)
    for name in ("a.png", "a.webp", "a.bmp", "a.tif"):
        path = tmp_path / name
        Image.fromarray(image).save(path)
        pixels, image_wh = read_reduced(path, lambda _: (1, 1))
        assert image_wh == (64, 48)
        assert np.array_equal(pixels, read_image(path))
    path = write(tmp_path / "a.jpg", image)
    for least, shape in ((64 * 48, (6, 8, 3)), (64 * 48 + 1, (48, 64, 3))):
        monkeypatch.setattr(module, "MIN_REDUCIBLE", least)
        assert read_reduced(path, lambda _: (1, 1))[0].shape == shape


def test_a_million_pixels_are_the_limit(monkeypatch):
    monkeypatch.undo()
    assert module.MIN_REDUCIBLE == 1_000_000


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 2}, {"restart_marker_rows": 1}])
def test_kinds_of_jpeg(tmp_path, options):
    path = write(tmp_path / "a.jpg", smooth(320, 240), **options)
    reduced, _ = read_reduced(path, lambda _: (26, 20))
    assert np.abs(reduced.astype(int) - resize(read_image(path), (80, 60))).max() <= 3


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk(tmp_path, mode):
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth(320, 240)).convert(mode).save(path, quality=95)
    reduced, _ = read_reduced(path, lambda _: (26, 20))
    assert np.abs(reduced.astype(int) - resize(read_image(path), (80, 60))).max() <= 4


def test_the_first_image_of_an_mpo(tmp_path):
    path = tmp_path / "a.mpo"
    first, second = (Image.fromarray(image) for image in (smooth(320, 240), np.zeros((240, 320, 3), np.uint8)))
    first.save(path, "MPO", save_all=True, append_images=[second], quality=95)
    reduced, image_wh = read_reduced(path, lambda _: (26, 20))
    assert image_wh == (320, 240)
    assert np.abs(reduced.astype(int) - resize(read_image(path), (80, 60))).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(tmp_path, orientation):
    path = write(tmp_path / "a.jpg", smooth(320, 160), orientation)
    upright = read_image(path)
    h, w = upright.shape[:2]
    reduced, image_wh = read_reduced(path, lambda size: (size[0] / 13, size[1] / 13))
    assert image_wh == (w, h)
    assert reduced.shape == (h // 4, w // 4, 3)
    assert np.abs(reduced.astype(int) - resize(upright, (w // 4, h // 4))).max() <= 3


@pytest.mark.parametrize(("orientation", "shape"), [(1, (61, 81, 3)), (3, (122, 161, 3)), (6, (161, 122, 3))])
def test_a_turned_image_has_whole_pixels_only(tmp_path, orientation, shape):
    path = write(tmp_path / "a.jpg", smooth(322, 244), orientation)  # divisible by 2, the upright 322 not by 4
    reduced, _ = read_reduced(path, lambda size: (size[0] / 13, size[1] / 13))
    assert reduced.shape == shape


def test_errors_are_those_of_reading_it_whole(tmp_path):
    path = write(tmp_path / "a.jpg", smooth(320, 240))
    content = path.read_bytes()
    for name, part in (("cut.jpg", content[: len(content) // 2]), ("text.jpg", b"text"), ("head.jpg", content[:200])):
        broken = tmp_path / name
        broken.write_bytes(part)
        messages = []
        for read in (read_image, lambda source: read_reduced(source, lambda _: (10, 10))):
            with pytest.raises(DataError) as error:
                read(broken)
            messages.append(str(error.value).split(" (")[0])  # Pillow adds how many bytes were left
        assert messages[0] == messages[1]
    with pytest.raises(DataError, match="no such image"):
        read_reduced(tmp_path / "none.jpg", lambda _: (1, 1))


def test_reduced_pixels_are_counted_in_flight(tmp_path, monkeypatch):
    path = write(tmp_path / "a.jpg", smooth(320, 240))
    held = []
    monkeypatch.setattr(module.PixelBudget, "holding", lambda self, pixels: held.append(pixels) or module.suppress())
    read_reduced(path, lambda _: (26, 20))
    assert held == [80 * 60]


# --- placing reduced images


def reduce_exactly(image, reduction):
    """Average blocks of pixels; the last ones continue the edge of the image, as an encoder does."""
    h, w = image.shape[:2]
    padded = np.pad(image, ((0, -h % reduction), (0, -w % reduction), (0, 0)), mode="edge")
    return resize(padded, (padded.shape[1] // reduction, padded.shape[0] // reduction))


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([2, 4, 8]), st.integers(180, 300), st.integers(180, 300), st.floats(0.7, 1), st.floats(0.7, 1),
    st.floats(-1, 1), st.floats(-1, 1),
)  # fmt: skip
def test_a_reduced_image_is_placed_where_the_whole_one_is(reduction, w, h, across, down, left, top):
    """A ramp shows each position. Cut edges are rounded to pixels of the canvas, for whole and reduced images."""
    x, y = np.meshgrid(np.linspace(0, 255, w), np.linspace(0, 255, h))
    image = np.rint(np.stack([x, y, 255 - x], axis=-1)).astype(np.uint8)
    scale_xy = across / (3 * reduction), down / (3 * reduction)
    canvas_wh = round(w * scale_xy[0]), round(h * scale_xy[1])
    placement = Placement(scale_xy, (left * w * scale_xy[0] / 2, top * h * scale_xy[1] / 2))
    whole = apply_placement(image, placement, canvas_wh)
    placed = apply_placement(reduce_exactly(image, reduction), placement, canvas_wh, image_wh=(w, h))
    assert placed.shape == whole.shape
    assert np.median(np.abs(placed.astype(int) - whole)) <= 3 + 255 / min(canvas_wh)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([2, 4, 8]), st.integers(150, 400), st.integers(150, 400))
def test_letterboxing_a_reduced_image_is_exact(reduction, w, h):
    """Also where the last pixel extends beyond the image: a scale of exactly 2, 4 or 8."""
    x, y = np.meshgrid(np.linspace(0, 255, w), np.linspace(0, 255, h))
    image = np.rint(np.stack([x, y, 255 - x], axis=-1)).astype(np.uint8)
    side = min(w, h) // (3 * reduction)
    placement = letterbox_placement((w, h), (side, side))
    whole = apply_placement(image, placement, (side, side))
    placed = apply_placement(reduce_exactly(image, reduction), placement, (side, side), image_wh=(w, h))
    assert np.abs(placed.astype(int) - whole).max() <= 0.15 * 255 / side + 2  # .15 pixels of the canvas, and rounding


def test_pixels_of_another_image_are_refused():
    with pytest.raises(ValueError, match="30x20 pixels are not a reduced image of 100x100"):
        apply_placement(np.zeros((20, 30, 3), np.uint8), Placement((0.1, 0.1), (0, 0)), (10, 10), image_wh=(100, 100))


# --- detection, classification and training


def test_area_resizing_says_what_it_needs_and_darknets_needs_all(tmp_path):
    path = write(tmp_path / "a.jpg", smooth(640, 480))
    kinds = [*(make((96, 64)) for make in FITS.values()), *(make((64, 64)) for make in CENTER_CROPS.values())]
    for resizer in kinds:
        pixels, image_wh = read_reduced(path, resizer.needed_wh)
        assert image_wh == (640, 480)
        expected = resizer.apply(read_image(path)).astype(np.float32)
        if type(resizer).__name__.startswith("Darknet"):
            assert pixels.shape == (480, 640, 3)
            assert np.array_equal(resizer.apply(pixels, image_wh), expected)
        else:
            assert pixels.shape == (240, 320, 3)
            assert np.abs(resizer.apply(pixels, image_wh) - expected).max() <= 3


def test_reading_ahead_passes_the_whole_size(tmp_path):
    path = write(tmp_path / "a.jpg", smooth(320, 240))
    prepared = read_ahead([path, smooth(8, 4)], lambda image, wh: (image.shape, wh), lambda _: (26, 20), ahead=2)
    assert list(prepared) == [((60, 80, 3), (320, 240)), ((4, 8, 3), (8, 4))]


DETECTION = {
    geometry: DetectionTransform(AugmentConfig(geometry=geometry, hue=0, saturation=1, exposure=1, scale=(0.3, 1.2)))
    for geometry in ("place", "fixed", "crop", "none")
}
CLASSIFICATION = {
    geometry: ClassificationTransform(ClassifierAugmentConfig(geometry=geometry, hue=0, saturation=1, exposure=1))
    for geometry in ("crop", "none")
}
TRANSFORMS = {**DETECTION, **{f"classifier {name}": transform for name, transform in CLASSIFICATION.items()}}


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_training_images_are_those_of_whole_images(tmp_path, name, channels):
    """The same draws, boxes and positions: only what decoding at a reduced size changes."""
    record = Record(
        write(tmp_path / "a.jpg", smooth(642, 479)), (642, 479), BoxLabels.of([[100, 50, 400, 300]], [0]), 0
    )
    transform = for_channels(TRANSFORMS[name], channels)
    whole, reduced = (TrainingDataset([[record]], transform, seed=0, reduce=reduce) for reduce in (False, True))
    shrunk = 0
    for step in range(30):
        request = SampleRequest(0, step, 0, (64, 64))
        expected, sample = whole[request], reduced[request]
        assert np.array_equal(sample.boxes.xyxy, expected.boxes.xyxy)
        difference = np.abs(sample.image.astype(int) - expected.image)
        shrunk += bool(difference.any())
        assert difference.mean() < 2.5
        assert np.median(difference) <= 4
    assert shrunk > 10  # read at a reduced size


def test_transforms_that_need_all_pixels():
    noisy = ({"GaussNoise": {"p": 1}},)
    rng = np.random.default_rng(0)
    for transform in (
        DetectionTransform(AugmentConfig(transforms=noisy)),
        ClassificationTransform(ClassifierAugmentConfig(transforms=noisy, geometry="none")),
        ClassificationTransform(ClassifierAugmentConfig()),  # Darknet's crop, which does not average
    ):
        assert transform.needed_wh((4000, 3000), (64, 64), rng) is None


class TwoImages:
    """Needs two images, or does not say what it needs."""

    def __init__(self, num_samples):
        self.num_samples, self.shapes = num_samples, []

    def __call__(self, samples, size_wh, rng):
        self.shapes += [sample.image.shape for sample in samples]
        return samples[0]


@pytest.mark.parametrize("num_samples", [1, 2])
def test_other_transforms_get_whole_images(tmp_path, num_samples):
    record = Record(write(tmp_path / "a.jpg", smooth(320, 240)), (320, 240), BoxLabels.of([], []), 0)
    transform = TwoImages(num_samples)
    if num_samples == 2:
        transform.needed_wh = lambda *_: (10, 10)
    for channels in (3, 1):
        dataset = TrainingDataset([[record]], for_channels(transform, channels), seed=0)
        dataset[SampleRequest(0, 0, 0, (32, 32))]
    assert transform.shapes == [(240, 320, 3)] * 2 * num_samples


def test_needed_sizes_use_the_draws_of_the_call():
    transform = DETECTION["place"]
    rng = augmentation_generator(0, 5, 3)
    needed = transform.needed_wh((4000, 3000), (416, 416), augmentation_generator(0, 5, 3))
    scale = rng.uniform(0.3, 1.2)
    aspect = 4 / 3 * rng.uniform(0.7, 1.3) / rng.uniform(0.7, 1.3)
    assert needed == pytest.approx((scale * min(416, 416 * aspect), scale * min(416, 416 / aspect)))


def test_boxes_annotated_at_another_size_are_scaled_to_the_whole_image(tmp_path):
    path = write(tmp_path / "a.jpg", smooth(640, 480))
    record = Record(path, (320, 240), BoxLabels.of([[32, 24, 160, 120]], [0]), 0)
    sample = TrainingDataset([[record]], DETECTION["none"], seed=0)[SampleRequest(0, 0, 0, (64, 64))]
    across = sample.boxes.xyxy[0, [0, 2]]
    assert sorted(min(x, 64 - x) for x in across) == pytest.approx([6.4, 32])  # flipped or not
    assert sample.resized == (str(path),)
