import os
import threading

import numpy as np
import pytest
from PIL import Image

from yolo9k.errors import DataError
from yolo9k.inference.sources import find_images, read_ahead


def same(image, _):
    """Prepares nothing."""
    return image


def whole(_):
    """All pixels are needed."""


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.JPG", "deep/c.png", "deep/er/d.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".hidden.png").write_text("x")
    return tmp_path


def names(folder, *sources):
    return [path.relative_to(folder).as_posix() for path in find_images([str(source) for source in sources])]


def test_folders_files_and_patterns(folder):
    everything = ["a.JPG", "b.png", "deep/c.png", "deep/er/d.png"]
    assert names(folder, folder) == everything
    assert names(folder, folder / "b.png", folder / "a.JPG") == ["b.png", "a.JPG"]
    assert names(folder, folder / "*.png") == ["b.png"]
    assert names(folder, folder / "*" / "c.png") == ["deep/c.png"]
    assert names(folder, folder / "**" / "*.png") == ["b.png", "deep/c.png", "deep/er/d.png"]
    assert names(folder, folder / "b.png", folder) == ["b.png", "a.JPG", "deep/c.png", "deep/er/d.png"]  # once each


def test_relative_patterns(folder, monkeypatch):
    monkeypatch.chdir(folder / "deep")
    assert [str(path) for path in find_images(["*.png"])] == ["c.png"]
    assert [path.name for path in find_images(["../*.png"])] == ["b.png"]


def test_a_file_may_have_any_suffix(folder):
    assert names(folder, folder / "notes.txt") == ["notes.txt"]  # reading it raises the error


def test_an_existing_file_with_brackets_is_no_pattern(folder):
    (folder / "b[1].png").write_bytes((folder / "b.png").read_bytes())
    assert names(folder, folder / "b[1].png") == ["b[1].png"]


def test_file_urls(folder):
    odd = folder / "a%20b c.png"
    odd.write_bytes((folder / "b.png").read_bytes())
    assert names(folder, odd.as_uri()) == ["a%20b c.png"]
    assert names(folder, (folder / "b.png").as_uri().replace("file://", "file://localhost")) == ["b.png"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{}/missing.png", "missing.png: no such image or folder"),
        ("{}/*.gif", r"\*.gif: no image matches this pattern"),
        ("{}/empty", "empty: no images in this folder"),
        ("http://host/a.png", "http://host/a.png: URLs are not supported"),
        ("https://host/a.png", "download the image first"),
        ("file://host/a.png", "a file: URL must not name another host"),
    ],
)
def test_sources_without_images(folder, source, message):
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        find_images([source.format(folder)])


# --- hidden and foreign files, odd names, what is no file


def test_hidden_and_foreign_files_are_not_listed_but_read_when_named(folder):
    names_of_strangers = (".ipynb_checkpoints", ".thumbs", "@eaDir", "__MACOSX", ".Trash", "deep/.hidden", "lost+found")
    image = (folder / "b.png").read_bytes()
    for stranger in names_of_strangers:
        (folder / stranger).mkdir()
        (folder / stranger / "x.png").write_bytes(image)
    (folder / "deep" / "._c.png").write_bytes(image)
    (folder / "Thumbs.db").write_bytes(image)
    everything = ["a.JPG", "b.png", "deep/c.png", "deep/er/d.png"]
    assert names(folder, folder) == everything
    assert names(folder, folder / "**" / "*.*") == everything
    assert names(folder, folder / "*" / "*.png") == ["deep/c.png"]
    for stranger in names_of_strangers:
        assert names(folder, folder / stranger) == [f"{stranger}/x.png"]
        assert names(folder, folder / stranger / "*") == [f"{stranger}/x.png"]
        assert names(folder, folder / stranger / "x.png") == [f"{stranger}/x.png"]
    assert names(folder, folder / "deep" / "._c.png", folder / "deep" / ".*.png") == ["deep/._c.png"]
    assert names(folder, folder / "deep" / ".h*" / "*") == ["deep/.hidden/x.png"]


@pytest.mark.parametrize("name", ["a[1]", "a*b", "what?", "[!x]", "**", "~user", "a[b"])
def test_names_with_wildcards_are_taken_as_they_are(folder, monkeypatch, name):
    image = (folder / "b.png").read_bytes()
    (folder / f"{name}.png").write_bytes(image)
    (folder / name).mkdir()
    (folder / name / "x.png").write_bytes(image)
    (folder / name / f"y{name}.png").write_bytes(image)
    assert names(folder, folder / f"{name}.png") == [f"{name}.png"]
    assert names(folder, folder / name) == [f"{name}/x.png", f"{name}/y{name}.png"]
    assert names(folder, folder / name / f"y{name}.png") == [f"{name}/y{name}.png"]
    if name != "**":
        assert names(folder, folder / name / "x*.png") == [f"{name}/x.png"]
    monkeypatch.chdir(folder)
    assert [str(path) for path in find_images([f"{name}.png"])] == [f"{name}.png"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{}/" + "x" * 300, "cannot be read: File name too long"),
        ("{}/" + "*" * 300, "cannot be read: File name too long"),
        ("{}/a\0.png", "cannot be read: .*null byte"),
        ("\ud800.png", "cannot be read: .*surrogates not allowed"),
        ("~nosuchuserhere/a.png", "~nosuchuserhere/a.png: "),
        ("http://[", r"http://\[: URLs are not supported"),
        ("file://[", r"file://\[: cannot be read: "),
        ("s3://bucket/a.png", "URLs are not supported"),
        ("", "no images in this folder"),
    ],
)
def test_texts_that_are_no_paths(folder, monkeypatch, source, message):
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder / "empty")
    with pytest.raises(DataError, match=message):
        find_images([source.replace("{}", str(folder))])


