import errno
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo9k.errors import ConfigError, DataError
from yolo9k.io import (
    OWN_RUN,
    check_regular,
    decode_text,
    is_file,
    is_folder,
    is_hidden,
    read_lines,
    read_text,
    reading,
    replacing,
    subfolders,
    unreachable,
    visible_files,
)


@pytest.mark.parametrize(
    "name",
    [
        ".git",
        "._a.jpg",
        ".ipynb_checkpoints",
        ".Trash-1000",
        "__MACOSX",
        "@eaDir",
        "Thumbs.db",
        "desktop.ini",
        "#recycle",
    ],
)
def test_hidden_and_foreign_names(name):
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["a.jpg", "__background__", "Thumbs", "@home", "trash", "…"])
def test_visible_names(name):
    assert not is_hidden(name)


def test_visible_files_are_sorted_and_links_do_not_lead_back(tmp_path):
    for name in ("b/2.jpg", "a.jpg", ".x/1.jpg", "b/@eaDir/3.jpg", "b/._2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    found = [path.relative_to(tmp_path).as_posix() for path in visible_files(tmp_path)]
    assert found == ["a.jpg", "b/2.jpg", "linked/2.jpg"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")), st.sampled_from(
    ["utf-8", "utf-8-sig", "utf-16", "utf-32"]
))  # fmt: skip
def test_text_is_decoded_by_its_byte_order_mark(text, encoding):
    if encoding == "utf-8" and text.startswith("\ufeff"):
        text = text.lstrip("\ufeff")
    assert decode_text(text.encode(encoding), "a.txt") == text


def test_line_ends_are_one_rule(tmp_path):
    path = tmp_path / "a.names"
    path.write_bytes("cat\r\ndog\rcow\nan\u2028imal\x0c\n".encode())
    assert read_lines(path) == ["cat", "dog", "cow", "an\u2028imal\x0c"]
    assert read_text(path).count("\n") == 4


def test_the_first_byte_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"cat\nM\xfcll\n")
    with pytest.raises(ConfigError, match=r"a.txt: not a text file: byte 5 \(0xfc, line 2\) is not UTF-8; save it as"):
        read_text(path, ConfigError.at)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    (tmp_path / "big").write_bytes(bytes(11))
    for name, message in (("pipe", "is a named pipe"), ("socket", "is a socket"), (".", "is a folder")):
        with pytest.raises(DataError, match=f"{message}; a file is needed"):
            check_regular(tmp_path / name)
        assert not is_file(tmp_path / name)
    with pytest.raises(DataError, match="big: 11 bytes; at most 10 are allowed"):
        check_regular(tmp_path / "big", max_bytes=10)
    server.close()


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "\ud800", "x/" * 3000])
def test_texts_that_cannot_be_a_path(tmp_path, name):
    assert not is_file(tmp_path / name)
    assert not is_folder(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path / name)


def test_why_a_path_cannot_be_reached(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert unreachable(tmp_path / "loop").startswith("cannot be read: Too many levels")
    for name in ("none", "none/x", "a" * 5000, "a\0b"):
        assert unreachable(tmp_path / name) == ""


@pytest.mark.parametrize("mark", ["detect/exp", "train/a/args.yaml", "b/opt.yaml", "exp/environment.json"])
def test_results_of_yolo_tools_are_no_data(tmp_path, mark):
    for name in ("a.jpg", f"runs/{mark}/b.jpg" if "." not in mark else "runs/b.jpg", "deep/runs/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    if "." in mark:
        (tmp_path / "runs" / mark).parent.mkdir(parents=True)
        (tmp_path / "runs" / mark).touch()
    assert list(visible_files(tmp_path)) == [tmp_path / "a.jpg", tmp_path / "deep/runs/c.jpg"]
    assert [path.name for path in subfolders(tmp_path)] == ["deep"]
    assert list(visible_files(tmp_path / "runs"))  # named itself


@pytest.mark.parametrize("folder", ["runs/exp", "out/exp", "exp"])
def test_own_runs_are_no_data_under_any_name(tmp_path, folder):
    for name in ("a/a.jpg", "a/config.yaml", *(f"{folder}/{x}" for x in (*OWN_RUN, "plots/curves.png"))):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(visible_files(tmp_path)) == [tmp_path / "a/a.jpg", tmp_path / "a/config.yaml"]


def test_a_run_that_has_just_begun_is_no_class(tmp_path):
    for folder in ("cat", "runs/exp", "deep/runs"):
        (tmp_path / folder).mkdir(parents=True)
    assert [path.name for path in (*subfolders(tmp_path), *subfolders(tmp_path / "deep"))] == ["cat", "deep"]
    (tmp_path / "runs/exp/.lock").touch()
    assert [path.name for path in subfolders(tmp_path)] == ["cat", "deep"]
    (tmp_path / "runs/a.jpg").touch()
    assert [path.name for path in subfolders(tmp_path)] == ["cat", "deep", "runs"]


def test_an_unreadable_folder_inside_another_is_named(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}/inner: cannot be read: Permission denied"), reading(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", f"{tmp_path}/inner")


def test_a_file_is_synced_before_it_replaces_the_old_one(tmp_path, monkeypatch):
    """Else a power cut leaves an empty file in place of the old one."""
    target, events = tmp_path / "a", []
    target.write_text("old")
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor):
        events.append(("sync", os.fstat(descriptor).st_ino, os.fstat(descriptor).st_size, target.read_text()))
        fsync(descriptor)

    def replaced(path, other):
        events.append(("replace", path.stat().st_ino, Path(other)))
        return replace(path, other)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    with replacing(target) as draft:
        draft.write_text("the new one")
        inode = draft.stat().st_ino
    assert events == [("sync", inode, len("the new one"), "old"), ("replace", inode, target)]
    assert target.read_text() == "the new one"
    assert list(tmp_path.iterdir()) == [target]
