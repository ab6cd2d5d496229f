"""Loading the layers of another network."""

import pytest
import torch

from yolo9k import darknet
from yolo9k.build import build_classifier, build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import load_classifier_config, load_config
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.darknet.recipe import config_from_cfg
from yolo9k.darknet.weights import Header, conv_layers, write_weights
from yolo9k.models.darknet19 import DARKNET19
from yolo9k.models.layers import scaled
from yolo9k.pretrained import open_weights
from yolo9k.training import transfer as transfers
from yolo9k.training.transfer import Transfer, with_norm
from yolo9k.wordtree import WordTree

WIDTH = 0.125
SMALL = (f"model.width={WIDTH}", "model.anchors=[[1, 2], [3, 4]]")
NET = "[net]\nwidth=32\nheight=32\nchannels=3\n"


def conv(filters, size=3):
    return f"[conv]\nbatch_normalize=1\nfilters={filters}\nsize={size}\npad=1\nactivation=leaky\n"


def darknet19() -> str:
    """Return the cfg of a narrow Darknet-19 classifier: 18 convolutions and the last one."""
    rows = ["".join(conv(scaled(channels, WIDTH), size) for channels, size in row) for row in DARKNET19]
    return NET + "[maxpool]\nsize=2\nstride=2\n".join(rows) + "[conv]\nfilters=10\n[avgpool]\n[softmax]\n"


@pytest.fixture
def opened(tmp_path):
    """`opened(cfg, layers)` opens a Darknet file of the first `layers` layers."""

    def make(cfg, layers=None):
        torch.manual_seed(1)
        path = tmp_path / "a.weights"
        path.with_suffix(".cfg").write_text(cfg)
        network = darknet.load(path.with_suffix(".cfg"))
        with torch.no_grad():
            for value in network.state_dict().values():
                if value.is_floating_point():
                    value.uniform_(0.5, 1.5)
        write_weights(path, conv_layers(network)[:layers], Header())
        return open_weights(path)

    return make


def detector(name="yolov2", labels=3, width=WIDTH, seed=0):
    torch.manual_seed(seed)
    config = load_config(None, [f"model.name={name}", *SMALL, f"model.width={width}"])
    labels = WordTree.flat([str(i) for i in range(labels)])
    network = build_network(config.model, labels)
    return Checkpoint(config, labels, {k: v.clone() for k, v in network.state_dict().items()}), network


def transfer(stored, network, config=None, labels=None):
    """Transfer to a network; without a config, to one whose labels are the indices of its classes."""
    if config is None:
        is_cfg = isinstance(network, DarknetNetwork)
        config = config_from_cfg(network.cfg) if is_cfg else load_config(None, [*SMALL])
        count = network.classes if is_cfg else network.head.num_labels
        labels = labels or WordTree.flat([str(index) for index in range(count)])
    return transfers.transfer(stored, network, config, labels)


def layer(state, name):
    return {key: value for key, value in state.items() if key.startswith(f"{name}.")}


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for value, other in zip(first.values(), second.values(), strict=True):
        assert torch.equal(value, other)


def test_layers_of_the_same_model_are_matched_by_name():
    stored, _ = detector(labels=7, seed=1)
    network = detector()[1]
    report = transfer(stored, network)
    assert report.new == report.unused == ()
    assert len(report.loaded) == 23
    assert report.classes == "head: 3 of 3 classes by name (0, 1, 2); new: none; not used: 3, 4, 5, 6"
    state = network.state_dict()
    for name in report.loaded[:-1]:
        assert_same(layer(state, name), layer(stored.weights, name))


def test_names_matter_more_than_the_order():
    stored, _ = detector()
    _, network = detector(seed=1)
    shuffled = Checkpoint(stored.config, stored.labels, dict(reversed(stored.weights.items())))
    assert transfer(shuffled, network).new == ()
    assert_same(network.state_dict(), stored.weights)


def test_yolov2_starts_from_a_partial_classifier(opened):
    stored = opened(darknet19(), 18)
    before, network = detector()
    report = transfer(stored, network)
    convolutions = [block.name.removesuffix(".conv") for block in conv_layers(network)]
    assert list(report.loaded) == convolutions[:18]
    assert list(report.new) == convolutions[18:]
    assert report.unused == ()
    names = [name for name in stored.weights if name.endswith(".conv.weight")]
    state = network.state_dict()
    for name, target in zip(names[:18], report.loaded, strict=True):
        assert_same(layer(state, target), layer(stored.weights, name.removesuffix(".conv.weight")))
    for name in report.new:
        assert_same(layer(state, name), layer(before.weights, name))


def test_the_last_layer_of_a_whole_classifier_is_unused(opened):
    stored = opened(darknet19())
    report = transfer(stored, detector()[1])
    assert len(report.loaded) == 18
    assert len(report.unused) == 1
    assert report.unused[0].startswith("layers.23")
    assert str(report) == (
        "18 of 23 layers: backbone.fine.0.0 to backbone.coarse.5; new: neck.deepen.0 to head; unused: layers.23"
    )


def test_matching_in_order_ends_at_the_first_layer_that_does_not_fit(opened):
    report = transfer(opened(NET + conv(8) + conv(8) + conv(24) + conv(16, 1)), detector()[1])
    assert [name.split(".")[-1] for name in report.loaded] == ["0", "1"]
    assert report.unused == ("layers.2", "layers.3")  # even if the last one would fit
    assert len(report.new) == 21