def test_what_is_no_file_is_refused_at_once(folder):
    os.mkfifo(folder / "fifo.png")
    for source, message in ((folder / "fifo.png", "is a named pipe"), ("/dev/zero", "is a device")):
        with pytest.raises(DataError, match=message):
            find_images([str(source)])
    stream = read_ahead(find_images([str(folder)]), same, whole, ahead=9)  # of a folder, one image of many
    errors = [str(item) for item in stream if isinstance(item, DataError)]
    assert errors == [f"{folder}/fifo.png: is a named pipe; a file is needed"]


@pytest.mark.parametrize("source", ["/", "//", "/.", "/tmp/..", "file:///", "/**/*.jpg", "/*/**/*.jpg", "/tmp/../**"])
def test_the_root_is_not_searched(source):
    with pytest.raises(DataError, match=r": the root of the file system is not searched for images; name a folder in"):
        find_images([source])


def test_links_are_followed_once(folder):
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "root").symlink_to("/")
    (folder / "circle").symlink_to(folder / "circle")
    for level in range(25):  # two links each: 2 to the power of 25 ways
        at = folder / "z" / str(level)
        at.mkdir(parents=True)
        for name in ("x", "y"):
            (at / name).symlink_to(folder / "z" / str(level + 1))
    assert names(folder, folder) == ["a.JPG", "b.png", "deep/c.png", "deep/er/d.png"]


def test_what_a_listing_skips_is_said(folder):
    for name in ("a.psd", "b.PSD", "deep/c.svg", "notes.doc"):
        (folder / name).write_text("x")
    said = []
    find_images([str(folder), str(folder / "*.psd*"), str(folder)][::2], on_skipped=said.append)
    assert said == ["2 .psd and 1 .svg files were skipped: convert them to JPEG, PNG or TIFF"]
    with pytest.raises(DataError, match=r"no image matches this pattern; 1 .psd file was skipped: convert"):
        find_images([str(folder / "*.psd")])


def test_unreadable_folders(folder, monkeypatch):
    """Whoever runs the tests may read all folders, so the system's answer is imitated."""
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("er"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    said = []
    found = find_images([str(folder)], on_skipped=said.append)
    assert [path.name for path in found] == ["a.JPG", "b.png", "c.png"]
    assert said == [f"1 unreadable folder skipped; first: {folder}/deep/er: Permission denied"]
    with pytest.raises(DataError, match="deep/er: cannot be read: Permission denied"):
        find_images([str(folder / "deep" / "er")])


def test_large_images_are_read_one_by_one(folder, monkeypatch):
    """Threads together hold at most a limit of pixels."""
    from yolo9k import images as module

    held, lock = [0], threading.Lock()
    most = [0]
    monkeypatch.setattr(module, "IN_FLIGHT", module.PixelBudget(20))

    def prepare(image, _):
        with lock:
            held[0] += image.size // 3
            most[0] = max(most[0], held[0])
        threading.Event().wait(0.003)
        with lock:
            held[0] -= image.size // 3

    list(read_ahead([folder / "b.png"] * 12, prepare, whole, ahead=12))
    assert most[0] == 16


def test_reading_ahead_keeps_the_order(folder):
    images = [np.full((1, 1, 3), n, np.uint8) for n in range(50)]
    assert list(read_ahead(images, lambda image, _: int(image[0, 0, 0]), whole, ahead=7)) == list(range(50))
    assert list(read_ahead([], same, whole, ahead=7)) == []
    assert [image.shape for image in read_ahead([folder / "b.png"], same, whole, 1)] == [(4, 4, 3)]


def test_at_most_ahead_images_are_read():
    consumed, lock = [], threading.Lock()

    def source():
        for n in range(100):
            with lock:
                consumed.append(n)
            yield np.zeros((1, 1, 3), np.uint8)

    stream = read_ahead(source(), same, whole, ahead=5)
    next(stream)
    assert len(consumed) == 6
    stream.close()


def test_an_error_is_yielded_in_order(folder):
    stream = read_ahead([folder / "b.png", folder / "notes.txt"], same, whole, ahead=9)
    assert next(stream).shape == (4, 4, 3)
    error = next(stream)
    assert isinstance(error, DataError)
    assert "notes.txt: not a readable image" in str(error)
