"""The brightness of deep images, and colours of unusual modes."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from yolo9k import pixel_formats
from yolo9k.errors import DataError
from yolo9k.images import read_image
from yolo9k.pixel_formats import GREY

BITS = [8, 10, 12, 14, 16]


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(values, significant=None, clear=None):
    """Encode uint16 values (H, W, C) as PNG; `significant`: sBIT; `clear`: the transparent value."""
    h, w, channels = values.shape
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0))
    if significant:
        head += chunk(b"sBIT", bytes([significant] * channels))
    if clear is not None:
        head += chunk(b"tRNS", struct.pack(f">{channels}H", *clear))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(values, order="<", bits=16, photometric=None, tags=(), planar=1, sample_format=1):
    """Encode uint16 values (H, W, C) as an uncompressed TIFF file of one strip (or one per channel)."""
    h, w, channels = values.shape
    if bits == 12:
        flat = values.reshape(h, -1).astype(int)
        data = bytes(byte for a, b in flat.reshape(-1, 2) for byte in (a >> 4, (a & 15) << 4 | b >> 8, b & 255))
    else:
        parts = [values] if planar == 1 else [values[..., [c]] for c in range(channels)]
        data = b"".join(part.astype(f"{order}u2").tobytes() for part in parts)
    strips = 1 if planar == 1 else channels
    photometric = (2 if channels >= 3 else 1) if photometric is None else photometric
    entries = {
        256: (4, [w]), 257: (4, [h]), 258: (3, [bits] * channels), 259: (3, [1]), 262: (3, [photometric]),
        273: (4, [8 + i * len(data) // strips for i in range(strips)]), 277: (3, [channels]), 278: (4, [h]),
        279: (4, [len(data) // strips] * strips), 284: (3, [planar]), 339: (3, [sample_format] * channels),
        **dict(tags),
    }  # fmt: skip
    if channels == 4:
        entries[338] = (3, [2])
    start = 8 + len(data) + len(data) % 2
    table, extra = b"", b""
    behind = start + 2 + 12 * len(entries) + 4
    for tag, (kind, numbers) in sorted(entries.items()):
        content = b"".join(struct.pack(order + {3: "H", 4: "I"}[kind], number) for number in numbers)
        if len(content) > 4:
            place, extra = struct.pack(order + "I", behind + len(extra)), extra + content + b"\0" * (len(content) % 2)
        else:
            place = content.ljust(4, b"\0")
        table += struct.pack(order + "HHI", tag, kind, len(numbers)) + place
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(order + "HI", 42, start) + data + b"\0" * (len(data) % 2)
    return head + struct.pack(order + "H", len(entries)) + table + b"\0\0\0\0" + extra


def ramp(bits, channels, top=None):
    """Values (5, 16, C) from 0 to the largest of `bits` bits (or `top`), and the same in 8 bits."""
    full = (1 << bits) - 1
    top = full if top is None else top
    values = np.linspace(0, top, 80 * channels).round().astype(np.uint16).reshape(5, 16, channels)
    return values, values * (255 / full)


def shown(tmp_path, content):
    path = tmp_path / "a.img"
    path.write_bytes(content)
    return read_image(path).astype(int)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bits=st.sampled_from(BITS),
    channels=st.sampled_from([1, 3]),
    kind=st.sampled_from(["png", "png with sBIT", "tiff", "big-endian tiff", "tiff lzw", "ppm"]),
    level=st.floats(0.55, 1),
)
def test_data_of_any_depth_is_as_bright_as_it_was_meant(tmp_path, bits, channels, kind, level):
    """The brightest value is above half of the range, so that its depth shows."""
    values, expected = ramp(bits, channels, top=int(level * ((1 << bits) - 1)))
    values.flat[0] = 1  # the lowest bit is in use: not shifted values
    content = {
        "png": lambda: png(values),
        "png with sBIT": lambda: png(values, significant=bits),
        "tiff": lambda: tiff(values),
        "big-endian tiff": lambda: tiff(values, ">"),
        "tiff lzw": lambda: lzw(tmp_path, values),
        "ppm": lambda: (
            b"P%d 16 5 %d\n" % (6 if channels == 3 else 5, (1 << bits) - 1)
            + (values.astype(np.uint8) if bits == 8 else values.astype(">u2")).tobytes()
        ),
    }[kind]()
    np.testing.assert_allclose(shown(tmp_path, content), np.broadcast_to(expected, (5, 16, 3)), atol=1.01)


def lzw(tmp_path, values):
    """Compress with libtiff, which hands out samples in the byte order of the machine."""
    import cv2

    path = tmp_path / "compressed.tif"
    cv2.imwrite(str(path), values[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    return path.read_bytes()


def test_a_file_that_states_its_depth_may_be_dark(tmp_path):
    values, expected = ramp(12, 1, top=200)
    values.flat[0] = 1
    expected = np.broadcast_to(expected, (5, 16, 3))
    for content in (
        png(values, significant=12),
        tiff(values, bits=12),
        tiff(values, tags={281: (3, [4095])}),
        tiff(values, tags={341: (3, [4095])}, order=">"),
    ):
        np.testing.assert_allclose(shown(tmp_path, content), expected, atol=1)


def test_png_may_keep_significant_bits_above_empty_ones(tmp_path):
    """As its specification prescribes: 12 bits in the upper bits of 16."""
    values = (np.arange(80).reshape(5, 16, 1) * 3 << 4).astype(np.uint16)  # dark, up to 3792 of 65535
    np.testing.assert_allclose(shown(tmp_path, png(values, significant=12))[..., :1], values / 257, atol=1)
    values = values << 4
    np.testing.assert_allclose(shown(tmp_path, png(values, significant=12))[..., :1], values / 257, atol=1)


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("channels", [2, 4])
def test_deep_images_with_transparency(tmp_path, bits, channels):
    values, expected = ramp(bits, channels)
    for opaque in ((1 << bits) - 1, 65535):
        values[..., -1] = opaque
        values[0, 0, -1] = 0
        image = shown(tmp_path, png(values))
        assert (image[0, 0] == GREY).all()
        colours = np.broadcast_to(expected[..., : channels - 1], image.shape)
        np.testing.assert_allclose(image[1:], colours[1:], atol=1.01)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_value_of_16_bits(tmp_path, channels):
    values, expected = ramp(16, channels)
    image = shown(tmp_path, png(values, clear=values[2, 3]))
    assert (image[2, 3] == GREY).all()
    np.testing.assert_allclose(image[3:], np.broadcast_to(expected, image.shape)[3:], atol=1)


@pytest.mark.parametrize("bits", BITS)
def test_grey_tiff_in_which_0_is_white(tmp_path, bits):
    values, expected = ramp(bits, 1)
    image = shown(tmp_path, tiff(values, photometric=0))
    np.testing.assert_allclose(image, np.broadcast_to(255 - expected, image.shape), atol=1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_tiff(tmp_path, order):
    for bits in (12, 15):
        values, expected = ramp(bits, 1)
        image = shown(tmp_path, tiff(values, order, sample_format=2))
        np.testing.assert_allclose(image, np.broadcast_to(expected, image.shape), atol=1)
    with pytest.raises(DataError, match=r"a\.img: has negative values \(min -1000\); save it as unsigned"):
        shown(tmp_path, tiff(np.full((2, 2, 1), 65536 - 1000), order, sample_format=2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_without_a_brightness_are_refused(tmp_path, value):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0.5, value]], np.float32)).save(path)
    with pytest.raises(DataError, match=r"a\.tif: has values that are not finite"):
        read_image(path)


@pytest.mark.parametrize(("top", "white"), [(0.7, 1), (200, 255), (4000.5, 4095), (60000, 65535), (1e6, 1e6)])
def test_floats(tmp_path, top, white):
    path = tmp_path / "a.tif"
    values = np.linspace(0, top, 20, dtype=np.float32).reshape(4, 5)
    Image.fromarray(values).save(path)
    np.testing.assert_allclose(read_image(path)[..., 0], values * (255 / white), atol=1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("top", [70_000.5, 1e10, 1e19, 3.4e38])
def test_floats_of_any_size(tmp_path, top):
    """They are divided by their maximum, without a warning of numpy's casts to integers."""
    values = np.array([[0, top / 2, top]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() in ([0, 127, 255], [0, 128, 255])


def test_deep_channels_in_separate_planes_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.img: has 16-bit channels in separate planes; save it with interleaved"):
        shown(tmp_path, tiff(ramp(16, 3)[0], planar=2))


@pytest.mark.parametrize("mode", ["LAB", "CMYK", "YCbCr"])
def test_colour_spaces(tmp_path, mode):
    from PIL import ImageCms

    red = Image.new("RGB", (16, 16), (200, 30, 40))
    if mode == "LAB":
        profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
        converted = ImageCms.profileToProfile(red, *profiles, outputMode="LAB")
    else:
        converted = red.convert(mode)
    path = tmp_path / "a.tif"
    converted.save(path)
    assert np.abs(read_image(path).astype(int) - np.asarray(red)).max() < 6


def test_two_colours_and_four_greys(tmp_path):
    path = tmp_path / "a.tif"
    Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8)).convert("1").save(path, tiffinfo={262: 0})
    one = read_image(path)[..., 0]
    assert sorted(np.unique(one)) == [0, 255]
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 1, 2, 3]], np.uint8), "P").save(path, bits=2)
    assert read_image(path).shape == (1, 4, 3)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_large_images_are_converted_in_bands(tmp_path, monkeypatch, mode):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 23, 4), np.uint8), "RGBA")
    path = tmp_path / "a.tif"
    (noise if mode == "RGBA" else noise.convert("RGB")).convert(mode).save(path)
    whole = read_image(path)
    monkeypatch.setattr(pixel_formats, "MAX_BAND", 5 * 23 + 3)
    np.testing.assert_array_equal(read_image(path), whole)
