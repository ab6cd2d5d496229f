import numpy as np
import pytest

from yolo9k.config.schema import AugmentConfig
from yolo9k.datasets.transforms.detection import DetectionTransform, HsvDistortion, clip_to_canvas, draw_placement, flip
from yolo9k.pixel_formats import GREY
from yolo9k.samples import BoxLabels, Sample

CALM = {"hue": 0, "saturation": 1, "exposure": 1, "flip": 0}


def rectangle(size_wh=(120, 90), xyxy=(30, 20, 75, 60)):
    """A white rectangle on black, and its box."""
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    image[xyxy[1] : xyxy[3], xyxy[0] : xyxy[2]] = 255
    return Sample(image, BoxLabels.of([xyxy], [4]), "rectangle", 7)


def bounds(image):
    rows, columns = np.nonzero(image[..., 0] > 190)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else None


@pytest.mark.parametrize("geometry", ["place", "fixed", "crop", "none"])
@pytest.mark.parametrize("flips", [(0, 0), (1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("size_wh", [(96, 96), (160, 64)])
def test_boxes_move_with_the_image(geometry, flips, size_wh):
    config = AugmentConfig(geometry=geometry, **CALM | {"flip": flips[0], "flip_vertical": flips[1]})
    shown = 0
    for seed in range(25):
        changed = DetectionTransform(config)([rectangle()], size_wh, np.random.default_rng(seed))
        assert changed.image.shape == (size_wh[1], size_wh[0], 3)
        assert (changed.image.dtype, changed.image.flags.c_contiguous) == (np.uint8, True)
        assert (changed.name, changed.image_label) == ("rectangle", 7)
        expected = bounds(changed.image)
        if len(changed.boxes) and expected:
            shown += 1
            assert changed.boxes.xyxy[0].tolist() == pytest.approx(expected, abs=2)
            assert changed.boxes.label.tolist() == [4]
        elif expected:
            assert min(expected[2] - expected[0], expected[3] - expected[1]) <= 2
    assert shown > 15


def test_geometry_none_is_letterbox():
    placement = draw_placement((120, 90), (96, 96), AugmentConfig(geometry="none"), np.random.default_rng(0))
    assert placement.offset_xy == (0, 12)
    changed = DetectionTransform(AugmentConfig(geometry="none", **CALM))(
        [rectangle()], (96, 96), np.random.default_rng(0)
    )
    assert changed.boxes.xyxy[0].tolist() == pytest.approx([24, 28, 60, 60])
    assert (changed.image[:12] == GREY).all()


def placements(geometry, image_wh, canvas_wh, **options):
    config = AugmentConfig(geometry=geometry, **options)
    for seed in range(300):
        placement = draw_placement(image_wh, canvas_wh, config, np.random.default_rng(seed))
        size = np.array(image_wh) * placement.scale_xy
        yield size, np.array(placement.offset_xy)


@pytest.mark.parametrize("canvas_wh", [(96, 96), (160, 64)])
def test_fixed_shows_the_whole_image(canvas_wh):
    aspects = []
    for size, offset in placements("fixed", (120, 90), canvas_wh, jitter=0.2):
        assert (offset >= 0).all()
        assert (offset + size <= np.array(canvas_wh) + 1e-6).all()
        assert (np.isclose(size, canvas_wh)).any()  # as large as fits
        aspects.append(size[0] / size[1])
    assert min(aspects) >= 120 / 90 * 0.8 / 1.2
    assert max(aspects) <= 120 / 90 * 1.2 / 0.8
    assert np.ptp(aspects) > 0.5


def test_place_scales_in_its_range():
    scales = [max(size / 96) for size, _ in placements("place", (50, 50), (96, 96), jitter=0, scale=(0.25, 2))]
    assert min(scales) == pytest.approx(0.25, abs=0.05)
    assert max(scales) == pytest.approx(2, abs=0.05)
    for size, offset in placements("place", (50, 50), (96, 96), jitter=0, scale=(2, 2)):
        assert (offset <= 0).all()  # a larger image leaves no border
        assert (offset + size >= 96 - 1e-6).all()


def test_crop_moves_each_border_by_the_jitter():
    lefts, rights = [], []
    for size, offset in placements("crop", (100, 50), (96, 96), jitter=0.2):
        scale = size / [100, 50]
        lefts.append((-offset / scale / [100, 50]).tolist())
        rights.append((1 - (96 - offset) / scale / [100, 50]).tolist())
    for part in (np.array(lefts), np.array(rights)):
        assert np.abs(part).max() <= 0.2 + 1e-6
        assert part.min() < -0.15
        assert part.max() > 0.15


@pytest.mark.parametrize(
    ("xyxy", "kept", "ignored"),
    [
        ((10, 10, 20, 20), True, False),
        ((-5, 10, 5, 20), True, False),  # half is visible
        ((-9, 10, 1, 20), True, True),  # a tenth is visible
        ((-10, 10, 0, 20), False, None),
        ((-30, 10, -20, 20), False, None),
        ((-9.95, 10, 0.05, 20), False, None),  # less than .001 of the canvas
    ],
)
def test_clipping_at_the_border(xyxy, kept, ignored):
    clipped = clip_to_canvas(BoxLabels.of([xyxy], [0]), np.array([xyxy], np.float32), (100, 100), min_visible=0.2)
    assert len(clipped) == kept
    if kept:
        assert clipped.ignore.tolist() == [ignored]
        assert clipped.xyxy.min() >= 0


def test_an_ignored_box_stays_ignored():
    boxes = BoxLabels.of([[1, 1, 9, 9]], [0], [True])
    assert clip_to_canvas(boxes, boxes.xyxy, (10, 10), 0.2).ignore.all()
    no_boxes = BoxLabels.of([], [])
    assert len(clip_to_canvas(no_boxes, no_boxes.xyxy, (10, 10), 0.2)) == 0


def test_no_distortion_returns_the_same_values():
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    assert np.array_equal(HsvDistortion(0, 1, 1).apply(image), image)


@pytest.mark.parametrize(
    ("distortion", "colour", "expected"),
    [
        ((1 / 3, 1, 1), (200, 0, 0), (0, 200, 0)),
        ((-1 / 3, 1, 1), (200, 0, 0), (0, 0, 200)),
        ((0.5, 1, 1), (90, 90, 90), (90, 90, 90)),  # grey has no hue
        ((0, 2, 1), (90, 90, 90), (90, 90, 90)),
        ((0, 0.5, 1), (200, 100, 100), (200, 150, 150)),
        ((0, 1, 0.5), (200, 100, 40), (100, 50, 20)),
        ((0, 1, 2), (200, 100, 100), (255, 128, 128)),
    ],
)
def test_distort_by_hand(distortion, colour, expected):
    image = np.full((3, 3, 3), colour, np.uint8)
    assert np.abs(HsvDistortion(*distortion).apply(image).astype(int) - expected).max() <= 6  # hue has 256 steps
    assert (image == colour).all()


def test_flip_by_hand():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    boxes = BoxLabels.of([[0, 0, 0.5, 1]], [3], [True])
    flipped, moved = flip(image, boxes, 1)
    assert np.array_equal(flipped, image[:, ::-1])
    assert moved.xyxy.tolist() == [[1.5, 0, 2, 1]]
    assert (moved.label.tolist(), moved.ignore.tolist()) == ([3], [True])
    assert flip(image, boxes, 0)[1].xyxy.tolist() == [[0, 1, 0.5, 2]]


def test_the_generator_decides_all_randomness():
    one, same, other = (
        DetectionTransform(AugmentConfig())([rectangle()], (96, 96), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.image, same.image)
    assert np.array_equal(one.boxes.xyxy, same.boxes.xyxy)
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize("geometry", ["none", "place", "fixed", "crop"])
def test_without_jitter_stretch_has_the_aspect_ratio_of_the_canvas(geometry):
    config = AugmentConfig(geometry=geometry, **CALM | {"jitter": 0, "scale": (1, 1)})
    for image_wh, canvas_wh in (((120, 40), (96, 96)), ((50, 200), (64, 32))):
        placement = draw_placement(image_wh, canvas_wh, config, np.random.default_rng(0), "stretch")
        assert placement.to_canvas(np.array([[0, 0, *image_wh]], np.float32)).tolist() == [[0, 0, *canvas_wh]]
        if geometry == "fixed":  # the same draws as letterboxed
            letterboxed = draw_placement(image_wh, canvas_wh, config, np.random.default_rng(0))
            assert letterboxed.scale_xy[0] == pytest.approx(letterboxed.scale_xy[1])


def test_stretched_boxes_move_with_the_image():
    transform = DetectionTransform(AugmentConfig(geometry="none", **CALM), "stretch")
    changed = transform([rectangle()], (64, 128), np.random.default_rng(0))
    before = rectangle()
    ratio = np.array([64, 128]) / before.size_wh
    assert np.allclose(changed.boxes.xyxy, before.boxes.xyxy * np.tile(ratio, 2), atol=1e-4)
