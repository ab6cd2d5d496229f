"""The catalogue of official models: entries, download, cache and verification."""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import platformdirs
import pytest

from yolo9k.darknet import catalogue
from yolo9k.darknet.catalogue import ENTRIES, VOC_NAMES, Entry, File, download, find, is_cached, names, suggest, verify
from yolo9k.errors import MachineError, WeightsError
from yolo9k.fetch import Remote, file_hash

WEIGHTS = bytes(range(256)) * 6_000  # about 1.5 MB: several chunks
SIZES = (len(WEIGHTS), len(WEIGHTS) + 4)
TEXTS = {"a.cfg": b"[net]\n", "a.names": b"cat\ndog\n", "a.tree": b"cat -1\ndog -1\n", "a.map": b"1\n0\n"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Use an empty cache and do not wait between attempts; returns the folder of the weights."""
    monkeypatch.setenv("YOLO9K_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return tmp_path / "cache" / "weights"


@pytest.fixture
def server(file_server):
    file_server.files.update(TEXTS)
    file_server.files["a.weights"] = WEIGHTS
    return file_server


def served(server, *modes: str, **hashes: str) -> Entry:
    """Return a small model whose weights have one URL per mode of the `FileServer`."""

    def text(name: str) -> File:
        digest = hashlib.sha256(TEXTS[name]).hexdigest()
        return File(f"texts/{name}", Remote((server.url(f"plain/{name}"),), (len(TEXTS[name]),), {"sha256": digest}))

    urls = tuple(server.url(f"{mode}/a.weights") for mode in modes)
    return Entry(
        "a", "detector", "small", "", File("a.weights", Remote(urls, SIZES, hashes)), text("a.cfg"),
        names=text("a.names"), tree=text("a.tree"), maps={"coco": text("a.map")},
    )  # fmt: skip


def statuses(entry: Entry) -> list[str]:
    return [check.status for check in verify(entry)]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", names())
def test_an_entry_has_urls_sizes_and_hashes(name):
    entry = ENTRIES[name]
    assert entry.name == name
    assert entry.description
    size, with_long_header = entry.weights.remote.sizes
    assert with_long_header == size + 4
    assert len({file.path for file in entry.files}) == len(entry.files)
    for file in entry.files:
        assert file.content or all(url.startswith("https://") for url in file.remote.urls)
        assert file.content or len(file.remote.urls) >= 2  # mirrors
        for kind, digest in file.remote.hashes.items():
            assert re.fullmatch(rf"[0-9a-f]{{{2 * hashlib.new(kind).digest_size}}}", digest)
    for file in entry.files[1:]:
        assert set(file.remote.hashes) == {"sha256"}
        assert len(file.remote.sizes) == 1


def test_the_first_url_of_weights_is_the_authors():
    assert ENTRIES["darknet19_448.conv.23"].weights.remote.urls == (
        "https://pjreddie.com/media/files/darknet19_448.conv.23",
        "https://data.pjreddie.com/files/darknet19_448.conv.23",
        "https://web.archive.org/web/2024id_/https://pjreddie.com/media/files/darknet19_448.conv.23",
    )


@pytest.mark.parametrize("name", names())
def test_cfgs_match_the_reference_data(name, shared):
    cfg = ENTRIES[name].cfg
    reference = shared("golden", "darknet", "cfg", Path(cfg.path).name)
    assert cfg.remote.sizes == (reference.stat().st_size,)
    assert cfg.remote.hashes == {"sha256": file_hash(reference, "sha256")}


def test_the_tree_and_its_text_files_match_the_reference_data(shared):
    entry = ENTRIES["yolo9000"]
    texts = (*entry.files[2:], ENTRIES["yolov2"].names)
    assert len(texts) == 6
    for text in texts:
        reference = shared("golden", "wordtree", Path(text.path).name)
        assert text.remote.sizes == (reference.stat().st_size,)
        assert text.remote.hashes == {"sha256": file_hash(reference, "sha256")}


def test_voc_has_its_20_names_in_order():
    assert len(VOC_NAMES) == 20
    assert sorted(VOC_NAMES) == list(VOC_NAMES)


def test_find():
    assert find("yolov2") is ENTRIES["yolov2"]
    assert find("yolov2.weights") is ENTRIES["yolov2"]
    assert find("darknet19_448.conv.23") is ENTRIES["darknet19_448.conv.23"]
    assert find("yolov9") is None


def test_suggest():
    assert suggest("yolo-v2-voc.weights") == "did you mean yolov2-voc?"
    assert suggest("resnet") == f"the catalogue has {', '.join(ENTRIES)}"


def test_the_default_cache_is_the_platforms_cache_folder(cache, monkeypatch):
    assert catalogue.weights_folder() == cache
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("YOLO9K_CACHE")
        else:
            monkeypatch.setenv("YOLO9K_CACHE", unset)
        assert catalogue.cache_folder() == Path(platformdirs.user_cache_dir("yolo9k"))


@pytest.mark.parametrize("mode", ["plain", "ranges", "reset", "endless"])
def test_download_fetches_all_files_once(server, cache, mode):
    entry = served(server, mode, sha256=sha256(WEIGHTS))
    assert not is_cached(entry)
    assert set(statuses(entry)) == {"missing"}
    files = download(entry)
    assert files.weights == cache / "a.weights"
    assert files.weights.read_bytes() == WEIGHTS
    assert files.cfg.read_bytes() == TEXTS["a.cfg"]
    assert files.names.read_bytes() == TEXTS["a.names"]
    assert files.tree.read_bytes() == TEXTS["a.tree"]
    assert files.labels is None
    assert {name: path.read_bytes() for name, path in files.maps.items()} == {"coco": TEXTS["a.map"]}
    assert is_cached(entry)
    assert set(statuses(entry)) == {"ok"}
    request_count = len(server.requests)
    assert download(entry) == files
    assert len(server.requests) == request_count


def test_a_reset_connection_is_resumed(server):
    download(served(server, "reset"))
    assert server.requests[:2] == [("/reset/a.weights", None), ("/reset/a.weights", f"bytes={len(WEIGHTS) // 2}-")]


@pytest.mark.parametrize("mode", ["ranges", "plain"])
def test_the_partial_file_of_an_earlier_call_is_resumed(server, cache, mode):
    with pytest.raises(WeightsError, match="connection lost after"):
        download(served(server, "broken"))
    assert (cache / "a.weights.part").read_bytes() == WEIGHTS[: len(WEIGHTS) // 2]
    assert not (cache / "a.weights").exists()
    server.requests.clear()
    assert download(served(server, mode, sha256=sha256(WEIGHTS))).weights.read_bytes() == WEIGHTS
    assert server.requests[0] == (f"/{mode}/a.weights", f"bytes={len(WEIGHTS) // 2}-")


def test_a_header_of_20_bytes_is_accepted(server):
    server.files["a.weights"] = WEIGHTS + b"four"
    entry = served(server, "ranges")
    assert download(entry).weights.stat().st_size == len(WEIGHTS) + 4
    assert statuses(entry)[0] == "size ok, hash unverified"


@pytest.mark.parametrize("length", [len(WEIGHTS) - 4, len(WEIGHTS) + 2, len(WEIGHTS) + 8])
def test_other_sizes_are_refused(server, cache, length):
    server.files["a.weights"] = (WEIGHTS + bytes(8))[:length]
    sizes = f"must be {len(WEIGHTS)} or {len(WEIGHTS) + 4}"
    with pytest.raises(WeightsError, match=f"{length} bytes.*{sizes}"):
        download(served(server, "ranges"))
    assert not list(cache.glob("a.weights*"))


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("html", "an HTML page"),
        ("disguised", "an HTML page"),
        ("half", f"{len(WEIGHTS) // 2} bytes; must be"),
        ("missing", "HTTP 404"),
        ("busy", "HTTP 503"),
    ],
)
def test_a_bad_url_is_skipped_for_the_next_one(server, cache, mode, message):
    with pytest.raises(
        WeightsError, match=rf"{mode}/a.weights \({message}.*by hand to {cache / 'a.weights'}"
    ) as caught:
        download(served(server, mode, mode))
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("*"))
    assert download(served(server, mode, "ranges")).weights.read_bytes() == WEIGHTS


def test_a_wrong_hash_is_refused(server, cache):
    with pytest.raises(WeightsError, match=f"its md5 is {hashlib.md5(WEIGHTS).hexdigest()}; must be 00"):
        download(served(server, "ranges", md5="00"))
    assert not list(cache.glob("*"))


def test_a_refused_connection_names_all_urls(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _seconds: pytest.fail("waited"))
    urls = ("http://127.0.0.1:9/one", "http://127.0.0.1:9/two")
    entry = replace(ENTRIES["yolov2"], weights=File("yolov2.weights", Remote(urls)))
    with pytest.raises(WeightsError, match=r"9/one \(Connection refused\), nor from .*9/two \(Connection refused\)"):
        download(entry)


def test_other_urls_for_the_weights(server):
    urls = [server.url("missing/x"), server.url("plain/a.weights")]
    assert download(served(server, "html"), urls=urls).weights.read_bytes() == WEIGHTS
    assert "/html/a.weights" not in [path for path, _ in server.requests]


def test_a_file_that_the_user_put_into_the_cache_is_used_if_its_size_is_right(server, cache):
    cache.mkdir(parents=True)
    (cache / "a.weights").write_bytes(WEIGHTS[::-1])
    assert download(served(server, "missing")).weights.read_bytes() == WEIGHTS[::-1]
    (cache / "a.weights").write_bytes(b"<html>log in</html>")
    with pytest.raises(WeightsError, match=r"a.weights: an HTML page instead of the file; remove it"):
        download(served(server, "ranges"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\n <!DOCTYPE HTML><html>", "an HTML page instead of the file"),
        (WEIGHTS[:-1], f"{len(WEIGHTS) - 1} bytes; must be {len(WEIGHTS)} or {len(WEIGHTS) + 4}"),
        (WEIGHTS[::-1], f"its sha256 is {sha256(WEIGHTS[::-1])}; must be {sha256(WEIGHTS)}"),
    ],
)
def test_verify_reports_the_reason(server, cache, content, reason):
    entry = served(server, "ranges", sha256=sha256(WEIGHTS))
    download(entry).weights.write_bytes(content)
    check = verify(entry)[0]
    assert (check.path, check.status, check.reason) == (cache / "a.weights", "wrong", reason)
    assert is_cached(entry) == (len(content) == len(WEIGHTS))  # hashes are not checked


def test_verify_a_folder_instead_of_a_file(server, cache):
    (cache / "a.weights").mkdir(parents=True)
    entry = served(server, "ranges")
    assert not is_cached(entry)
    assert verify(entry)[0].reason.startswith("is a folder")


def test_voc_names_are_generated(server, cache):
    voc = ENTRIES["yolov2-voc"].names
    entry = replace(served(server, "ranges"), names=voc)
    path = download(entry).names
    assert path == cache / "darknet-f6afaabc" / "data" / "voc.names"
    assert tuple(path.read_text(encoding="utf-8").splitlines()) == VOC_NAMES
    assert set(statuses(entry)) == {"ok", "size ok, hash unverified"}
    path.write_text("cat\n")
    with pytest.raises(WeightsError, match=r"voc.names: 4 bytes; must be 135"):
        download(entry)


def test_a_cache_that_cannot_be_written(server, cache):
    cache.parent.write_text("a file where the folder should be")
    with pytest.raises(MachineError, match="cannot be created"):
        download(served(server, "ranges"))
    voc = ENTRIES["yolov2-voc"].names
    with pytest.raises(MachineError, match=r"voc.names: cannot be written"):
        download(replace(served(server, "ranges"), weights=voc))
