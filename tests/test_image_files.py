"""Which files are opened as images: formats, kinds of files, sizes, broken content."""

import io
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import yolo9k.images as module
from yolo9k import image_formats
from yolo9k.errors import ConfigError, DataError
from yolo9k.image_formats import FORMATS, describe_skipped, is_image_file, is_image_name, readable_formats
from yolo9k.images import (
    MAX_PIXELS_VARIABLE,
    FilePart,
    PixelBudget,
    allow_pixels,
    max_pixels,
    read_bytes,
    read_image,
    read_size_wh,
)

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # pytest undoes the filter of the module
READS = pytest.mark.parametrize("read", [read_image, read_size_wh])
SAVED = {  # format of Pillow by suffix
    ".jpg": "JPEG", ".jfif": "JPEG", ".mpo": "MPO", ".jp2": "JPEG2000", ".j2k": "JPEG2000", ".png": "PNG",
    ".apng": "PNG", ".bmp": "BMP", ".dib": "DIB", ".gif": "GIF", ".webp": "WEBP", ".tif": "TIFF", ".ppm": "PPM",
    ".pnm": "PPM", ".tga": "TGA", ".avif": "AVIF",
}  # fmt: skip


def quarters(size_wh=(64, 32)):
    """An image whose four quarters differ: it shows how it is turned, even after lossy compression."""
    image = Image.new("RGB", size_wh, (230, 40, 40))
    w, h = size_wh[0] // 2, size_wh[1] // 2
    image.paste((40, 200, 40), (w, 0, 2 * w, h))
    image.paste((40, 40, 220), (0, h, w, 2 * h))
    image.paste((240, 240, 240), (w, h, 2 * w, 2 * h))
    return image


# --- formats


@pytest.mark.parametrize("suffix", SAVED)
def test_each_format_is_listed_and_read(tmp_path, suffix):
    if SAVED[suffix] not in {*readable_formats(), "MPO"}:
        pytest.skip("not in this Pillow")
    path = tmp_path / f"A{suffix.upper()}"
    quarters().save(path, SAVED[suffix])
    assert is_image_file(path)
    assert np.abs(read_image(path).astype(int) - np.asarray(quarters()).astype(int)).mean() < 8
    assert read_size_wh(path) == (64, 32)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".eps", ""])
@READS
def test_postscript_is_never_interpreted(tmp_path, monkeypatch, read, suffix):
    """Pillow starts Ghostscript for it, whatever the suffix."""
    path = tmp_path / f"a{suffix}"
    quarters().save(path, "EPS")

    def started(*arguments, **options):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(os, "system", started)
    part = FilePart(path, 0, path.stat().st_size, f"a{suffix}")
    for source in (path, part):
        with pytest.raises(DataError, match="not a readable image"):
            read(source)


def test_only_raster_formats_are_ever_opened(tmp_path):
    assert not {"EPS", "WMF", "IPTC", "FPX", "MIC", "PSD", "ICNS", "SPIDER", "XPM"} & set(FORMATS)
    icon = tmp_path / "a.jpg"
    quarters((32, 32)).save(icon, "ICO")  # begins like a TGA file
    with pytest.raises(DataError, match="not a readable image"):
        read_image(icon)


def test_names_of_images():
    assert all(is_image_name(name) for name in ("a.JPG", "b.JPE", "c.jfif", "d.mpo", "e.pbm", "f.tga", "[x].png"))
    hidden = ("._a.jpg", ".jpg", "a.txt", "jpg", "a.jpg.txt", "Thumbs.db")
    assert not any(is_image_name(name) for name in hidden)


def test_images_of_other_formats_are_counted(monkeypatch):
    monkeypatch.setattr(image_formats, "find_spec", lambda name: None)
    caches = (image_formats.readable_formats, image_formats.readable_suffixes, image_formats.unreadable_suffixes)
    for cached in caches:
        cached.cache_clear()
    names = ["a.heic", "b.HEIC", "c.nef", "d.psd", "e.psd", "._f.psd", "g.txt", "h.jpg"]
    assert describe_skipped(names) == [
        "1 .nef and 2 .psd files were skipped: convert them to JPEG, PNG or TIFF",
        "2 .heic files were skipped: install pillow-heif",
    ]
    assert describe_skipped(["a.svg", "b.psd", "c.eps"]) == [
        "1 .eps, 1 .psd and 1 .svg files were skipped: convert them to JPEG, PNG or TIFF"
    ]
    assert describe_skipped(["a.svg"]) == ["1 .svg file was skipped: convert them to JPEG, PNG or TIFF"]
    assert describe_skipped(["a.jpg", "b.txt"]) == []
    assert not is_image_name("a.heic")
    for cached in caches:
        cached.cache_clear()


