"""Weights files, byte for byte: headers, partial files, and files that are not weights."""

import io
import itertools
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from yolo9k import darknet
from yolo9k.darknet.weights import Header, conv_layers, describe, read_header, read_weights, write_weights
from yolo9k.errors import MachineError, WeightsError
from yolo9k.models.darknet19 import Classifier, Darknet19
from yolo9k.models.yolov2 import yolov2

CFG = """[net]
width=16
height=16
channels=3
[conv]
batch_normalize=1
filters=4
size=3
pad=1
[maxpool]
stride=2
[conv]
filters=6
groups=2
size=3
pad=1
[conv]
batch_normalize=1
filters=8
[region]
classes=3
"""
VALUES = (4 * 4 + 4 * 3 * 9, 6 + 6 * 2 * 9, 4 * 8 + 8 * 6)  # values of each layer
LONG, OLD = Header(0, 2, 0, 12_345_678_901), Header(0, 1, 7, 64_000)


def content(header: Header = LONG, layers: int = 3, count: int | None = None) -> bytes:
    count = sum(VALUES[:layers]) if count is None else count
    values = np.random.default_rng(0).normal(size=count).astype(np.float32)
    return header.to_bytes() + values.tobytes()


@pytest.fixture
def cfg():
    return darknet.parse_cfg(CFG, "a.cfg")


@pytest.fixture
def file(tmp_path):
    """`file(content)` writes a file and returns its path."""
    indices = itertools.count()

    def write(content: bytes):
        path = tmp_path / f"{next(indices)}.weights"
        path.write_bytes(content)
        return path

    return write