def test_a_partial_file_provides_only_the_layers_it_has(opened):
    cfg = NET + conv(8) + conv(8) + conv(16)
    stored = opened(cfg, 1)
    network = darknet.load(darknet.parse_cfg(cfg))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    report = transfer(stored, network)
    assert (report.loaded, report.new, report.unused) == (("layers.0",), ("layers.1", "layers.2"), ())
    assert_same(layer(network.state_dict(), "layers.0"), layer(stored.weights, "layers.0"))
    assert_same(layer(network.state_dict(), "layers.2"), layer(before, "layers.2"))


def test_stopbackward_does_not_change_the_layers(opened):
    cfg = NET + conv(8) + conv(8)
    network = darknet.load(darknet.parse_cfg(cfg + "stopbackward=1\n" + conv(16)))
    report = transfer(opened(cfg), network)
    assert (report.loaded, report.new, report.unused) == (("layers.0", "layers.1"), ("layers.2",), ())


def test_a_network_without_common_layers_keeps_its_weights(opened):
    before, network = detector()
    report = transfer(opened(NET + conv(5)), network)
    assert (report.loaded, report.unused) == ((), ("layers.0",))
    assert str(report).startswith("0 of 23 layers: none; new: backbone.fine.0.0 to head; unused")
    assert_same(network.state_dict(), before.weights)


def test_loaded_layers_are_trainable(opened):
    network = detector()[1]
    transfer(opened(darknet19(), 18), network)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_layers_of_two_cfgs_are_matched_in_order_whatever_their_numbers(opened):
    stored = opened(NET + conv(8) + conv(16) + "[maxpool]\nstride=2\n" + conv(16) + conv(16) + conv(24))
    pooled = NET + conv(8) + "[dropout]\n" + conv(16) + conv(16) + conv(16)  # other layer numbers here
    network = darknet.load(darknet.parse_cfg(pooled))
    report = transfer(stored, network)
    assert report.pairs == {
        "layers.0": "layers.0",
        "layers.2": "layers.1",
        "layers.3": "layers.3",
        "layers.4": "layers.4",
    }
    state = network.state_dict()
    for name, source_name in report.pairs.items():
        assert_same(layer(state, name), layer(stored.weights, source_name))
    assert report.unused == ("layers.5",)


def test_between_two_cfgs_nothing_is_loaded_after_a_layer_that_does_not_fit(opened):
    stored = opened(NET + conv(8) + conv(8) + conv(16) + conv(16))
    report = transfer(stored, darknet.load(darknet.parse_cfg(NET + conv(8) + conv(8, 1) + conv(16) + conv(16))))
    assert (report.loaded, report.unused) == (("layers.0",), ("layers.1", "layers.2", "layers.3"))


def test_yolo9000_starts_from_the_layers_it_shares_with_yolov2(shared, opened):
    folder = shared("golden", "darknet", "cfg")
    stored = opened((folder / "yolov2.cfg").read_text())
    report = transfer(stored, darknet.DarknetNetwork(darknet.read_cfg(folder / "yolo9000.cfg")))
    assert str(report) == "18 of 19 layers: layers.0 to layers.22; new: layers.23; unused: layers.23 to layers.30"


@pytest.mark.parametrize("kind", ["frozen", "sync", "group", "none"])
def test_batch_norms_are_converted_to_the_norm_of_the_model(kind):
    stored, source = detector(seed=1)
    for name, value in stored.weights.items():
        if name.endswith(("running_mean", "running_var", "norm.weight", "norm.bias")):
            value.uniform_(0.5, 1.5)
    source.load_state_dict(dict(stored.weights))
    config = load_config(None, [*SMALL, f"model.norm.kind={kind}"])
    network = build_network(config.model, stored.labels).eval()
    report = transfer(with_norm(stored, config.model.norm, "source.pt"), network, config, stored.labels)
    assert len(report.loaded) == 23
    images = torch.rand(2, 3, 64, 64)
    if kind == "group":  # computes something else with the same factors
        assert torch.equal(network.neck.join.norm.weight, stored.weights["neck.join.norm.weight"])
        assert torch.equal(network.neck.join.conv.weight, stored.weights["neck.join.conv.weight"])
    else:
        with torch.no_grad():
            torch.testing.assert_close(network(images), source.eval()(images), rtol=1e-3, atol=1e-4)


def test_group_norm_is_not_converted_to_batch_norm():
    group = load_config(None, [*SMALL, "model.norm.kind=group"])
    labels = WordTree.flat(["0", "1", "2"])
    stored = Checkpoint(group, labels, build_network(group.model, labels).state_dict())
    batch, network = detector()
    assert with_norm(stored, batch.config.model.norm, "source.pt") is stored
    assert transfer(stored, network).loaded == ("head",)


def test_a_report_writes_neighbours_as_ranges():
    names = ("a", "b", "c", "d", "e", "f")
    assert str(Transfer({"a": "x", "b": "y"}, names[:2], ("x", "y"))) == "2 of 2 layers: a, b; new: none; unused: none"
    report = Transfer({"a": "z", "d": "y", "e": "x"}, names, ("v", "w", "x", "y", "z"))
    assert str(report) == "3 of 6 layers: a, d, e; new: b, c, f; unused: v, w"
    assert str(Transfer({"f": "z"}, names, ("z",))) == "1 of 6 layers: f; new: a to e; unused: none"


def test_the_last_layer_of_a_darknet_classifier_is_loaded(opened):
    stored = opened(darknet19())
    config = load_classifier_config(None, [f"model.width={WIDTH}"])
    labels = WordTree.flat([f"kind {i}" for i in range(10)])
    network = build_classifier(config.model, labels)
    report = transfer(stored, network, config, labels)
    assert report.new == ()
    assert report.classes.startswith("last: the classes of the weights have no names: taken in order (kind 0, kind 1")
    assert torch.equal(network.last.weight, list(stored.weights.values())[-2])