@READS
def test_an_unreadable_format_says_what_helps(tmp_path, read):
    path = tmp_path / "a.nef"
    path.write_bytes(b"raw" * 100)
    with pytest.raises(DataError, match=r"a\.nef: not a readable image; convert them to JPEG, PNG or TIFF$"):
        read(path)


# --- only regular files are opened


@READS
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, read):
    fifo, folder, unix = tmp_path / "fifo.jpg", tmp_path / "folder.jpg", tmp_path / "s.jpg"
    os.mkfifo(fifo)
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(unix))
        places = {fifo: "a named pipe", folder: "a folder", unix: "a socket", "/dev/zero": "a device"}
        for place, kind in places.items():
            with pytest.raises(DataError, match=f"{place}: is {kind}; a file is needed"):
                read(place)
    with pytest.raises(DataError, match="is a named pipe"):
        read(FilePart(fifo, 0, 10, "a.png"))
    with pytest.raises(DataError, match="is a named pipe"):
        read_bytes(fifo)


@pytest.mark.parametrize("name", ["a" * 300 + ".jpg", "a\0.jpg", "\ud800.jpg", "x/" * 3000])
@READS
def test_impossible_names(read, name):
    with pytest.raises(DataError, match=r"cannot be read|no such image"):
        read(name)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.gif", "a.webp", "a.bmp", "a.tga", "a.jp2", "a.ppm"])
def test_damaged_files_are_one_error_or_an_image(tmp_path, name):
    path = tmp_path / name
    quarters().save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(7)
    for _ in range(150):
        content = bytearray(whole)
        for place in rng.integers(0, min(len(content), 200), 3):
            content[place] = rng.integers(256)
        path.write_bytes(content[: rng.integers(1, len(content) + 1)])
        for read in (read_image, read_size_wh):
            try:
                read(path)
            except DataError as error:
                assert str(error).startswith(f"{path}: ")  # noqa: PT017


# --- orientation


def encoded(image, kind, orientation):
    exif = Image.Exif()
    if orientation in range(1, 9) or (orientation is not None and kind not in ("TIFF lzw", "TIFF jpeg")):  # of libtiff
        exif[0x0112] = orientation
    options = {
        "JPEG": {"quality": 95}, "MPO": {"quality": 95, "save_all": True, "append_images": [quarters((16, 48))]},
        "PNG": {}, "WEBP": {"lossless": True}, "AVIF": {"quality": 95}, "TIFF": {},
        "TIFF lzw": {"compression": "tiff_lzw"}, "TIFF jpeg": {"compression": "jpeg", "quality": 95},
        "TIFF pages": {"save_all": True, "append_images": [quarters((16, 48))]},
    }[kind]  # fmt: skip
    file = io.BytesIO()
    image.save(file, kind.split()[0], **({"exif": exif} if len(exif) else {}), **options)
    return file.getvalue()


BACKWARDS = {  # what a camera held that way has written
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE",
    8: "ROTATE_270",
}  # fmt: skip
KINDS = ["JPEG", "MPO", "PNG", "WEBP", "AVIF", "TIFF", "TIFF lzw", "TIFF jpeg", "TIFF pages"]
MODES = {"PNG": ["RGB", "L", "P", "RGBA", "I;16", "1"], "TIFF": ["RGB", "L", "P", "I;16", "F", "1", "CMYK"]}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(KINDS), orientation=st.sampled_from([*range(1, 9), 0, 9, 65535, None]))
def test_each_orientation_is_applied_once(tmp_path, data, kind, orientation):
    if kind.split()[0] not in {*readable_formats(), "MPO"}:
        return
    width, height = (32 * data.draw(st.integers(1, 3)) for _ in range(2))
    mode = data.draw(st.sampled_from(MODES.get(kind, ["RGB"])))
    upright = quarters((width, height))
    if mode == "I;16":
        upright = Image.fromarray(np.asarray(upright.convert("L")).astype(np.uint16) << 8)
    elif mode != "RGB":
        upright = upright.convert(mode, palette=Image.Palette.ADAPTIVE)
    turn = BACKWARDS.get(orientation)
    written = upright.transpose(getattr(Image.Transpose, turn)) if turn else upright
    path = tmp_path / "a.img"
    path.write_bytes(encoded(written, kind, orientation))
    expected = np.asarray(quarters((width, height)) if mode in ("CMYK", "P") else upright.convert("RGB"))
    if mode in ("I;16", "F"):
        expected = np.repeat(np.asarray(quarters((width, height)).convert("L"))[..., None], 3, axis=2)
    image = read_image(path)
    assert image.shape == (height, width, 3)
    assert np.abs(image.astype(int) - expected).mean() < 8
    assert read_size_wh(path) == (width, height)
    content = path.read_bytes()
    part = FilePart(path, 0, len(content), "a.img")
    assert read_size_wh(part) == (width, height)
    np.testing.assert_array_equal(read_image(part), image)


