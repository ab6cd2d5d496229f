"""Starting from another network's layers."""

import pytest
import torch

from yolo9k import darknet
from yolo9k.build import build_classifier, build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import load_classifier_config, load_config
from yolo9k.darknet.weights import Header, blocks, write_weights
from yolo9k.models.darknet19 import DARKNET19
from yolo9k.models.layers import scaled
from yolo9k.pretrained import open_weights
from yolo9k.training.transfer import Transfer, transfer, with_norm
from yolo9k.wordtree import WordTree

WIDTH = 0.125
SMALL = (f"model.width={WIDTH}", "model.anchors=[[1, 2], [3, 4]]")
NET = "[net]\nwidth=32\nheight=32\nchannels=3\n"


def conv(filters, size=3):
    return f"[conv]\nbatch_normalize=1\nfilters={filters}\nsize={size}\npad=1\nactivation=leaky\n"


def darknet19() -> str:
    """The classifier's cfg, narrower: 18 convolutions and the last one."""
    rows = ["".join(conv(scaled(channels, WIDTH), size) for channels, size in row) for row in DARKNET19]
    return NET + "[maxpool]\nsize=2\nstride=2\n".join(rows) + "[conv]\nfilters=10\n[avgpool]\n[softmax]\n"


@pytest.fixture
def opened(tmp_path):
    """`opened(cfg, layers)` is a Darknet file of the first layers, opened."""

    def make(cfg, layers=None):
        torch.manual_seed(1)
        path = tmp_path / "a.weights"
        path.with_suffix(".cfg").write_text(cfg)
        network = darknet.load(path.with_suffix(".cfg"))
        with torch.no_grad():
            for value in network.state_dict().values():
                if value.is_floating_point():
                    value.uniform_(0.5, 1.5)
        write_weights(path, blocks(network)[:layers], Header())
        return open_weights(path)

    return make


def own(name="yolov2", labels=3, width=WIDTH, seed=0):
    torch.manual_seed(seed)
    config = load_config(None, [f"model.name={name}", *SMALL, f"model.width={width}"])
    labels = WordTree.flat([str(number) for number in range(labels)])
    network = build_network(config.model, labels)
    return Checkpoint(config, labels, {k: v.clone() for k, v in network.state_dict().items()}), network


def layer(state, name):
    return {key: value for key, value in state.items() if key.startswith(f"{name}.")}


def assert_same(found, wanted):
    assert len(found) == len(wanted) > 0
    for value, other in zip(found.values(), wanted.values(), strict=True):
        assert torch.equal(value, other)


def test_layers_of_the_same_model_are_taken_by_name():
    stored, _ = own(labels=7, seed=1)
    before, network = own()
    report = transfer(stored, network)
    assert report.new == report.left_out == ("head",)  # other labels, another shape
    assert len(report.taken) == 22
    state = network.state_dict()
    for name in report.taken:
        assert_same(layer(state, name), layer(stored.weights, name))
    assert_same(layer(state, "head"), layer(before.weights, "head"))


def test_names_decide_even_where_the_order_would_not_fit():
    stored, _ = own()
    _, network = own(seed=1)
    shuffled = Checkpoint(stored.config, stored.labels, dict(reversed(stored.weights.items())))
    assert transfer(shuffled, network).new == ()
    assert_same(network.state_dict(), stored.weights)


def test_yolov2_starts_from_a_partial_classifier(opened):
    stored = opened(darknet19(), 18)
    before, network = own()
    report = transfer(stored, network)
    convolutions = [block.name.removesuffix(".conv") for block in blocks(network)]
    assert list(report.taken) == convolutions[:18]
    assert list(report.new) == convolutions[18:]
    assert report.left_out == ()
    names = [name for name in stored.weights if name.endswith(".conv.weight")]
    state = network.state_dict()
    for name, target in zip(names[:18], report.taken, strict=True):
        assert_same(layer(state, target), layer(stored.weights, name.removesuffix(".conv.weight")))
    for name in report.new:
        assert_same(layer(state, name), layer(before.weights, name))


def test_of_a_whole_classifier_the_last_layer_is_left_out(opened):
    stored = opened(darknet19())
    report = transfer(stored, own()[1])
    assert len(report.taken) == 18
    assert len(report.left_out) == 1
    assert report.left_out[0].startswith("layers.23")
    assert str(report) == (
        "18 of 23 layers: backbone.fine.0.0 to backbone.coarse.5; new: neck.deepen.0 to head; left out: layers.23"
    )


def test_the_order_ends_at_the_first_layer_that_does_not_fit(opened):
    report = transfer(opened(NET + conv(8) + conv(8) + conv(24) + conv(16, 1)), own()[1])
    assert [name.split(".")[-1] for name in report.taken] == ["0", "1"]
    assert report.left_out == ("layers.2", "layers.3")  # though the last would fit again
    assert len(report.new) == 21


def test_of_a_partial_file_nothing_is_taken_that_it_does_not_hold(opened):
    cfg = NET + conv(8) + conv(8) + conv(16)
    stored = opened(cfg, 1)
    network = darknet.load(darknet.parse_cfg(cfg))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    report = transfer(stored, network)
    assert (report.taken, report.new, report.left_out) == (("layers.0",), ("layers.1", "layers.2"), ())
    assert_same(layer(network.state_dict(), "layers.0"), layer(stored.weights, "layers.0"))
    assert_same(layer(network.state_dict(), "layers.2"), layer(before, "layers.2"))


