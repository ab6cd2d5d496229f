import io
import re
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from yolo9k.config import load_dataset_config
from yolo9k.datasets.tools import download as downloading
from yolo9k.datasets.tools.download import ARCHIVES, Archive, download, unpack
from yolo9k.errors import WeightsError
from yolo9k.fetch import Remote, sole_download


def pack_tar(path: Path, names: dict[str, bytes], special: tarfile.TarInfo | None = None) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in names.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        if special:
            tar.addfile(special)
    return path


def pack_zip(path: Path, names: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in names.items():
            packed.writestr(name, content)
    return path


@pytest.mark.parametrize("pack", [pack_tar, pack_zip])
def test_unpack(tmp_path, pack):
    archive = pack(tmp_path / "a", {"x/1.txt": b"one", "x/y/2.txt": b"two"})
    (tmp_path / "out" / "x").mkdir(parents=True)
    (tmp_path / "out" / "x" / "1.txt").write_text("o")  # truncated by an earlier interruption
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "x" / "1.txt").read_bytes() == b"one"
    assert (tmp_path / "out" / "x" / "y" / "2.txt").read_bytes() == b"two"


@pytest.mark.parametrize("pack", [pack_tar, pack_zip])
@pytest.mark.parametrize("name", ["../evil.txt", "x/../../evil.txt"])
def test_paths_that_lead_outside(tmp_path, pack, name):
    archive = pack(tmp_path / "a", {name: b"evil"})
    with pytest.raises(WeightsError, match="would be written outside"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "evil.txt").exists()


def test_absolute_paths_lead_outside(tmp_path):
    archive = pack_tar(tmp_path / "a", {str(tmp_path / "evil.txt"): b"evil"})
    with pytest.raises(WeightsError, match="would be written outside"):
        unpack(archive, tmp_path / "out")


def test_links_are_refused(tmp_path):
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    with pytest.raises(WeightsError, match="link is neither a file nor a folder"):
        unpack(pack_tar(tmp_path / "a", {}, link), tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken"])
def test_damaged_archives(tmp_path, content):
    archive = tmp_path / "a"
    archive.write_bytes(content)
    with pytest.raises(WeightsError, match=r"damaged .*; remove it to download it again"):
        unpack(archive, tmp_path / "out")


def test_a_truncated_tar(tmp_path):
    archive = pack_tar(tmp_path / "a", {"x": b"1" * 50_000})
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(WeightsError, match="damaged"):
        unpack(archive, tmp_path / "out")


@pytest.fixture
def small_set(tmp_path, monkeypatch):
    """A data set of one archive; `fetch` creates it locally. Returns the calls of `fetch`."""
    archive = Archive(Remote(("http://host/a.tar",)), "set", "set/x/1.txt")
    monkeypatch.setitem(ARCHIVES, "small", (archive,))
    calls = []

    def fetch(_remote, target, _track):
        calls.append(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target if target.exists() else pack_tar(target, {"x/1.txt": b"one"})

    monkeypatch.setattr(downloading, "fetch", fetch)
    return calls


def test_download_unpacks_and_removes_the_archive(tmp_path, small_set):
    assert download("small", tmp_path) == [tmp_path / "set/x/1.txt"]
    assert (tmp_path / "set/x/1.txt").read_text() == "one"
    assert not (tmp_path / "downloads/a.tar").exists()
    download("small", tmp_path)
    assert len(small_set) == 1  # already unpacked
    assert not any((tmp_path / "downloads").iterdir())


def test_a_data_set_that_another_process_downloads_is_waited_for(tmp_path, small_set):
    """The lock of the whole data set: the archive is unpacked once, and removed once."""
    with sole_download(tmp_path / "downloads/small"):
        waiting = threading.Thread(target=download, args=("small", tmp_path))
        waiting.start()
        waiting.join(0.2)
        assert small_set == []
        (tmp_path / "set/x").mkdir(parents=True)
        (tmp_path / "set/x/1.txt").write_text("one")
    waiting.join()
    assert small_set == []


def test_download_keeps_the_archive_and_repairs_truncated_files(tmp_path, small_set):
    download("small", tmp_path, keep_archives=True)
    (tmp_path / "set/x/1.txt").write_text("")
    download("small", tmp_path, keep_archives=True)
    assert (tmp_path / "set/x/1.txt").read_text() == "one"


@pytest.mark.parametrize("name", ["voc", "coco"])
def test_archives_match_the_dataset_configs(name):
    root = load_dataset_config(name).root
    for archive in ARCHIVES[name]:
        assert archive.contains.startswith(f"{root}/")
        assert re.fullmatch(r"[0-9a-f]{32}", archive.remote.hashes["md5"])
        assert archive.remote.sizes
        assert all(url.startswith("http") for url in archive.remote.urls)


def test_half_of_a_file_does_not_stay(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("whole.txt", "abc")

    def copy(source, target):
        target.write(b"a")
        raise KeyboardInterrupt

    monkeypatch.setattr("yolo9k.datasets.tools.download.shutil.copyfileobj", copy)
    with pytest.raises(KeyboardInterrupt):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
