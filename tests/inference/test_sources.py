import threading

import numpy as np
import pytest
from PIL import Image

from yolo9k.errors import DataError
from yolo9k.inference.sources import find_images, read_ahead


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


def test_reading_ahead_keeps_the_order(folder):
    images = [np.full((1, 1, 3), n, np.uint8) for n in range(50)]
    assert list(read_ahead(images, lambda image: int(image[0, 0, 0]), ahead=7)) == list(range(50))
    assert list(read_ahead([], lambda image: image, ahead=7)) == []
    assert [image.shape for image in read_ahead([folder / "b.png"], lambda image: image, 1)] == [(4, 4, 3)]


def test_at_most_ahead_images_are_read():
    consumed, lock = [], threading.Lock()

    def source():
        for n in range(100):
            with lock:
                consumed.append(n)
            yield np.zeros((1, 1, 3), np.uint8)

    stream = read_ahead(source(), lambda image: image, ahead=5)
    next(stream)
    assert len(consumed) == 6
    stream.close()


def test_an_error_is_yielded_in_order(folder):
    stream = read_ahead([folder / "b.png", folder / "notes.txt"], lambda image: image, ahead=9)
    assert next(stream).shape == (4, 4, 3)
    error = next(stream)
    assert isinstance(error, DataError)
    assert "notes.txt: not a readable image" in str(error)