def test_a_cfg_that_stops_the_way_back_has_the_same_layers(opened):
    cfg = NET + conv(8) + conv(8)
    network = darknet.load(darknet.parse_cfg(cfg + "stopbackward=1\n" + conv(16)))
    report = transfer(opened(cfg), network)
    assert (report.taken, report.new, report.left_out) == (("layers.0", "layers.1"), ("layers.2",), ())


def test_networks_that_share_nothing_stay_as_they_are(opened):
    before, network = own()
    report = transfer(opened(NET + conv(5)), network)
    assert (report.taken, report.left_out) == ((), ("layers.0",))
    assert str(report).startswith("0 of 23 layers: none; new: backbone.fine.0.0 to head; left")
    assert_same(network.state_dict(), before.weights)


def test_what_is_taken_still_learns(opened):
    network = own()[1]
    transfer(opened(darknet19(), 18), network)
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_layers_of_two_cfgs_are_taken_in_their_order_whatever_their_numbers(opened):
    stored = opened(NET + conv(8) + conv(16) + "[maxpool]\nstride=2\n" + conv(16) + conv(16) + conv(24))
    pooled = NET + conv(8) + "[dropout]\n" + conv(16) + conv(16) + conv(16)  # the numbers of 16 x 16 are others now
    network = darknet.load(darknet.parse_cfg(pooled))
    report = transfer(stored, network)
    assert report.pairs == {
        "layers.0": "layers.0",
        "layers.2": "layers.1",
        "layers.3": "layers.3",
        "layers.4": "layers.4",
    }
    state = network.state_dict()
    for name, source in report.pairs.items():
        assert_same(layer(state, name), layer(stored.weights, source))
    assert report.left_out == ("layers.5",)


def test_between_two_cfgs_nothing_is_taken_behind_a_layer_that_does_not_fit(opened):
    stored = opened(NET + conv(8) + conv(8) + conv(16) + conv(16))
    report = transfer(stored, darknet.load(darknet.parse_cfg(NET + conv(8) + conv(8, 1) + conv(16) + conv(16))))
    assert (report.taken, report.left_out) == (("layers.0",), ("layers.1", "layers.2", "layers.3"))


def test_yolo9000_starts_from_yolov2_with_their_common_layers(shared, opened):
    folder = shared("golden", "darknet", "cfg")
    stored = opened((folder / "yolov2.cfg").read_text())
    report = transfer(stored, darknet.DarknetNetwork(darknet.read_cfg(folder / "yolo9000.cfg")))
    assert str(report) == "18 of 19 layers: layers.0 to layers.22; new: layers.23; left out: layers.23 to layers.30"


@pytest.mark.parametrize(("kind", "taken"), [("frozen", 23), ("sync", 23), ("group", 23), ("none", 23)])
def test_batch_norms_become_what_the_model_has(kind, taken):
    stored, theirs = own(seed=1)
    for name, value in stored.weights.items():
        if name.endswith(("running_mean", "running_var", "norm.weight", "norm.bias")):
            value.uniform_(0.5, 1.5)
    theirs.load_state_dict(dict(stored.weights))
    config = load_config(None, [*SMALL, f"model.norm.kind={kind}"])
    network = build_network(config.model, stored.labels).eval()
    report = transfer(with_norm(stored, config.model.norm, "theirs.pt"), network)
    assert len(report.taken) == taken
    images = torch.rand(2, 3, 64, 64)
    if kind == "group":  # which computes something else with the same factors
        assert torch.equal(network.neck.join.norm.weight, stored.weights["neck.join.norm.weight"])
        assert torch.equal(network.neck.join.conv.weight, stored.weights["neck.join.conv.weight"])
    else:
        with torch.no_grad():
            torch.testing.assert_close(network(images), theirs.eval()(images), rtol=1e-3, atol=1e-4)


def test_group_norm_cannot_become_batch_norm():
    group = load_config(None, [*SMALL, "model.norm.kind=group"])
    labels = WordTree.flat(["0", "1", "2"])
    stored = Checkpoint(group, labels, build_network(group.model, labels).state_dict())
    batch, network = own()
    assert with_norm(stored, batch.config.model.norm, "theirs.pt") is stored
    assert transfer(stored, network).taken == ("head",)


def test_a_report_names_neighbours_as_first_to_last():
    own = ("a", "b", "c", "d", "e", "f")
    assert str(Transfer({"a": "x", "b": "y"}, own[:2], ("x", "y"))) == "2 of 2 layers: a, b; new: none; left out: none"
    found = Transfer({"a": "z", "d": "y", "e": "x"}, own, ("v", "w", "x", "y", "z"))
    assert str(found) == "3 of 6 layers: a, d, e; new: b, c, f; left out: v, w"
    assert str(Transfer({"f": "z"}, own, ("z",))) == "1 of 6 layers: f; new: a to e; left out: none"


def test_the_last_layer_of_a_darknet_classifier_is_taken(opened):
    stored = opened(darknet19())
    config = load_classifier_config(None, [f"model.width={WIDTH}"])
    network = build_classifier(config.model, WordTree.flat([str(number) for number in range(10)]))
    assert transfer(stored, network).new == ()
    assert torch.equal(network.last.weight, list(stored.weights.values())[-2])