def refusal(path, cfg) -> str:
    with pytest.raises(WeightsError) as refused:
        darknet.load(cfg, path)
    message = str(refused.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("header", [LONG, OLD, Header(0, 1, 0, -1), Header(1, 0, 0, 1 << 40), Header(0, 1000, 3, 9)])
def test_both_headers_are_written_back_byte_for_byte(cfg, file, header):
    start = file(content(header))
    assert header.size == (20 if header in (LONG, Header(1, 0, 0, 1 << 40)) else 16)
    net = darknet.load(cfg, start)
    assert net.origin.header == header
    darknet.save(net, start.with_name("copy.weights"))
    assert start.with_name("copy.weights").read_bytes() == start.read_bytes()
    assert sorted(path.name for path in start.parent.iterdir()) == ["0.weights", "copy.weights"]


def test_the_tensors_of_a_layer_are_in_darknets_order(cfg, file):
    net = darknet.load(cfg, file(LONG.to_bytes() + np.arange(sum(VALUES), dtype=np.float32).tobytes()))
    first, second = net.layers[0], net.layers[2]
    assert first.norm.bias.tolist() == [0, 1, 2, 3]
    assert first.norm.weight.tolist() == [4, 5, 6, 7]
    assert first.norm.running_mean.tolist() == [8, 9, 10, 11]
    assert first.norm.running_var.tolist() == [12, 13, 14, 15]
    assert first.conv.weight.flatten().tolist() == list(range(16, VALUES[0]))
    assert first.conv.weight.shape == (4, 3, 3, 3)
    assert second.conv.bias.tolist() == list(range(VALUES[0], VALUES[0] + 6))
    assert second.conv.weight.shape == (6, 2, 3, 3)


def test_a_fresh_network_is_written_with_darknets_default_header(cfg, tmp_path):
    darknet.save(darknet.load(cfg), tmp_path / "deep" / "new.weights")
    written = (tmp_path / "deep" / "new.weights").read_bytes()
    assert written[:20] == struct.pack("<iiiq", 0, 2, 0, 0)
    assert len(written) == 20 + 4 * sum(VALUES)


def test_seen_beyond_32_bits_is_refused_for_an_old_header(cfg, tmp_path):
    with pytest.raises(WeightsError, match=r"version 0\.1\.0 cannot hold seen 4294967296"):
        darknet.save(darknet.load(cfg), tmp_path / "a.weights", Header(0, 1, 0, 1 << 32))
    assert list(tmp_path.iterdir()) == []


def test_no_file_remains_if_writing_fails(cfg, tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(MachineError, match="taken: cannot be written"):
        darknet.save(darknet.load(cfg), tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("layers", [1, 2])
def test_a_partial_file_fills_the_first_layers(cfg, file, layers):
    path = file(content(layers=layers))
    net = darknet.load(cfg, path)
    assert net.origin.layer_count == layers
    network_layers = conv_layers(net)
    write_weights(path.with_name("copy"), network_layers[:layers], net.origin.header)
    assert path.with_name("copy").read_bytes() == path.read_bytes()
    for layer in network_layers[layers:]:
        *first, weight = layer.tensors
        assert torch.isfinite(weight).all()
        assert 0.1 < weight.std() < 3
        expected = [0, 1, 0, 1] if len(first) == 4 else [0]  # bias, scale, mean, variance
        assert [tensor.unique().tolist() for tensor in first] == [[value] for value in expected]


def test_layers_missing_in_a_partial_file_are_initialised_again(cfg, file):
    net = darknet.load(cfg, file(content()))
    net.read(file(content(layers=2)))
    last = net.layers[3].norm
    assert last.running_var.unique().tolist() == last.weight.unique().tolist() == [1]
    assert last.running_mean.unique().tolist() == last.bias.unique().tolist() == [0]


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (0, f"layers.0.conv does not fit: it requires {4 * VALUES[0]} bytes, 0 remain"),
        (1, f"layers.0.conv does not fit: it requires {4 * VALUES[0]} bytes, 4 remain"),
        (VALUES[0] + 5, f"after 1 layers that fit, layers.2.conv does not fit: it requires {4 * VALUES[1]} bytes, 20 "),
        (sum(VALUES) - 1, f"after 2 layers that fit, layers.3.conv does not fit: it requires {4 * VALUES[2]} bytes"),
        (sum(VALUES) + 1, "4 bytes remain after the last of 3 layers; check that the cfg belongs to these weights"),
        (sum(VALUES) + 9000, "36,000 bytes remain after the last of 3 layers"),
    ],
)
def test_a_layer_that_does_not_fit_is_named_with_the_remaining_bytes(cfg, file, count, message):
    assert message in refusal(file(content(count=count)), cfg)


def test_a_file_truncated_inside_a_value_is_refused(cfg, file):
    path = file(content()[:-3])
    assert f"layers.3.conv does not fit: it requires {4 * VALUES[2]} bytes, {4 * VALUES[2] - 3} remain" in refusal(
        path, cfg
    )
    with pytest.raises(WeightsError, match=r"bytes after the header; must be a multiple of 4"):
        read_header(path)


def test_a_header_of_the_wrong_length_shifts_the_values_and_is_refused(cfg, file):
    long_as_old = struct.pack("<iiiq", 0, 1, 0, 5) + content()[20:]
    old_as_long = struct.pack("<iiii", 0, 2, 0, 5) + content()[20:]
    assert "4 bytes remain after the last of 3 layers" in refusal(file(long_as_old), cfg)
    assert "after 2 layers that fit, layers.3.conv does not fit" in refusal(file(old_as_long), cfg)


def archive() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(9)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\0" * 15, "15 bytes; a weights file begins"),
        (struct.pack("<iiii", 0, 2, 0, 5), "16 bytes; the header of this version has 20"),
        (b"<!DOCTYPE html>\n<html></html>" * 9, "an HTML page, not weights"),
        (b"\n  <HTML><body>not found</body>", "an HTML page, not weights"),
        (b"<html>", "an HTML page, not weights"),
        (archive(), "a PyTorch or zip file, not Darknet weights"),
        (b"PK", "a PyTorch or zip file"),
        (CFG.encode(), "neither a checkpoint nor a Darknet weights file"),
        (b"\xff" * 64, "neither a checkpoint nor a Darknet weights file"),
    ],
)
def test_a_file_that_is_not_weights_is_refused_with_what_it_is(cfg, file, content, message):
    path = file(content)
    assert message in refusal(path, cfg)
    with pytest.raises(WeightsError) as refused:
        read_header(path)
    assert message in str(refused.value)


def test_a_missing_file_and_a_folder_are_refused(cfg, tmp_path):
    assert refusal(tmp_path / "none", cfg) == "cannot be read: No such file or directory"
    assert refusal(tmp_path, cfg).startswith(("cannot be read: ", "is a folder"))


