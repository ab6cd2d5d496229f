"""Class folders: listing, memory, and when the index cache is valid."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from yolo9k.datasets.readers import image_folder as folder
from yolo9k.datasets.readers.image_folder import ImageFolderIndex, list_images, read_folders, scan_images
from yolo9k.datasets.readers.records import SplitRequest
from yolo9k.errors import DataError

LONG_AGO = 1_000_000_000  # seconds: a modification time that a new change cannot have


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO9K_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "folders"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "images"


def add(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def age(root: Path) -> None:
    """Set all modification times to long ago."""
    for path in [*root.rglob("*"), root]:
        os.utime(path, (LONG_AGO, LONG_AGO))


def paths(files: ImageFolderIndex, root: Path) -> list[tuple[str, int]]:
    return [(files[i].source.relative_to(root.resolve()).as_posix(), files[i].image_label) for i in range(len(files))]


def select(root: Path, *entries: str, labels=(), others=()) -> SplitRequest:
    return SplitRequest(root, entries or (".",), labels, (*(entries or (".",)), *others))


def test_images_of_class_folders_at_any_depth(root):
    add(
        root,
        "b/2.jpg",
        "b/1.JPEG",
        "a/x/y/3.png",
        "a/0.jpg",
        "a/notes.txt",
        "a/.4.jpg",
        ".git/5.jpg",
        "__MACOSX/6.jpg",
        "@eaDir/7.jpg",
    )
    read = read_folders(select(root))
    assert read.classes == ("a", "b")
    files = ImageFolderIndex(read.listings, {"a": 7, "b": 3})
    assert paths(files, root) == [("a/0.jpg", 7), ("a/x/y/3.png", 7), ("b/1.JPEG", 3), ("b/2.jpg", 3)]
    assert files.counts(9).tolist() == [0, 0, 0, 2, 0, 0, 0, 2, 0]
    assert len(files[0].boxes) == 0
    for outside in (-1, 4):
        with pytest.raises(IndexError):
            files[outside]


def test_names_with_any_bytes(root):
    odd = os.fsdecode(b"\xff\xfe.jpg")
    try:
        add(root, f"a/{odd}")
    except OSError:
        pytest.skip("this file system has names of Unicode only")
    add(root, "a/ä b.jpg", "ö/1.jpg")
    for _ in range(2):  # by a scan, then from the index cache
        files = ImageFolderIndex(read_folders(select(root)).listings, {"a": 0, "ö": 1})
        assert {Path(path).name for path, _ in paths(files, root)} == {odd, "ä b.jpg", "1.jpg"}
        age(root)


def test_several_entries_are_one_sequence(root):
    add(root, "one/a/1.jpg", "two/b/1.jpg", "two/a/1.jpg", "val/c/1.jpg")
    read = read_folders(select(root, "two", "one", others=("val",)))
    assert read.classes == ("a", "b", "c")  # of all splits, so that label indices are the same
    files = ImageFolderIndex(read.listings, {"a": 0, "b": 1, "c": 2})
    assert paths(files, root) == [("two/a/1.jpg", 0), ("two/b/1.jpg", 1), ("one/a/1.jpg", 0)]
    assert files.counts(3).tolist() == [2, 1, 0]


def test_excluded_classes_and_images(root):
    add(root, "a/1.jpg", "b/1.jpg", "c/1.jpg", "c/2.jpg")
    files = ImageFolderIndex(read_folders(select(root)).listings, {"a": 0, "c": 1})
    assert [path for path, _ in paths(files, root)] == ["a/1.jpg", "c/1.jpg", "c/2.jpg"]
    files.filter(root.resolve(), lambda name: name != "c/1.jpg")
    assert [path for path, _ in paths(files, root)] == ["a/1.jpg", "c/2.jpg"]
    assert files.counts(2).tolist() == [1, 1]


def test_folders_and_images_without_a_class_are_errors(root):
    add(root, "a/1.jpg", "b/1.jpg", "stray.jpg", "other.jpg")
    read = read_folders(select(root, labels=("b", "z")))
    assert read.classes == ("b", "z")
    assert [(d.kind, d.message) for d in read.errors] == [
        ("unknown class", "'a' is not one of the class names"),
        ("no class", "2 images are not in a class folder; first: other.jpg"),
    ]


def test_links_back_are_not_followed(root):
    add(root, "a/b/1.jpg")
    try:
        (root / "a" / "b" / "up").symlink_to(root / "a", target_is_directory=True)
    except OSError:
        pytest.skip("links are not allowed here")
    (root / "c").symlink_to(root / "a" / "b", target_is_directory=True)
    found = scan_images(root)
    assert found.folders == ("a", "a/b", "c", "c/up")
    assert len(found) == 2


def test_missing_folders(root):
    add(root, "a/1.jpg")
    with pytest.raises(DataError, match="nowhere: no such folder of class folders"):
        read_folders(select(root, "nowhere"))
    with pytest.raises(DataError, match=r"gone: cannot be read: "):
        scan_images(root / "gone")


def test_images_in_formats_that_cannot_be_read_are_counted(root, caplog):
    add(root, "a/1.jpg", "a/2.cr2", "a/deep/3.CR2", "b/4.jpg", "b/5.psd", "b/.6.psd", "b/7.txt", "8.psd")
    age(root)
    for _ in range(2):  # listed, and from the index cache
        read_folders(select(root, "."))
        assert "2 .cr2 and 2 .psd files were skipped: convert them" in caplog.text
        caplog.clear()


# --- the index cache


def listed(root: Path, monkeypatch) -> tuple[int, bool]:
    """Return the image count and whether the folders were scanned."""
    scans = []
    scan = folder.scan_images
    monkeypatch.setattr(folder, "scan_images", lambda *args: scans.append(args) or scan(*args))
    found = list_images(root)
    monkeypatch.setattr(folder, "scan_images", scan)
    again = scan_images(root.resolve())
    assert found.folders == again.folders
    for name in ("changed_ns", "names", "ends", "folder"):
        np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
    return len(found), bool(scans)


def test_the_index_cache_is_valid_while_no_folder_changes(root, monkeypatch):
    add(root, "a/1.jpg", "a/deep/2.jpg", "b/3.jpg")
    age(root)
    assert listed(root, monkeypatch) == (3, True)
    assert listed(root, monkeypatch) == (3, False)
    for change, count in (("a/deep/4.jpg", 4), ("a/5.jpg", 5), ("c/6.jpg", 6)):
        add(root, change)
        age((root / change).parent)
        os.utime((root / change).parent, (LONG_AGO + count, LONG_AGO + count))
        os.utime(root, (LONG_AGO + count, LONG_AGO + count))
        assert listed(root, monkeypatch) == (count, True), change
        assert listed(root, monkeypatch) == (count, False), change
    (root / "a" / "1.jpg").unlink()
    assert listed(root, monkeypatch)[0] == 5


def test_the_index_cache_is_outdated_when_more_formats_can_be_read(root, monkeypatch):
    add(root, "a/1.jpg", "a/2.heic")
    age(root)
    assert listed(root, monkeypatch) == (1, True)
    monkeypatch.setattr(folder, "readable_suffixes", lambda: (".jpg", ".heic"))
    assert listed(root, monkeypatch) == (1, True)


def test_recent_changes_are_not_cached(root, monkeypatch, cache):
    add(root, "a/1.jpg")
    assert listed(root, monkeypatch) == (1, True)
    assert not cache.exists()


def test_each_root_has_its_own_cache(root, tmp_path, monkeypatch):
    add(root, "a/1.jpg")
    add(tmp_path / "other", "a/1.jpg", "a/2.jpg")
    for each in (root, tmp_path / "other"):
        age(each)
    assert listed(root, monkeypatch) == (1, True)
    assert listed(tmp_path / "other", monkeypatch) == (2, True)
    assert listed(root, monkeypatch) == (1, False)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "flipped", "pickled", "other arrays", "too short"])
def test_a_broken_cache_is_rebuilt(root, monkeypatch, cache, damage):
    add(root, "a/1.jpg", "b/22.jpg")
    age(root)
    listed(root, monkeypatch)
    (path,) = cache.iterdir()
    content = path.read_bytes()
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not a list")
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = content.index(b"jpg")
        path.write_bytes(content[:middle] + b"JPG" + content[middle + 3 :])
    else:
        with np.load(path) as stored:
            arrays = dict(stored)
        if damage == "pickled":
            arrays["names"] = np.array([print, "x"], dtype=object)
        elif damage == "other arrays":
            arrays = {"version": arrays["version"]}
        else:
            arrays["ends"] = arrays["ends"][:1]
        np.savez(path, **arrays)
    assert listed(root, monkeypatch) == (2, True)
    assert listed(root, monkeypatch) == (2, False)


def test_a_cache_that_cannot_be_written_is_only_logged(root, monkeypatch, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    add(root, "a/1.jpg")
    age(root)
    assert listed(root, monkeypatch) == (1, True)
    assert "the index cache cannot be written" in caplog.text


def test_many_files_need_little_memory(root):
    """Fifty thousand files need no object each, and each can be accessed."""
    per_folder, folders = 500, 100
    for number in range(folders):
        folder = root / f"n{number:08d}"
        folder.mkdir(parents=True)
        for i in range(per_folder):
            os.close(os.open(folder / f"n{number:08d}_{i}.JPEG", os.O_CREAT | os.O_WRONLY))
    age(root)
    tracemalloc.start()
    read = read_folders(select(root))
    files = ImageFolderIndex(read.listings, {name: i for i, name in enumerate(read.classes)})
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(files) == per_folder * folders
    assert held / len(files) < 40  # bytes: the name and two integers
    assert read.listings[0].nbytes / len(files) < 30
    order = sorted(f"n00000041_{i}.JPEG" for i in range(per_folder))
    for i in (0, 7, per_folder - 1):
        found = files[41 * per_folder + i]
        assert (found.source.parent.name, found.source.name, found.image_label) == ("n00000041", order[i], 41)
    assert files.counts(folders).tolist() == [per_folder] * folders
    again = ImageFolderIndex(read_folders(select(root)).listings, {name: i for i, name in enumerate(read.classes)})
    assert again[12_345] == files[12_345]
