import numpy as np
import pytest
from PIL import Image

from yolo9k.errors import DataError
from yolo9k.images import GREY, Placement, is_picture, letterbox_placement, place, read_image, read_size_wh

RED, BLUE = (250, 10, 10), (10, 10, 250)


@pytest.fixture
def half_red() -> Image.Image:
    """8 wide, 4 high: the left half red, the right half blue; the top left pixel green."""
    image = Image.new("RGB", (8, 4), BLUE)
    image.paste(RED, (0, 0, 4, 4))
    image.putpixel((0, 0), (0, 255, 0))
    return image


def stored(tmp_path, image, name="a.png", **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone(tmp_path, half_red, orientation):
    backwards = {  # what a camera held that way would have written
        1: None, 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM",
        5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270",
    }[orientation]  # fmt: skip
    written = half_red.transpose(getattr(Image.Transpose, backwards)) if backwards else half_red
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = stored(tmp_path, written, exif=exif)
    assert np.array_equal(read_image(path), np.asarray(half_red))
    assert read_size_wh(path) == (8, 4)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 0x4D80, (0x4D, 0x4D, 0x4D)),
        ("I;16", 200, (0, 0, 0)),  # dark, not 8 bits
        ("RGBA", (*RED, 255), RED),
        ("RGBA", (*RED, 0), (GREY, GREY, GREY)),
        ("LA", (50, 255), (50, 50, 50)),
        ("LA", (50, 0), (GREY, GREY, GREY)),
    ],
)
def test_png_modes_become_rgb(tmp_path, mode, colour, expected):
    image = read_image(stored(tmp_path, Image.new(mode, (5, 3), colour)))
    assert (image.shape, image.dtype) == ((3, 5, 3), np.uint8)
    assert (image == expected).all()


@pytest.mark.parametrize(
    ("mode", "values", "expected"),
    [
        ("F", [0.0, 0.5, 1.0], [0, 128, 255]),
        ("F", [0.0, 100.0, 255.0], [0, 100, 255]),
        ("I", [0, 257, 65535], [0, 1, 255]),
        ("I", [0, 50_000, 100_000], [0, 128, 255]),
    ],
)
def test_deep_grey_tiffs(tmp_path, mode, values, expected):
    array = np.array([values], np.float32 if mode == "F" else np.int32)
    path = stored(tmp_path, Image.fromarray(array), "a.tif")
    assert read_image(path)[0, :, 0].tolist() == pytest.approx(expected, abs=1)


def test_palette_with_and_without_transparency(tmp_path, half_red):
    palette = half_red.convert("P", palette=Image.Palette.ADAPTIVE)
    assert np.abs(read_image(stored(tmp_path, palette)).astype(int) - np.asarray(half_red)).max() < 8
    clear = palette.getpixel((7, 3))
    shown = read_image(stored(tmp_path, palette, transparency=clear))
    assert (shown[3, 7] == GREY).all()
    assert (shown[3, 0] == RED).all()


def test_cmyk_jpeg(tmp_path):
    path = stored(tmp_path, Image.new("RGB", (16, 16), RED).convert("CMYK"), "a.jpg", quality=95)
    assert np.abs(read_image(path).astype(int) - RED).max() < 16


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_picture_that_is_cut_off(tmp_path, share):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = stored(tmp_path, Image.fromarray(noise), "a.jpg")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read as a picture: .*truncated"):
        read_image(path)


def test_files_that_are_no_pictures(tmp_path):
    path = tmp_path / "a.jpg"
    for read in (read_image, read_size_wh):
        with pytest.raises(DataError, match=r"a\.jpg: no such picture$"):
            read(path)
    for content in ("hello", ""):
        path.write_text(content)
        for read in (read_image, read_size_wh):
            with pytest.raises(DataError, match=r"a\.jpg: not a picture that can be read$"):
                read(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path)


def test_names_of_pictures(tmp_path):
    assert is_picture(tmp_path / "a.JPG")
    assert not is_picture(tmp_path / "a.txt")
    assert not is_picture(tmp_path / "._a.jpg")  # what macOS leaves beside a picture


@pytest.mark.parametrize(
    ("picture_wh", "canvas_wh", "new_wh", "offset"),
    [
        ((500, 375), (416, 416), (416, 312), (0, 52)),
        ((353, 500), (416, 416), (293, 416), (61, 0)),  # 353 * 416 / 500 = 293.7; 123 / 2 = 61.5
        ((500, 333), (416, 416), (416, 277), (0, 69)),
        ((100, 100), (416, 416), (416, 416), (0, 0)),
        ((640, 480), (512, 320), (426, 320), (43, 0)),
        ((10_000, 3), (416, 416), (416, 1), (0, 207)),  # Darknet would have no rows left
    ],
)
def test_letterbox_has_darknets_integers(picture_wh, canvas_wh, new_wh, offset):
    placement = letterbox_placement(picture_wh, canvas_wh)
    assert placement.offset_xy == offset
    assert [side * scale for side, scale in zip(picture_wh, placement.scale_xy, strict=True)] == pytest.approx(new_wh)


def test_to_canvas_and_back():
    placement = letterbox_placement((353, 500), (416, 320))
    xyxy = np.array([[0, 0, 353, 500], [10.5, 20.25, 30, 499]], np.float32)
    assert np.allclose(placement.to_picture(placement.to_canvas(xyxy)), xyxy, atol=1e-3)
    assert placement.to_canvas(xyxy)[0].tolist() == pytest.approx([95, 0, 320, 320], abs=1)
    assert placement.to_canvas(xyxy).dtype == np.float32
    assert placement.to_canvas(np.zeros((0, 4))).shape == (0, 4)


def test_letterboxed_picture_lies_on_grey():
    canvas = place(np.full((10, 20, 3), 255, np.uint8), letterbox_placement((20, 10), (64, 64)), (64, 64))
    assert (canvas[16:48] == 255).all()
    assert (canvas[:16] == GREY).all()
    assert (canvas[48:] == GREY).all()


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.7, 17.0])
@pytest.mark.parametrize("offset", [(5.3, -4.7), (-9.9, 3.2), (0.0, 0.0)])
def test_what_is_placed_lies_where_boxes_go(scale, offset):
    image = np.zeros((60, 80, 3), np.uint8)
    image[1:40, 2:50] = 255
    placement = Placement((scale, scale * 1.1), offset)
    canvas = place(image, placement, (96, 64))
    rows, columns = np.nonzero(canvas[..., 0] > GREY)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    expected = placement.to_canvas(np.array([[2, 1, 50, 40]]))[0].clip(0, [96, 64, 96, 64])
    assert found == pytest.approx(expected.tolist(), abs=1 + 0.3 * scale)  # linear interpolation blurs an edge


def test_enlarged_pixels_are_cut_at_the_border():
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 255
    canvas = place(image, Placement((40, 40), (-10, -10)), (64, 64))  # the pixels meet at 30
    assert canvas[0, 29, 0] < 128 <= canvas[0, 30, 0]


@pytest.mark.parametrize("offset", [(-500, 0), (0, 500)])
def test_a_picture_beside_the_canvas_does_not_show(offset):
    assert (place(np.zeros((10, 10, 3), np.uint8), Placement((1, 1), offset), (32, 32)) == GREY).all()