def test_nan_and_infinity_are_kept_bit_for_bit(cfg, file):
    bits = np.frombuffer(content()[20:], "<u4").copy()
    bits[::7] = np.resize(
        np.array([0x7FC0_1234, 0xFF80_0001, 0x7F80_0000, 0x8000_0000, 0x0000_0001], "<u4"), len(bits[::7])
    )  # NaNs with a payload, infinity, -0, the smallest denormal
    path = file(LONG.to_bytes() + bits.tobytes())
    darknet.save(darknet.load(cfg, path), path.with_name("copy"))
    assert path.with_name("copy").read_bytes() == path.read_bytes()


def test_a_file_that_becomes_shorter_while_it_is_read_is_refused(cfg, file, monkeypatch):
    path = file(content(count=VALUES[0]))
    monkeypatch.setattr("yolo9k.darknet.weights._count_layers", lambda layers, _size, _path: len(layers))
    assert refusal(path, cfg) == "became shorter while it was read"


def test_tensors_that_are_not_contiguous_float32_are_converted(cfg, file):
    path = file(content())
    expected = darknet.load(cfg, path)
    net = darknet.load(cfg).to(memory_format=torch.channels_last).double()
    net.read(path)
    for (name, value), converted in zip(expected.state_dict().items(), net.state_dict().values(), strict=True):
        assert (value == converted).all(), name
    darknet.save(net, path.with_name("copy"))
    assert path.with_name("copy").read_bytes() == path.read_bytes()


def test_the_convolutions_of_package_models_are_in_darknets_order():
    network = yolov2(torch.ones(2, 2), 3, width=0.1)
    layers = conv_layers(network)
    assert len(layers) == sum(isinstance(module, nn.Conv2d) for module in network.modules()) == 23
    assert [layer.name for layer in layers[-5:]] == [
        "neck.deepen.0.conv", "neck.deepen.1.conv", "neck.passthrough.0.conv", "neck.join.conv", "head.conv",
    ]  # fmt: skip
    assert [len(layer.tensors) for layer in layers[-2:]] == [5, 2]
    ids = {id(tensor) for layer in layers for tensor in layer.tensors}
    assert ids >= {id(parameter) for parameter in network.parameters()}
    assert conv_layers(Classifier(Darknet19(0.1), 7))[-1].tensors[0].shape == (7,)


def test_the_contents_of_a_file_are_described_by_layer(cfg):
    layers = conv_layers(darknet.load(cfg))
    assert [status for _, status in describe(layers, sum(VALUES))] == ["whole"] * 3
    size = 4 * VALUES[1]
    assert [status for _, status in describe(layers, VALUES[0] + 2)] == ["whole", f"8 of {size} bytes", "missing"]
    assert [status for _, status in describe(layers, 0)] == ["missing"] * 3


def test_a_file_of_yolov2_has_the_official_size(shared, tmp_path):
    cfg = darknet.read_cfg(shared("golden", "darknet", "cfg") / "yolov2.cfg")
    net = darknet.DarknetNetwork(cfg)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in conv_layers(net):
            for tensor in layer.tensors:
                tensor.uniform_(-1, 1, generator=generator)
    path = tmp_path / "yolov2.weights"
    darknet.save(net, path)
    assert path.stat().st_size == 203_934_260 + 4
    again = darknet.load(cfg, path)
    assert again.origin.layer_count == 23
    for (name, value), loaded in zip(net.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(value, loaded), name


def try_reading(path, content: bytes) -> None:
    path.write_bytes(content)
    net = darknet.DarknetNetwork(darknet.parse_cfg(CFG, "a.cfg"))
    for read in (lambda: read_header(path), lambda: read_weights(path, conv_layers(net))):
        try:
            read()
        except WeightsError as error:
            assert "\n" not in str(error)  # noqa: PT017
            assert str(error).startswith(str(path))  # noqa: PT017


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "a.weights"


SMALL = st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3) | st.sampled_from([999, 1000, 1001, 10**6])
NEAR_HEADERS = st.tuples(SMALL, SMALL, SMALL, st.binary(max_size=4 * sum(VALUES) + 30)).map(
    lambda parts: struct.pack("<iii", *parts[:3]) + parts[3]
)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=80) | NEAR_HEADERS | st.integers(0, 1200).map(lambda end: content()[:end]))
def test_no_bytes_break_the_reader(fuzzed, data):
    try_reading(fuzzed, data)
