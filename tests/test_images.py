import numpy as np
import pytest
from PIL import Image

from yolo9k.errors import DataError
from yolo9k.images import FilePart, read_image, read_size_wh
from yolo9k.pixel_formats import GREY
from yolo9k.placements import (
    Placement,
    apply_placement,
    center_crop_placement,
    crop_placement,
    letterbox_placement,
    resize_center_crop,
)

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


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 0x4D80, (0x4D, 0x4D, 0x4D)),
        ("I;16", 200, (200, 200, 200)),  # 8-bit data in a 16-bit file
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
def test_an_image_that_is_cut_off(tmp_path, share):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = stored(tmp_path, Image.fromarray(noise), "a.jpg")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read as an image: .*truncated"):
        read_image(path)


def test_files_that_are_no_images(tmp_path):
    path = tmp_path / "a.jpg"
    for read in (read_image, read_size_wh):
        with pytest.raises(DataError, match=r"a\.jpg: no such image$"):
            read(path)
    for content in ("hello", ""):
        path.write_text(content)
        for read in (read_image, read_size_wh):
            with pytest.raises(DataError, match=r"a\.jpg: not a readable image$"):
                read(path)


# --- a part of a file


def part_of(tmp_path, content, before=b"x" * 700, size=None):
    path = tmp_path / "many.bin"
    path.write_bytes(before + content + b"behind")
    return FilePart(path, len(before), len(content) if size is None else size, "a/b.png")


def test_a_part_of_a_file_is_read_as_a_file(tmp_path, half_red):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    path = stored(tmp_path, half_red, exif=exif)
    part = part_of(tmp_path, path.read_bytes())
    assert np.array_equal(read_image(part), read_image(path))
    assert read_size_wh(part) == read_size_wh(path) == half_red.size[::-1]


@pytest.mark.parametrize("read", [read_image, read_size_wh])
def test_what_is_wrong_with_a_part_is_said_as_of_a_file(tmp_path, half_red, read):
    part = part_of(tmp_path, b"text")
    assert str(part) == f"{tmp_path / 'many.bin'}: a/b.png"
    for content, size, message in (
        (b"text", 4, "not a readable image$"),
        (b"", 0, "not a readable image$"),
        (b"text", 99, "cannot be read as an image: the file ends 89 bytes before the image does$"),
    ):
        with pytest.raises(DataError, match=rf"many\.bin: a/b\.png: {message}"):
            read(part_of(tmp_path, content, size=size))
    part.path.unlink()
    with pytest.raises(DataError, match=r"many\.bin: a/b\.png: no such image$"):
        read(part)


