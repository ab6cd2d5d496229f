"""Weights of any origin, opened and written back."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from yolo9k import checkpoint, darknet
from yolo9k.build import build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import load_config
from yolo9k.darknet.catalogue import ENTRIES, Entry, File
from yolo9k.darknet.weights import Header, conv_layers, write_weights
from yolo9k.errors import ConfigError, DataError, MachineError, WeightsError
from yolo9k.fetch import Remote
from yolo9k.pretrained import (
    DarknetFiles,
    build_detector,
    build_stored,
    build_whole_classifier,
    open_weights,
    write_darknet,
)
from yolo9k.wordtree import WordTree

NET = "[net]\nwidth=32\nheight=16\nchannels=3\n"
CONV = "[conv]\nbatch_normalize=1\nfilters=4\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
DETECTOR = NET + CONV * 2 + "[conv]\nfilters=16\nactivation=linear\n[region]\nnum=2\nanchors=1,2,3,4\nclasses=3\n"
CLASSIFIER = NET + CONV + "[conv]\nfilters=5\nactivation=linear\n[avgpool]\n[softmax]\n"
TREE = "animal -1\ncat 0\ndog 0\n"
LONG, OLD = Header(0, 2, 5, 1 << 40), Header(0, 1, 0, 6400)
LABELS = WordTree.flat(["red cell", "white cell", "platelet"])
SMALL = ("model.width=0.125", "model.anchors=[[1.3221, 1.73145], [0.1, 11.2364]]", "data.size=96x64")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO9K_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    return tmp_path / "cache" / "weights"


@pytest.fixture
def darknet_files(tmp_path):
    """`darknet_files(cfg)` writes `net.cfg` and `net.weights` and gives the path of the weights."""

    def write(cfg=DETECTOR, header=LONG, layers=None, name="net.weights"):
        path = tmp_path / name
        path.with_suffix(".cfg").write_text(cfg)
        torch.manual_seed(0)
        net = darknet.load(path.with_suffix(".cfg"))
        randomise(net)
        write_weights(path, conv_layers(net)[:layers], header)
        return path

    return write


def randomise(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.running_var):
                nn.init.uniform_(value, 0.5, 2)
            for value in (module.bias, module.running_mean):
                nn.init.uniform_(value, -1, 1)
    return network.eval()


def own_model(*overrides, labels=LABELS) -> Checkpoint:
    torch.manual_seed(0)
    config = load_config(None, [*SMALL, *overrides])
    network = randomise(build_network(config.model, labels))
    return Checkpoint(config, labels, network.state_dict(), {"seen": 640, "next_step": 11})


def refusal(error, action, *arguments) -> str:
    with pytest.raises(error) as refused:
        action(*arguments)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# From Darknet


def test_a_darknet_file_finds_its_cfg_beside_it(darknet_files):
    path = darknet_files()
    stored = open_weights(path)
    assert stored.darknet == {"major": 0, "minor": 2, "revision": 5, "seen": 1 << 40, "blocks": 3}
    assert stored.config.model.name == "darknet"
    assert stored.config.data.size == (32, 16)
    assert stored.config.data.resize == "darknet"
    assert stored.labels.names == ("0", "1", "2")
    network, config = build_detector(stored, path)
    assert config == stored.config
    network.eval()
    x = torch.rand(1, 3, 16, 32)
    assert torch.equal(network(x), darknet.load(path.with_suffix(".cfg"), path)(x))


def test_a_cfg_that_is_named_comes_before_the_one_beside(darknet_files, tmp_path):
    path = darknet_files()
    other = tmp_path / "other.cfg"
    other.write_text(DETECTOR.replace("width=32", "width=64"))
    assert open_weights(path, DarknetFiles(cfg=other)).config.data.size == (64, 16)
    path.with_suffix(".cfg").unlink()
    assert refusal(WeightsError, open_weights, path) == f"{path}: a Darknet file needs its cfg (--cfg)"
    assert open_weights(path, DarknetFiles(cfg=other)).labels.names == ("0", "1", "2")
    none = tmp_path / "none.cfg"
    assert refusal(WeightsError, open_weights, path, DarknetFiles(cfg=none)).startswith(f"{none}: cannot be read")


def test_what_is_no_weights_file_is_refused_before_a_cfg_is_asked_for(tmp_path):
    page = tmp_path / "yolov2.weights"
    page.write_text("<!DOCTYPE html><html>" + "x" * 99)
    assert "an HTML page, not weights" in refusal(WeightsError, open_weights, page)


def test_names_and_data_files_say_what_the_labels_are(darknet_files, tmp_path):
    path, names = darknet_files(), tmp_path / "my.names"
    names.write_text("a\nb\nc\n")
    assert open_weights(path, DarknetFiles(names=names)).labels.ids == ("a", "b", "c")
    data = tmp_path / "my.data"
    data.write_text("# mine\nclasses= 3\n\nnames = data/my.names\nbackup = /tmp\n")  # from where Darknet was started
    assert open_weights(path, DarknetFiles(data=data)).labels.ids == ("a", "b", "c")
    other = tmp_path / "other.names"
    other.write_text("d\ne\nf\n")
    assert open_weights(path, DarknetFiles(names=other, data=data)).labels.ids == ("d", "e", "f")
    names.write_text("a\nb\n")
    assert "[region] classes=3: 2 labels for 3 classes" in refusal(
        WeightsError, open_weights, path, DarknetFiles(names=names)
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("names\n", "my.data:1: expected key = value"),
        ("classes=3\nnames=gone.names\n", "my.data:2: names = gone.names: file not found"),
        (f"names={'n' * 5000}\n", "my.data:1: names = nnn"),
        (b"\xff\xfe\xfa", "my.data: not a text file"),
    ],
)
def test_what_is_wrong_with_a_data_file_is_said_with_its_line(darknet_files, tmp_path, text, says):
    data = tmp_path / "my.data"
    data.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert says in refusal(WeightsError, open_weights, darknet_files(), DarknetFiles(data=data))


def test_a_tree_is_found_beside_its_cfg_or_named(darknet_files, tmp_path):
    path = darknet_files(DETECTOR + "tree=data/my.tree\n")
    tree = tmp_path / "my.tree"
    message = refusal(WeightsError, lambda: darknet.load(path.with_suffix(".cfg"), path).scores())
    assert "[region] tree=data/my.tree: file not found" in message
    tree.write_text(TREE)
    assert open_weights(path).labels.parents == (-1, 0, 0)
    tree.with_suffix(".labels").write_text("n1\nn2\nn3\n")
    (tmp_path / "my.names").write_text("Animal\nCat\nDog\n")
    labels = open_weights(path, DarknetFiles(names=tmp_path / "my.names")).labels
    assert (labels.ids, labels.names) == (("n1", "n2", "n3"), ("Animal", "Cat", "Dog"))
    other = tmp_path / "other.tree"
    other.write_text("a -1\nb -1\nc 1\n")
    assert open_weights(path, DarknetFiles(tree=other)).labels.ids == ("a", "b", "c")
    other.write_text("a -1\nb -1\nc x\n")
    assert "other.tree:3: parent" in refusal(DataError, open_weights, path, DarknetFiles(tree=other))


def test_a_tree_is_refused_where_the_cfg_has_no_use_for_it(darknet_files, tmp_path):
    (tmp_path / "my.tree").write_text(TREE)
    path = darknet_files()
    message = refusal(WeightsError, open_weights, path, DarknetFiles(tree=tmp_path / "my.tree"))
    assert message == f"{path.with_suffix('.cfg')}: the cfg has no tree=, but a tree was given: {tmp_path / 'my.tree'}"


def test_warnings_about_a_cfg_are_logged_or_errors(darknet_files, caplog):
    path = darknet_files(DETECTOR + "flavour=mint\n")
    caplog.clear()
    stored = open_weights(path)
    (record,) = caplog.records
    assert (record.levelname, record.name) == ("WARNING", "yolo9k.darknet.cfg")
    assert record.getMessage().startswith(f"{path.with_suffix('.cfg')}:26: [region] flavour=mint: unknown option")
    build_stored(stored, path)
    assert len(caplog.records) == 1  # what is in a checkpoint is not complained of
    assert refusal(WeightsError, open_weights, path, DarknetFiles(strict=True)) == record.getMessage()


def test_a_tree_with_an_impossible_name_is_not_here(darknet_files):
    path = darknet_files(DETECTOR + f"tree={'t' * 5000}\n")
    assert open_weights(path).labels.names == ("0", "1", "2")


def test_labels_of_a_classifier_must_be_as_many_as_its_values(darknet_files, tmp_path):
    path, names = darknet_files(CLASSIFIER), tmp_path / "my.names"
    assert len(open_weights(path).labels) == 5
    names.write_text("a\nb\n")
    assert "2 labels for 5 classes" in refusal(WeightsError, open_weights, path, DarknetFiles(names=names))


@pytest.mark.parametrize(("layers", "total"), [(1, 3), (2, 3)])
def test_a_partial_file_is_no_detector(darknet_files, layers, total):
    path = darknet_files(layers=layers)
    stored = open_weights(path)
    assert stored.darknet["blocks"] == layers
    message = refusal(WeightsError, build_detector, stored, path)
    assert message.startswith(f"{path}: a partial file with {layers} of {total} layers")


def test_a_classifier_is_no_detector(darknet_files):
    path = darknet_files(CLASSIFIER)
    stored = open_weights(path)
    assert "a classifier, not a detector; run it with yolo9k classify" in refusal(
        WeightsError, build_detector, stored, path
    )
    network, config = build_whole_classifier(stored, path)
    assert config.task == "classify"
    assert network(torch.rand(2, 3, 16, 32)).shape == (2, 5)


def test_a_detector_is_no_classifier(darknet_files):
    path = darknet_files()
    expected = f"{path}: a detector, not a classifier; run it with yolo9k detect"
    assert refusal(WeightsError, build_whole_classifier, open_weights(path), path) == expected


# From the catalogue


def test_a_model_of_the_catalogue_is_fetched_when_it_is_not_here(darknet_files, file_server, monkeypatch, cache):
    path = darknet_files(DETECTOR + "tree=data/my.tree\n")
    contents = {
        "my.weights": path.read_bytes(), "my.cfg": path.with_suffix(".cfg").read_bytes(), "my.tree": TREE.encode(),
        "my.names": b"Animal\nCat\nDog\n",
    }  # fmt: skip
    file_server.files.update(contents)

    def served(name):
        return File(f"texts/{name}", Remote((file_server.url(f"plain/{name}"),), (len(contents[name]),), {}))

    weights = replace(served("my.weights"), path="my.weights")
    entry = Entry("my", "detector", "", "", weights, served("my.cfg"), served("my.names"), tree=served("my.tree"))
    monkeypatch.setitem(ENTRIES, "my", entry)
    for name in ("my", "my.weights"):
        stored = open_weights(name)
        assert stored.labels.names == ("Animal", "Cat", "Dog")
        assert stored.darknet["seen"] == 1 << 40
    assert (cache / "my.weights").read_bytes() == contents["my.weights"]
    assert len(file_server.requests) == 4  # once each
    for option in ("cfg", "names", "tree", "data"):
        message = refusal(ConfigError, open_weights, "my", DarknetFiles(**{option: path}))
        assert message == (f"--{option}: is only for Darknet weights files; my is a catalogue model, which has its own")


def test_a_file_with_the_name_and_size_of_an_official_one_needs_no_cfg(
    darknet_files, file_server, monkeypatch, tmp_path
):
    path = darknet_files(DETECTOR, layers=2, name="my.conv.2")
    cfg, size = path.with_suffix(".cfg"), path.stat().st_size
    file_server.files["my.cfg"] = cfg.read_bytes()
    cfg.unlink()
    weights = File("my.conv.2", Remote((file_server.url("missing/my.conv.2"),), (size, size + 4)))
    texts = File("texts/my.cfg", Remote((file_server.url("plain/my.cfg"),), (len(DETECTOR),)))
    monkeypatch.setitem(ENTRIES, "my.conv.2", Entry("my.conv.2", "partial", "", "", weights, texts))
    assert open_weights(path).darknet["blocks"] == 2
    assert [asked for asked, _ in file_server.requests] == ["/plain/my.cfg"]  # not the weights
    path.write_bytes(path.read_bytes() + bytes(8))  # so it is something else
    assert refusal(WeightsError, open_weights, path) == f"{path}: a Darknet file needs its cfg (--cfg)"


def test_where_the_cfg_of_an_official_file_cannot_be_had_it_is_asked_for(darknet_files, file_server, monkeypatch):
    path = darknet_files(DETECTOR)
    path.with_suffix(".cfg").unlink()
    weights = File("net.weights", Remote((), (path.stat().st_size,)))
    cfg = File("texts/my.cfg", Remote((file_server.url("missing/my.cfg"),), (9,)))
    monkeypatch.setitem(ENTRIES, "net", Entry("net", "detector", "", "", weights, cfg))
    message = refusal(WeightsError, open_weights, path)
    assert message.startswith(f"{path}: a Darknet file needs its cfg (--cfg); my.cfg could not be downloaded")


@pytest.mark.parametrize("name", ["yolov3", "none/at/all.pt", "x" * 1000])
def test_what_is_nothing_at_all_is_refused_without_the_network(name):
    message = refusal(WeightsError, open_weights, name)
    assert message.startswith(f"{name}: no such file or run, and not in the catalogue; ")


# Checkpoints and runs


def test_a_checkpoint_and_a_run_folder_are_opened(tmp_path):
    stored = own_model()
    checkpoint.save(stored, tmp_path / "run" / "checkpoints" / "last.pt")
    found = open_weights(tmp_path / "run")
    assert found.config == stored.config
    checkpoint.save(replace(stored, labels=WordTree.flat(["a", "b", "c"])), tmp_path / "run" / "checkpoints/best.pt")
    assert open_weights(str(tmp_path / "run")).labels.ids == ("a", "b", "c")
    assert open_weights(tmp_path / "run/checkpoints/last.pt").labels == LABELS
    (tmp_path / "run/checkpoints/last.pt").rename(tmp_path / "renamed")
    assert open_weights(tmp_path / "renamed").labels == LABELS  # known by what is inside
    cfg = DarknetFiles(cfg=tmp_path / "a.cfg")
    for source, kind in ((tmp_path / "run", "a run"), (tmp_path / "renamed", "a checkpoint")):
        message = refusal(ConfigError, open_weights, source, cfg)
        assert message == f"--cfg: is only for Darknet weights files; {source} is {kind}"
    (tmp_path / "empty").mkdir()
    assert "a folder without checkpoints/best.pt" in refusal(WeightsError, open_weights, tmp_path / "empty")


def test_weights_that_do_not_fit_their_config_are_refused():
    stored = own_model()
    wrong = replace(stored, weights={**stored.weights, "head.conv.bias": torch.zeros(3)})
    assert refusal(WeightsError, build_stored, wrong, "a.pt") == (
        "a.pt: the weights do not fit the model in the file's config"
    )


# And back


@pytest.mark.parametrize("header", [LONG, OLD, Header(0, 1, 0, -1)])
@pytest.mark.parametrize(
    ("cfg", "layers"), [(DETECTOR, None), (DETECTOR, 1), (DETECTOR, 2), (CLASSIFIER, None), (CLASSIFIER, 1)]
)
def test_from_darknet_to_a_checkpoint_and_back_is_the_same_file(darknet_files, tmp_path, header, cfg, layers):
    path = darknet_files(cfg, header, layers)
    checkpoint.save(open_weights(path), tmp_path / "net.pt")
    written = write_darknet(open_weights(tmp_path / "net.pt"), "net.pt", tmp_path / "out" / "again.weights")
    assert [(p.name, note) for p, note in written] == [("again.weights", ""), ("again.cfg", "")]  # no names known
    assert written[0].path.read_bytes() == path.read_bytes()
    assert written[1].path.read_text() == cfg
    assert open_weights(written[0].path).darknet == open_weights(path).darknet


def test_numbers_that_are_none_survive_a_checkpoint(darknet_files, tmp_path):
    path = darknet_files()
    content = bytearray(path.read_bytes())
    content[20:28] = b"\x34\x12\xc0\x7f\x01\x00\x80\xff"  # two NaNs, one of them signalling
    path.write_bytes(content)
    checkpoint.save(open_weights(path), tmp_path / "net.pt")
    write_darknet(open_weights(tmp_path / "net.pt"), "net.pt", tmp_path / "again.weights")
    assert (tmp_path / "again.weights").read_bytes() == content


@torch.no_grad()
@pytest.mark.parametrize(
    "model",
    [
        ("model.name=yolov2",), ("model.name=yolov2", "model.passthrough=paper"),
        ("model.name=yolov2", "model.passthrough=none"), ("model.name=yolov2-tiny",), ("model.name=yolov2-tiny-voc",),
    ],
)  # fmt: skip
def test_a_package_model_computes_the_same_as_a_darknet_file(tmp_path, model):
    stored = own_model(*model)
    written = write_darknet(stored, "own.pt", tmp_path / "own.weights")
    assert [path.name for path, _ in written] == ["own.weights", "own.cfg", "own.names"]
    again = open_weights(written[0].path, DarknetFiles(names=written[2].path))
    assert again.labels == LABELS
    assert again.darknet["seen"] == 640
    x = torch.rand(2, 3, 64, 96)
    expected = build_stored(stored, "own.pt").eval()(x)
    found = build_stored(again, "own.weights").eval()(x)
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


@torch.no_grad()
def test_a_tree_goes_along(tmp_path):
    tree = WordTree(("animal", "cat", "dog"), ("an animal", "cat", "dog"), (-1, 0, 0))
    stored = own_model("model.name=yolov2-tiny", labels=tree)
    written = [path for path, _ in write_darknet(stored, "own.pt", tmp_path / "own.weights")]
    assert [path.suffix for path in written] == [".weights", ".cfg", ".names", ".tree"]
    assert open_weights(written[0]).labels == tree  # all are beside it
    written[2].rename(tmp_path / "elsewhere.names")
    assert open_weights(written[0]).labels.names == tree.ids
    assert open_weights(written[0], DarknetFiles(names=tmp_path / "elsewhere.names")).labels == tree


@pytest.mark.parametrize("cfg", [DETECTOR, CLASSIFIER.replace("filters=5", "filters=3")])
def test_the_cfg_of_a_tree_names_the_tree_that_is_written_beside_it(darknet_files, tmp_path, cfg):
    path = darknet_files(cfg + "# of the animals\ntree = data/my.tree\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "my.tree").write_text(TREE)
    checkpoint.save(open_weights(path), tmp_path / "net.pt")
    target = tmp_path / "out" / "again.weights"
    written = write_darknet(open_weights(tmp_path / "net.pt"), "net.pt", target)
    assert [path for path, _ in written] == [target.with_suffix(s) for s in (".weights", ".cfg", ".names", ".tree")]
    assert [note for _, note in written] == ["", "tree=again.tree (was tree=data/my.tree)", "", ""]
    assert target.read_bytes() == path.read_bytes()
    assert target.with_suffix(".cfg").read_text() == cfg + "# of the animals\ntree=again.tree\n"
    (tmp_path / "data" / "my.tree").unlink()
    assert open_weights(target).labels == open_weights(tmp_path / "net.pt").labels
    again = write_darknet(open_weights(target), target, target)  # onto itself: nothing is left to change
    assert [note for _, note in again] == [""] * 4
    assert target.read_bytes() == path.read_bytes()


def test_of_a_map_it_is_said_that_it_does_not_come_along(darknet_files, tmp_path):
    path = darknet_files(DETECTOR + "tree=my.tree\nmap=data/my.map\n")
    (tmp_path / "my.tree").write_text(TREE)
    (_, (cfg, note), *_) = write_darknet(open_weights(path), path, tmp_path / "out.weights")
    assert note == (
        "tree=out.tree (was tree=my.tree); map=data/my.map is unchanged; that file is not part of a checkpoint"
    )
    assert "map=data/my.map\n" in cfg.read_text()


def test_a_flat_tree_that_a_cfg_names_is_written_too(darknet_files, tmp_path):
    path = darknet_files(DETECTOR + "tree=my.tree\n")
    (tmp_path / "my.tree").write_text("a -1\nb -1\nc -1\n")
    written = write_darknet(open_weights(path), path, tmp_path / "out.weights")
    assert [p.name for p, _ in written] == ["out.weights", "out.cfg", "out.names", "out.tree"]
    assert open_weights(written[0].path).labels.ids == ("a", "b", "c")


def test_a_tree_with_blanks_in_its_name_is_refused_for_no_cfg_can_name_it(tmp_path):
    tree = WordTree(("animal", "cat"), ("animal", "cat"), (-1, 0))
    stored = own_model("model.name=yolov2-tiny", labels=tree)
    message = refusal(WeightsError, write_darknet, stored, "own.pt", tmp_path / "my own.weights")
    assert "a cfg cannot name a tree whose file name has spaces" in message
    assert list(tmp_path.iterdir()) == []


def test_a_detector_whose_tree_is_not_here_is_neither_run_nor_written(darknet_files, tmp_path):
    path = darknet_files(DETECTOR + "tree=data/my.tree\n")
    stored = open_weights(path)  # a training may start from it
    expected = f"{path}: the label tree of its cfg, data/my.tree, is missing; give it with --tree"
    assert refusal(WeightsError, build_detector, stored, path) == expected
    assert refusal(WeightsError, write_darknet, stored, path, tmp_path / "out.weights") == expected
    assert not (tmp_path / "out.weights").exists()
    (tmp_path / "my.tree").write_text(TREE)
    build_detector(open_weights(path), path)


def test_what_a_tree_file_cannot_say_is_refused_before_anything_is_written(tmp_path):
    tree = WordTree(("animal", "white cat"), ("a", "b"), (-1, 0))
    stored = own_model("model.name=yolov2-tiny", labels=tree)
    assert "'white cat': an id in a .tree file must not contain spaces" in refusal(
        DataError, write_darknet, stored, "own.pt", tmp_path / "own.weights"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_a_cfg_cannot_say_is_refused_before_anything_is_written(tmp_path):
    stored = own_model("model.norm.eps=0.001")
    assert "model.norm.eps" in refusal(WeightsError, write_darknet, stored, "own.pt", tmp_path / "own.weights")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".cfg", ".names", ".tree"])
def test_weights_are_not_written_where_their_texts_go(tmp_path, suffix):
    target = tmp_path / f"own{suffix}"
    assert "use for example own.weights" in refusal(WeightsError, write_darknet, own_model(), "own.pt", target)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_the_machines_fault(tmp_path):
    (tmp_path / "own.cfg").mkdir()
    assert "own.cfg: cannot be written" in refusal(
        MachineError, write_darknet, own_model(), "own.pt", tmp_path / "own.weights"
    )
