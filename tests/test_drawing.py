import numpy as np
import pytest
from PIL import Image

from yolo9k.drawing import colour, draw_boxes, fit, legend, mosaic, save_image, text_colour
from yolo9k.errors import ConfigError, MachineError

RED = (255, 0, 0)


def grey(width=200, height=100):
    return np.full((height, width, 3), 128, np.uint8)


def test_draws_on_a_copy():
    image = grey()
    drawn = draw_boxes(image, np.array([[20, 30, 60, 80]]), ["cat"], [RED])
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == 128).all()
    for x, y in ((20, 50), (60, 50), (40, 30), (40, 80)):
        assert tuple(drawn[y, x]) == RED
    assert tuple(drawn[60, 40]) == (128, 128, 128)


def test_no_boxes_is_the_same_image():
    np.testing.assert_array_equal(draw_boxes(grey(), np.zeros((0, 4)), []), grey())


def test_a_label_stays_inside_the_image():
    # letters at the corners, and a text wider than the image
    boxes = np.array([[0, 0, 5, 5], [195, 95, 200, 100], [190, 0, 200, 10]])
    drawn = draw_boxes(grey(), boxes, ["left", "a long label at the right", "w" * 200], [RED] * 3)
    assert (drawn != 128).any(axis=2).sum() > 200


def test_the_first_box_lies_on_top():
    box = np.array([[20, 30, 60, 80]] * 2)
    drawn = draw_boxes(grey(), box, ["", ""], [RED, (0, 0, 255)])
    assert tuple(drawn[50, 20]) == RED


def test_ignored_boxes_are_dashed():
    def painted(ignore):
        drawn = draw_boxes(grey(), np.array([[20, 10, 180, 90]]), [""], [RED], ignore=np.array([ignore]))
        return (drawn == RED).all(axis=2).sum()

    assert 0.3 < painted(True) / painted(False) < 0.8


def test_ignored_boxes_are_called_so():
    box, ignored = np.array([[20, 30, 180, 90]]), np.array([True])
    one, other, none = (draw_boxes(grey(), box, [text], [RED], ignore=ignored) for text in ("cat", "wild boar", ""))
    np.testing.assert_array_equal(one, other)
    assert (one != none).any()


@pytest.mark.parametrize("box", [[60, 80, 20, 30], [-50, -50, 500, 500], [300, 300, 400, 400], [5, 5, 5, 5]])
def test_odd_boxes_are_drawn_as_far_as_they_can(box):
    assert draw_boxes(grey(), np.array([box], float), ["x"]).shape == (100, 200, 3)


def test_texts_must_be_as_many_as_boxes():
    with pytest.raises(ValueError, match="zip"):
        draw_boxes(grey(), np.zeros((2, 4)), ["one"])


def test_colours_differ_and_text_is_readable():
    colours = [colour(label) for label in range(80)]
    assert len(set(colours)) == 80
    assert text_colour((255, 255, 0)) == (0, 0, 0)
    assert text_colour((0, 0, 160)) == (255, 255, 255)


def test_lines_grow_with_the_image():
    drawn = draw_boxes(grey(1800, 1800), np.array([[300, 300, 900, 900]]), [""], [RED])
    assert (drawn[600, 290:320] == RED).all(axis=1).sum() == 10


def test_fit_scales_image_and_boxes():
    image, boxes = fit(grey(200, 100), np.array([[20, 30, 60, 80]]), (100, 100))
    assert image.shape == (50, 100, 3)
    np.testing.assert_allclose(boxes, [[10, 15, 30, 40]])


def test_mosaic_is_a_grid():
    images = [np.full((10, 30, 3), value, np.uint8) for value in (0, 50, 100)]
    joined = mosaic(images, columns=2, cell_wh=(60, 40))
    assert joined.shape == (2 * 44 + 4, 2 * 64 + 4, 3)
    assert joined[24, 34].tolist() == [0, 0, 0]
    assert joined[24, 98].tolist() == [50, 50, 50]
    assert joined[68, 34].tolist() == [100, 100, 100]
    assert joined[68, 98].tolist() == [255, 255, 255]


def test_mosaic_with_captions_is_higher_and_needs_an_image():
    plain = mosaic([grey()], cell_wh=(60, 40))
    assert mosaic([grey()], cell_wh=(60, 40), captions=["a caption that is too long"]).shape[0] > plain.shape[0]
    with pytest.raises(ValueError, match="at least one"):
        mosaic([])


def test_legend_is_as_wide_as_asked():
    strip = legend(["hit", "miss"], [RED, (0, 0, 255)], 300)
    assert strip.shape[1] == 300
    assert (strip == RED).all(axis=2).any()


@pytest.mark.parametrize("name", ["a.png", "deep/er/a.jpg"])
def test_save_image(tmp_path, name):
    save_image(tmp_path / name, grey())
    with Image.open(tmp_path / name) as image:
        assert image.size == (200, 100)


def test_save_image_says_what_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match=r"a\.xyz: the suffix of an image must be one of \.png"):
        save_image(tmp_path / "a.xyz", grey())
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        save_image(tmp_path / "file" / "a.png", grey())
