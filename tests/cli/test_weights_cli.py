import json
import sys
from dataclasses import replace

import pytest

from yolo9k import checkpoint, cli, darknet
from yolo9k.build import build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import load_config
from yolo9k.darknet.catalogue import ENTRIES, File
from yolo9k.darknet.weights import Header, conv_layers, write_weights
from yolo9k.fetch import Remote
from yolo9k.wordtree import WordTree

WEIGHTS = bytes(range(256)) * 100


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of the weights, in a temporary cache."""
    monkeypatch.setenv("YOLO9K_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return tmp_path / "cache" / "weights"


@pytest.fixture(autouse=True)
def server(file_server, monkeypatch):
    """Serve all files of the catalogue from this machine: small ones, without known hashes."""

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
    """Run `yolo9k weights` as the shell does; return its exit code, standard output and standard error."""

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


def test_list_shows_all_models_without_the_network(weights, server):
    code, out, _ = weights("list")
    assert code == 0
    for name in ENTRIES:
        assert name in out
    assert "YOLO9K_CACHE" in out
    assert server.requests == []


def test_list_shows_what_is_in_the_cache(weights, cache, tmp_path):
    weights("download", "yolo9000")
    code, out, err = weights("list", "--json", "-")
    listed = json.loads(out)
    assert (code, listed["folder"]) == (0, str(cache))
    assert "in the cache" in err  # the table goes to standard error
    assert [model["name"] for model in listed["models"] if model["cached"]] == ["yolo9000"]
    assert listed["models"][0]["bytes"] == len(WEIGHTS)
    assert weights("list", "--json", tmp_path / "list.json")[0] == 0
    assert json.loads((tmp_path / "list.json").read_text()) == listed


def test_download_reports_an_unverified_hash(weights, server, cache):
    code, out, _ = weights("download", "yolov2-voc.weights", "yolov2-voc")
    assert (code, out) == (0, f"downloaded {cache / 'yolov2-voc.weights'} (size ok, hash unverified: none is known)\n")
    assert [path for path, _ in server.requests] == ["/ranges/yolov2-voc.weights", "/ranges/yolov2-voc.cfg"]


def test_download_all(weights, cache):
    code, out, _ = weights("download", "--all")
    assert (code, out.count("downloaded ")) == (0, len(ENTRIES))
    assert all(entry.weights.cached_path.read_bytes() == WEIGHTS for entry in ENTRIES.values())


def test_download_from_another_url(weights, server, cache):
    server.files["mine"] = WEIGHTS + b"four"
    urls = ["--url", server.url("missing/x"), "--url", server.url("reset/mine")]
    assert weights("download", "yolov2", *urls)[0] == 0
    assert (cache / "yolov2.weights").read_bytes() == WEIGHTS + b"four"


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("html", "an HTML page instead of the file"),
        ("half", f"{len(WEIGHTS) // 2} bytes; must be"),
        ("broken", "connection lost after"),
        ("busy", "HTTP 503"),
    ],
)
def test_download_that_fails_is_one_line(weights, server, cache, way, message):
    code, out, err = weights("download", "yolov2", "--url", server.url(f"{way}/yolov2.weights"))
    assert (code, out) == (4, "")
    assert_one_line(err)
    assert message in err
    assert f"download it by hand to {cache / 'yolov2.weights'}" in err
    assert not (cache / "yolov2.weights").exists()


def test_download_with_a_wrong_hash(weights, monkeypatch):
    with_hash(monkeypatch, "yolov2", "00")
    code, _, err = weights("download", "yolov2")
    assert code == 4
    assert "; must be 00" in err


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/x", "x.weights"])
def test_a_refused_connection_fails_at_once(weights, monkeypatch, url):
    monkeypatch.setattr("time.sleep", lambda _seconds: pytest.fail("waited"))
    code, _, err = weights("download", "yolov2", "--url", url, "--url", f"{url}2")
    assert code == 4
    assert_one_line(err)
    assert f"{url} (" in err
    assert f"{url}2 (" in err


@pytest.mark.parametrize("command", ["download", "verify"])
def test_an_unknown_name(weights, command):
    code, _, err = weights(command, "yolov3")
    assert (code, err) == (4, "error: yolov3: not in the catalogue; did you mean yolov2?\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name models (yolov2, "),
        (["yolov2", "--all"], "or give --all"),
        (["yolov2", "yolo9000", "--url", "http://x"], "--url: needs a single model, but 2 are requested"),
    ],
)
def test_download_with_ambiguous_arguments(weights, arguments, message):
    code, _, err = weights("download", *arguments)
    assert code == 2
    assert_one_line(err)
    assert message in err


def test_verify_an_empty_cache(weights, cache):
    assert weights("verify") == (0, f"no weights in {cache}; see: yolo9k weights list\n", "")
    code, out, err = weights("verify", "yolov2")
    assert (code, out.count("missing")) == (4, 2)
    assert err == "error: yolov2: 2 of 2 files are missing; download them: yolo9k weights download yolov2\n"


def test_verify_cached_models(weights):
    weights("download", "yolov2", "darknet19_448")
    code, out, _ = weights("verify")
    assert (code, out.count("size ok, hash unverified")) == (0, 4)  # without the cfg of the partial file
    assert "yolov2.weights  size ok, hash unverified\n" in out


def test_verify_fails_for_wrong_files(weights, cache, monkeypatch):
    weights("download", "yolov2", "yolo9000")
    with_hash(monkeypatch, "yolov2", "00")
    (cache / "yolo9000.weights").write_bytes(WEIGHTS[:-1])
    code, out, err = weights("verify", "--json", "-")
    assert code == 4
    assert json.loads(out)["models"]["yolo9000"][0] == {
        "path": str(cache / "yolo9000.weights"),
        "status": "wrong",
        "reason": f"{len(WEIGHTS) - 1} bytes; must be {len(WEIGHTS)} or {len(WEIGHTS) + 4}",
    }
    last = err.splitlines()[-1]
    assert last.startswith(f"error: {cache / 'yolov2.weights'}: its md5 is ")
    assert last.endswith("(and 1 more); remove it, then: yolo9k weights download")


def test_verify_finds_a_wrong_cfg_without_weights(weights, cache):
    weights("download", "yolov2")
    (cache / "yolov2.weights").unlink()
    ENTRIES["yolov2"].cfg.cached_path.write_text("[net]\n")
    code, _, err = weights("verify")
    assert code == 4
    assert "yolov2.cfg: 6 bytes" in err


# inspect and convert

CFG = """[net]
width=32
height=16
channels=3
[conv]
batch_normalize=1
filters=4
size=3
[conv]
filters=16
activation=linear
[region]
num=2
anchors=1,2,3,4
classes=3
"""
NUMBERS = (4 * 4 + 4 * 3 * 9, 16 + 16 * 4)


@pytest.fixture
def net(tmp_path):
    """A Darknet weights file, with its cfg next to it."""
    path = tmp_path / "net.weights"
    path.with_suffix(".cfg").write_text(CFG)
    write_weights(path, conv_layers(darknet.load(path.with_suffix(".cfg"))), Header(0, 2, 3, 6400))
    return path


@pytest.fixture
def own(tmp_path):
    """A run folder with a trained model of this package."""
    config = load_config(None, ["model.name=yolov2-tiny", "model.width=0.1", "model.anchors=[[1, 2]]", "data.size=64"])
    labels = WordTree.flat(["red cell", "white cell"])
    weights = build_network(config.model, labels).state_dict()
    checkpoint.save(Checkpoint(config, labels, weights), tmp_path / "run" / "checkpoints" / "best.pt")
    return tmp_path / "run"


def test_inspect_prints_the_header(weights, net):
    code, out, err = weights("inspect", net)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"file: {net}", f"bytes: {20 + 4 * sum(NUMBERS)}", "version: 0.2.3", "seen: 6400", "header bytes: 20",
        f"values: {sum(NUMBERS)}", "size matches: no official file",
    ]  # fmt: skip


def test_inspect_recognises_the_sizes_of_official_files(weights, tmp_path):
    path = tmp_path / "a.weights"
    path.write_bytes(Header(0, 1).to_bytes() + bytes(len(WEIGHTS) - 16))
    code, out, _ = weights("inspect", path)
    assert code == 0
    assert f"size matches: {', '.join(ENTRIES)}" in out


def test_inspect_with_a_cfg_shows_layers(weights, net):
    code, out, _ = weights("inspect", net, "--cfg", net.with_suffix(".cfg"))
    assert code == 0
    assert "layers: 2 of 2 whole" in out
    assert "leftover bytes: 0" in out
    assert "fits the cfg: yes\n" in out
    assert "layers.0.conv" in out
    assert "4x3x3x3" in out


@pytest.mark.parametrize(
    ("more", "holds", "fits", "leftover"),
    [
        (0, ["whole", "whole"], "yes", 0),
        (3, ["whole", "whole"], "no, it is longer than the network", 12),
        (-NUMBERS[1], ["whole", "missing"], "yes, as a partial file", 0),
        (-1, ["whole", f"{4 * NUMBERS[1] - 4} of {4 * NUMBERS[1]} bytes"], "no, it ends inside layers.1.conv", 0),
        (
            -NUMBERS[1] - 1, [f"{4 * NUMBERS[0] - 4} of {4 * NUMBERS[0]} bytes", "missing"],
            "no, it ends inside layers.0.conv", 0,
        ),
        (-sum(NUMBERS), ["missing", "missing"], "no, it holds no layer", 0),
    ],
)  # fmt: skip
def test_inspect_as_json_reports_missing_layers_and_leftover_bytes(weights, net, tmp_path, more, holds, fits, leftover):
    content = net.read_bytes()
    net.write_bytes((content + bytes(99))[: len(content) + 4 * more])
    code, out, err = weights("inspect", net, "--cfg", net.with_suffix(".cfg"), "--json", "-")
    found = json.loads(out)
    assert code == 0
    assert f"seen: {found['seen']}" in err  # the text goes to standard error
    assert [row["status"] for row in found["layers"]] == holds
    assert [row["values"] for row in found["layers"]] == list(NUMBERS)
    assert (found["leftover bytes"], found["values"]) == (leftover, sum(NUMBERS) + more)
    assert weights("inspect", net, "--json", tmp_path / "a.json")[0] == 0
    assert json.loads((tmp_path / "a.json").read_text())["layers"] == []
    counted = json.loads(out)
    assert f"layers: {holds.count('whole')} of 2 whole" in err
    assert counted["fits the cfg"] == fits
    assert counted["version"] == "0.2.3"


def test_inspect_of_a_checkpoint(weights, own, net, tmp_path):
    code, out, _ = weights("inspect", own / "checkpoints" / "best.pt")
    assert code == 0
    assert "model: yolov2-tiny\n" in out
    assert "labels: 2: red cell, white cell\n" in out
    assert "anchors in cells: 1,2\n" in out
    assert "from Darknet" not in out
    assert "backbone.fine.0.0" in out
    assert weights("convert", net, tmp_path / "net.pt")[0] == 0
    code, out, _ = weights("inspect", tmp_path / "net.pt", "--json", "-")
    assert code == 0
    found = json.loads(out)
    assert found["from Darknet"] == "major 0, minor 2, revision 3, seen 6400, blocks 2"
    assert [row["values"] for row in found["layers"]] == list(NUMBERS)
    assert found["values"] == sum(NUMBERS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"<html><body>" * 9, "an HTML page, not weights"),
        (CFG.encode(), "neither a checkpoint nor a Darknet weights file"),
        (Header().to_bytes() + b"123", "3 bytes after the header; must be a multiple of 4"),
    ],
)
def test_inspect_of_another_file_is_one_line(weights, net, content, message):
    net.write_bytes(content)
    code, out, err = weights("inspect", net)
    assert (code, out) == (4, "")
    assert_one_line(err)
    assert message in err


@pytest.mark.parametrize("command", [("inspect",), ("convert", "out.pt", "--overwrite")])
def test_a_mistake_in_a_cfg_is_a_warning_or_with_strict_an_error(weights, net, tmp_path, caplog, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    cfg = tmp_path / "other.cfg"
    cfg.write_text(CFG.replace("size=3", "size=3\nsise=5"))
    name, *target = command
    caplog.clear()
    assert weights(name, net, *target, "--cfg", cfg)[0] == 0
    (warning,) = caplog.messages
    assert warning == f"{cfg}:9: [convolutional] sise=5: unknown option; Darknet ignores it"
    assert weights(name, net, *target, "--cfg", cfg, "--strict") == (4, "", f"error: {warning}\n")
    assert weights(name, net, *target, "--cfg", net.with_suffix(".cfg"), "--strict")[0] == 0


def test_inspect_with_a_wrong_cfg_is_one_line(weights, net, own):
    net.with_suffix(".cfg").write_text(CFG.replace("filters=16", "filters=17"))
    code, _, err = weights("inspect", net, "--cfg", net.with_suffix(".cfg"))
    assert code == 4
    assert_one_line(err)
    assert f"{net.with_suffix('.cfg')}:10: [convolutional] filters=17: [region] requires 16 channels" in err
    code, _, err = weights("inspect", own / "checkpoints" / "best.pt", "--cfg", net.with_suffix(".cfg"))
    assert (code, err) == (2, "error: --cfg: only for Darknet weights files; a checkpoint contains its model config\n")
    assert weights("inspect", net.with_name("none"))[0] == 4
    assert weights("inspect", net.with_name("none.pt"))[0] == 4


@pytest.mark.parametrize("layers", [1, 2])
def test_convert_to_a_checkpoint_and_back_is_the_same_file(weights, net, tmp_path, layers):
    net.write_bytes(net.read_bytes()[: 20 + 4 * sum(NUMBERS[:layers])])
    (tmp_path / "a.names").write_text("a\nb\nc\n")
    assert weights("convert", net, tmp_path / "net.pt", "--names", tmp_path / "a.names") == (
        0, f"wrote {tmp_path / 'net.pt'}\n", "",
    )  # fmt: skip
    code, out, _ = weights("convert", tmp_path / "net.pt", tmp_path / "out" / "again.weights")
    again = tmp_path / "out" / "again.weights"
    assert (code, out.splitlines()) == (0, [f"wrote {again.with_suffix(s)}" for s in (".weights", ".cfg", ".names")])
    assert again.read_bytes() == net.read_bytes()
    assert again.with_suffix(".cfg").read_text() == CFG
    assert weights("convert", tmp_path / "net.pt", tmp_path / f"again.conv.{layers}")[0] == 0
    assert (tmp_path / f"again.conv.{layers}").read_bytes() == net.read_bytes()
    assert again.with_suffix(".names").read_text() == "a\nb\nc\n"


def test_convert_writes_a_run_for_darknet(weights, own, tmp_path):
    assert weights("convert", own, tmp_path / "cells.weights")[0] == 0
    net = darknet.load(tmp_path / "cells.cfg", tmp_path / "cells.weights", names=tmp_path / "cells.names")
    assert net.labels.names == ("red cell", "white cell")
    assert net.origin.layer_count == 9
    assert net.cfg.size_wh == (64, 64)


def test_convert_reports_the_changed_tree_path_in_the_cfg(weights, net, tmp_path):
    net.with_suffix(".cfg").write_text(CFG + "tree=data/my.tree\n")
    code, out, err = weights("convert", net, tmp_path / "net.pt")
    assert (code, out) == (4, "")
    assert err == f"error: {net}: the label tree of its cfg, data/my.tree, is missing; give it with --tree\n"
    (tmp_path / "a.tree").write_text("animal -1\ncat 0\ndog 0\n")
    assert weights("convert", net, tmp_path / "net.pt", "--tree", tmp_path / "a.tree")[0] == 0
    code, out, _ = weights("convert", tmp_path / "net.pt", tmp_path / "b.weights")
    assert code == 0
    assert f"wrote {tmp_path / 'b.cfg'} (tree=b.tree (was tree=data/my.tree))\n" in out
    assert (tmp_path / "b.weights").read_bytes() == net.read_bytes()


def test_convert_downloads_a_catalogue_model(weights, server):
    code, _, err = weights("convert", "yolov2", "a.pt")
    assert code == 4  # the served file is too small
    assert_one_line(err)
    assert [path for path, _ in server.requests] == ["/ranges/yolov2.weights", "/ranges/yolov2.cfg"]


@pytest.mark.parametrize(
    ("source", "target", "code", "message"),
    [
        ("yolov3", "a.pt", 4, "yolov3: no such file or run, and not in the catalogue; did you mean yolov2?"),
        ("bare.weights", "a.pt", 4, "a Darknet file needs its cfg (--cfg)"),
        ("short.weights", "a.pt", 4, "layers.0.conv does not fit: it requires"),
        ("net.weights", "a.cfg", 2, "a.cfg: the name must end in .pt (checkpoint) or .weights (Darknet)"),
        ("net.weights", "a", 2, "a: the name must end in .pt"),
        ("net.weights", "net.cfg/a.pt", 6, "cannot be written"),
        ("net.weights", "net.cfg/a.weights", 6, "cannot be written"),
    ],
)
def test_convert_that_fails_is_one_line(weights, net, tmp_path, monkeypatch, source, target, code, message):
    monkeypatch.chdir(tmp_path)
    net.with_name("bare.weights").write_bytes(net.read_bytes())
    net.with_name("short.weights").write_bytes(net.read_bytes()[:100])
    net.with_name("short.cfg").write_text(CFG)
    before = sorted(tmp_path.rglob("*"))
    found, out, err = weights("convert", source, target)
    assert (found, out) == (code, "")
    assert_one_line(err)
    assert message in err
    assert sorted(tmp_path.rglob("*")) == before
