import json
import sys
from dataclasses import replace

import pytest

from yolo9k import cli
from yolo9k.darknet.catalogue import ENTRIES, File
from yolo9k.fetch import Remote

WEIGHTS = bytes(range(256)) * 100


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of the weights, in a cache of its own."""
    monkeypatch.setenv("YOLO9K_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return tmp_path / "cache" / "weights"


@pytest.fixture(autouse=True)
def server(file_server, monkeypatch):
    """All files of the catalogue come from this machine, are small, and have no known hashes."""

    def local(file: File) -> File:
        name = file.path.rpartition("/")[2]
        file_server.files[name] = WEIGHTS
        return replace(file, remote=Remote((file_server.url(f"ranges/{name}"),), (len(WEIGHTS), len(WEIGHTS) + 4)))

    for name, entry in ENTRIES.items():
        changed = replace(entry, weights=local(entry.weights), cfg=local(entry.cfg), names=None, labels=None)
        monkeypatch.setitem(ENTRIES, name, replace(changed, tree=None, maps={}))
    return file_server


@pytest.fixture
def weights(monkeypatch, capsys):
    """Runs `yolo9k weights` as the shell does; gives its exit code, what it said and its errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["yolo9k", "weights", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return (stopped.value.code or 0, *capsys.readouterr())

    return run


def with_hash(monkeypatch, name, digest):
    entry = ENTRIES[name]
    remote = replace(entry.weights.remote, hashes={"md5": digest})
    monkeypatch.setitem(ENTRIES, name, replace(entry, weights=replace(entry.weights, remote=remote)))


def assert_one_line(error):
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_list_names_all_models_and_asks_nobody(weights, server):
    code, out, _ = weights("list")
    assert code == 0
    for name in ENTRIES:
        assert name in out
    assert "YOLO9K_CACHE" in out
    assert server.requests == []


def test_list_says_what_is_in_the_cache(weights, cache, tmp_path):
    weights("download", "yolo9000")
    code, out, err = weights("list", "--json", "-")
    listed = json.loads(out)
    assert (code, listed["folder"]) == (0, str(cache))
    assert "in the cache" in err  # the table is out of the way
    assert [model["name"] for model in listed["models"] if model["cached"]] == ["yolo9000"]
    assert listed["models"][0]["bytes"] == len(WEIGHTS)
    assert weights("list", "--json", tmp_path / "list.json")[0] == 0
    assert json.loads((tmp_path / "list.json").read_text()) == listed


def test_download_says_what_is_there_and_what_is_not_known(weights, server, cache):
    code, out, _ = weights("download", "yolov2-voc.weights", "yolov2-voc")
    assert (code, out) == (0, f"have {cache / 'yolov2-voc.weights'} (size ok, hash unverified: none is known)\n")
    assert [path for path, _ in server.requests] == ["/ranges/yolov2-voc.weights", "/ranges/yolov2-voc.cfg"]


def test_download_all(weights, cache):
    code, out, _ = weights("download", "--all")
    assert (code, out.count("have ")) == (0, len(ENTRIES))
    assert all(entry.weights.place.read_bytes() == WEIGHTS for entry in ENTRIES.values())


def test_download_from_another_address(weights, server, cache):
    server.files["mine"] = WEIGHTS + b"four"
    urls = ["--url", server.url("missing/x"), "--url", server.url("reset/mine")]
    assert weights("download", "yolov2", *urls)[0] == 0
    assert (cache / "yolov2.weights").read_bytes() == WEIGHTS + b"four"


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("html", "a web page came"),
        ("half", f"{len(WEIGHTS) // 2} bytes, but"),
        ("broken", "broke off after"),
        ("busy", "HTTP 503"),
    ],
)
def test_download_that_fails_is_one_line(weights, server, cache, way, says):
    code, out, err = weights("download", "yolov2", "--url", server.url(f"{way}/yolov2.weights"))
    assert (code, out) == (4, "")
    assert_one_line(err)
    assert says in err
    assert f"put it at {cache / 'yolov2.weights'}" in err
    assert not (cache / "yolov2.weights").exists()


def test_download_of_something_with_another_hash(weights, monkeypatch):
    with_hash(monkeypatch, "yolov2", "00")
    code, _, err = weights("download", "yolov2")
    assert code == 4
    assert ", 00 is right" in err


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "x.weights"])
def test_a_refused_network_is_one_line_at_once(weights, monkeypatch, url):
    monkeypatch.setattr("time.sleep", lambda _seconds: pytest.fail("waited"))
    code, _, err = weights("download", "yolov2", "--url", url, "--url", f"{url}2")
    assert code == 4
    assert_one_line(err)
    assert f"{url} (" in err
    assert f"{url}2 (" in err


@pytest.mark.parametrize("command", ["download", "verify"])
def test_an_unknown_name(weights, command):
    code, _, err = weights(command, "yolov3")
    assert (code, err) == (4, "error: yolov3: no model of the catalogue; did you mean yolov2?\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name models (yolov2, "),
        (["yolov2", "--all"], "or give --all"),
        (["yolov2", "yolo9000", "--url", "http://x"], "--url is the address of one model, but 2 are asked for"),
    ],
)
def test_download_without_a_clear_wish(weights, arguments, says):
    code, _, err = weights("download", *arguments)
    assert code == 2
    assert_one_line(err)
    assert says in err


def test_verify_without_anything_there(weights, cache):
    assert weights("verify") == (0, f"no weights in {cache}; see: yolo9k weights list\n", "")
    code, out, _ = weights("verify", "yolov2")
    assert (code, out.count("missing")) == (0, 2)


def test_verify_what_is_there(weights):
    weights("download", "yolov2", "darknet19_448")
    code, out, _ = weights("verify")
    assert (code, out.count("size ok, hash unverified")) == (0, 4)  # not the cfg of the partial file, too
    assert "yolov2.weights  size ok, hash unverified\n" in out


def test_verify_refuses_what_is_wrong(weights, cache, monkeypatch):
    weights("download", "yolov2", "yolo9000")
    with_hash(monkeypatch, "yolov2", "00")
    (cache / "yolo9000.weights").write_bytes(WEIGHTS[:-1])
    code, out, err = weights("verify", "--json", "-")
    assert code == 4
    assert json.loads(out)["yolo9000"][0] == {
        "path": str(cache / "yolo9000.weights"),
        "condition": "wrong",
        "reason": f"{len(WEIGHTS) - 1} bytes, but {len(WEIGHTS)} or {len(WEIGHTS) + 4} are right",
    }
    last = err.splitlines()[-1]
    assert last.startswith(f"error: {cache / 'yolov2.weights'}: its md5 is ")
    assert last.endswith("(and 1 more); remove it, then: yolo9k weights download")


def test_verify_finds_a_wrong_text_without_weights(weights, cache):
    weights("download", "yolov2")
    (cache / "yolov2.weights").unlink()
    ENTRIES["yolov2"].cfg.place.write_text("[net]\n")
    code, _, err = weights("verify")
    assert code == 4
    assert "yolov2.cfg: 6 bytes" in err