def chunk(kind, content):
    import zlib

    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", ["eXIf", "text"])
def test_orientation_of_a_png_before_and_after_its_pixels(tmp_path, place, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    if kind == "eXIf":
        added = chunk(b"eXIf", block.removeprefix(b"Exif\0\0"))
    else:  # as ImageMagick wrote it
        added = chunk(b"tEXt", b"Raw profile type exif\0" + f"\nexif\n{len(block):8}\n{block.hex()}\n".encode())
    plain = encoded(quarters((64, 32)).transpose(Image.Transpose.ROTATE_90), "PNG", None)
    cut = plain.index(b"IDAT") - 4 if place == "before" else plain.index(b"IEND") - 4
    path = tmp_path / "a.png"
    path.write_bytes(plain[:cut] + added + plain[cut:])
    assert read_size_wh(path) == (64, 32)
    np.testing.assert_array_equal(read_image(path), np.asarray(quarters()))


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\1\x12\0\3"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_turns_nothing(tmp_path, exif, kind):
    path = tmp_path / "a.img"
    quarters().save(path, kind, exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module=r"PIL\b")
        assert read_size_wh(path) == (64, 32)
        assert read_image(path).shape == (32, 64, 3)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_several_frames_the_first_is_read(tmp_path, kind):
    path = tmp_path / "a.img"
    other = Image.new("RGB", (64, 32), (0, 0, 0))
    quarters().save(path, kind, save_all=True, append_images=[other])
    assert np.abs(read_image(path).astype(int) - np.asarray(quarters()).astype(int)).mean() < 8


# --- sizes


def wide_png(tmp_path, width, height):
    """A PNG file of one bit a pixel."""
    path = tmp_path / "wide.png"
    Image.new("1", (width, height)).save(path)
    return path


@READS
def test_the_limit_of_pixels(tmp_path, monkeypatch, read):
    path = wide_png(tmp_path, 100, 81)
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "8_000")
    message = r"wide\.png: has 8,100 pixels, at most 8,000 are allowed; allow more with --max-pixels or YOLO9K_MAX_PIX"
    with pytest.raises(DataError, match=message):
        read(path)
    allow_pixels(8100)
    read(path)


def test_the_default_limit_is_179_megapixels(tmp_path, monkeypatch):
    monkeypatch.delenv(MAX_PIXELS_VARIABLE, raising=False)
    assert round(max_pixels() / 1e6) == 179
    with pytest.raises(DataError, match=r"has 182,000,000 pixels, at most 178,956,970"):
        read_size_wh(wide_png(tmp_path, 14_000, 13_000))


@pytest.mark.parametrize("value", ["0", "-5", "many", "1e9", "__", "9" * 400])
def test_a_limit_that_is_no_number(monkeypatch, value):
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, value)
    with pytest.raises(ConfigError, match=r"YOLO9K_MAX_PIXELS: .* is not a number of pixels"):
        max_pixels()


def test_no_warning_of_pillow_is_shown(tmp_path):
    path = wide_png(tmp_path, 10_000, 9_500)
    code = f"from yolo9k.images import read_size_wh; print(read_size_wh({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("(10000, 9500)\n", "")


def test_what_is_wrong_with_a_tiff_is_said_once(tmp_path, capfd):
    """By the error, not also by libtiff on standard error."""
    path = tmp_path / "a.tif"
    quarters().save(path, compression="jpeg")
    whole = path.read_bytes()
    for cut in (12, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            read_image(path)
    assert capfd.readouterr() == ("", "")


def test_a_budget_of_pixels_is_kept():
    budget, lock, held, most = PixelBudget(10), threading.Lock(), [0], [0]

    def work(pixels):
        with budget.holding(pixels):
            with lock:
                held[0] += pixels
                most[0] = max(most[0], held[0])
            time.sleep(0.002)
            with lock:
                held[0] -= pixels

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in (4, 5, 6, 3, 25, 2, 7, 4) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert most[0] == 25  # the one above the limit, alone
    assert held[0] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_does_not_wait_for_threads_that_it_does_not_have(tmp_path):
    path = wide_png(tmp_path, 8, 8)
    with module.IN_FLIGHT.holding(module.MAX_PIXELS_IN_FLIGHT):
        child = os.fork()
        if not child:
            os._exit(0 if read_image(path).shape == (8, 8, 3) else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_files_of_more_bytes_than_any_allowed_image_are_not_copied(tmp_path, monkeypatch):
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "100")
    path = tmp_path / "a.png"
    path.write_bytes(bytes(800))
    assert len(read_bytes(path)) == 800
    for source in (path, FilePart(path, 0, 801, "b.png")):
        path.write_bytes(bytes(801))
        with pytest.raises(
            DataError, match=r"has 801 bytes, at most 800 are allowed \(8 for each of 100 pixels\); allow"
        ):
            read_bytes(source)