def test_a_part_that_is_cut_off(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    content = stored(tmp_path, Image.fromarray(noise), "a.jpg").read_bytes()
    with pytest.raises(DataError, match=r"a/b\.png: cannot be read as an image: .*truncated"):
        read_image(part_of(tmp_path, content[: len(content) // 2]))


@pytest.mark.parametrize(
    ("image_wh", "canvas_wh", "new_wh", "offset"),
    [
        ((500, 375), (416, 416), (416, 312), (0, 52)),
        ((353, 500), (416, 416), (293, 416), (61, 0)),  # 353 * 416 / 500 = 293.7; 123 / 2 = 61.5
        ((500, 333), (416, 416), (416, 277), (0, 69)),
        ((100, 100), (416, 416), (416, 416), (0, 0)),
        ((640, 480), (512, 320), (426, 320), (43, 0)),
        ((10_000, 3), (416, 416), (416, 1), (0, 207)),  # Darknet would have no rows left
    ],
)
def test_letterbox_has_darknets_integers(image_wh, canvas_wh, new_wh, offset):
    placement = letterbox_placement(image_wh, canvas_wh)
    assert placement.offset_xy == offset
    assert [side * scale for side, scale in zip(image_wh, placement.scale_xy, strict=True)] == pytest.approx(new_wh)


def test_to_canvas_and_back():
    placement = letterbox_placement((353, 500), (416, 320))
    xyxy = np.array([[0, 0, 353, 500], [10.5, 20.25, 30, 499]], np.float32)
    assert np.allclose(placement.to_image(placement.to_canvas(xyxy)), xyxy, atol=1e-3)
    assert placement.to_canvas(xyxy)[0].tolist() == pytest.approx([95, 0, 320, 320], abs=1)
    assert placement.to_canvas(xyxy).dtype == np.float32
    assert placement.to_canvas(np.zeros((0, 4))).shape == (0, 4)


def test_letterboxed_image_lies_on_grey():
    canvas = apply_placement(np.full((10, 20, 3), 255, np.uint8), letterbox_placement((20, 10), (64, 64)), (64, 64))
    assert (canvas[16:48] == 255).all()
    assert (canvas[:16] == GREY).all()
    assert (canvas[48:] == GREY).all()


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.7, 17.0])
@pytest.mark.parametrize("offset", [(5.3, -4.7), (-9.9, 3.2), (0.0, 0.0)])
def test_what_is_placed_lies_where_boxes_go(scale, offset):
    image = np.zeros((60, 80, 3), np.uint8)
    image[1:40, 2:50] = 255
    placement = Placement((scale, scale * 1.1), offset)
    canvas = apply_placement(image, placement, (96, 64))
    rows, columns = np.nonzero(canvas[..., 0] > GREY)
    found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    expected = placement.to_canvas(np.array([[2, 1, 50, 40]]))[0].clip(0, [96, 64, 96, 64])
    assert found == pytest.approx(expected.tolist(), abs=1 + 0.3 * scale)  # linear interpolation blurs an edge


def test_enlarged_pixels_are_cut_at_the_border():
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 255
    canvas = apply_placement(image, Placement((40, 40), (-10, -10)), (64, 64))  # the pixels meet at 30
    assert canvas[0, 29, 0] < 128 <= canvas[0, 30, 0]


@pytest.mark.parametrize("offset", [(-500, 0), (0, 500)])
def test_an_image_beside_the_canvas_does_not_show(offset):
    assert (apply_placement(np.zeros((10, 10, 3), np.uint8), Placement((1, 1), offset), (32, 32)) == GREY).all()


# --- parts of an image


@pytest.mark.parametrize("canvas_wh", [(224, 224), (96, 64), (7, 300)])
def test_a_crop_is_exactly_the_part(canvas_wh):
    """No neighbouring pixel, whatever the factor."""
    for size in range(1, 60):
        image = np.full((80, 90, 3), 255, np.uint8)
        image[13 : 13 + size, 7 : 7 + size] = 9
        assert (apply_placement(image, crop_placement((7, 13, size, size), canvas_wh), canvas_wh) == 9).all(), size


@pytest.mark.parametrize(
    ("image_wh", "canvas_wh", "part"),
    [
        ((100, 60), (32, 32), (20, 0, 60, 60)),
        ((60, 101), (32, 32), (0, 20, 60, 60)),
        ((50, 50), (64, 64), (0, 0, 50, 50)),
        ((100, 100), (64, 32), (0, 25, 100, 50)),
        ((100, 20), (32, 64), (45, 0, 10, 20)),
        ((300, 1), (32, 32), (149, 0, 1, 1)),
        ((1, 1), (64, 32), (0, 0, 1, 1)),
    ],
)
def test_the_middle_has_the_aspect_of_the_canvas(image_wh, canvas_wh, part):
    assert center_crop_placement(image_wh, canvas_wh) == crop_placement(part, canvas_wh)
    image = np.full((image_wh[1], image_wh[0], 3), 200, np.uint8)
    x, y, w, h = part
    image[y : y + h, x : x + w] = 30
    shown = resize_center_crop(image, canvas_wh)
    assert shown.shape == (canvas_wh[1], canvas_wh[0], 3)
    assert (shown == 30).all()
