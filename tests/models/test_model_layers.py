import pytest
import torch
import torch.nn.functional as F
from torch import nn

from yolo9k.models.darknet19 import Darknet19
from yolo9k.models.layers import ConvBlock, MaxPool, Reorg, count_parameters, initialise, layer_names, scaled


def test_reorg_has_the_channel_order_of_darknet():
    out = Reorg(2)(torch.arange(512.0).reshape(1, 8, 8, 8))
    assert out.shape == (1, 32, 4, 4)
    assert out.flatten()[:8].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert out.flatten()[128:132].tolist() == [1, 3, 5, 7]
    assert not torch.equal(out, F.pixel_unshuffle(torch.arange(512.0).reshape(1, 8, 8, 8), 2))


def darknet_reorg(x, s):
    """Darknet's `blas.c: reorg_cpu`, element by element."""
    c, h, w = x.shape
    read = x.reshape(c // s**2, h * s, w * s)
    out = torch.empty(c, h, w)
    for k in range(c):
        source, shift = k % (c // s**2), k // (c // s**2)
        for j in range(h):
            for i in range(w):
                out[k, j, i] = read[source, j * s + shift // s, i * s + shift % s]
    return out.reshape(c * s * s, h // s, w // s)


@pytest.mark.parametrize("shape", [(4, 2, 4), (8, 6, 2), (12, 4, 6)])
def test_reorg_of_other_shapes(shape):
    x = torch.randn(shape)
    assert torch.equal(Reorg(2)(x[None])[0], darknet_reorg(x, 2))


@pytest.mark.parametrize(
    ("size", "stride", "padding", "length", "expected"),
    [
        (2, 2, None, 4, [1, 3]),
        (2, 2, None, 5, [1, 3, 4]),  # odd sizes are rounded up
        (2, 1, None, 4, [1, 2, 3, 3]),  # same size; no padding on the left
        (3, 1, None, 4, [1, 2, 3, 3]),  # padding of 1 per side
        (3, 2, None, 5, [1, 3, 4]),
        (2, 2, 0, 5, [1, 3]),
        (3, 2, 1, 6, [2, 4, 5]),  # padding of 1 in total: none on the left
        (2, 2, None, 1, [0]),
    ],
)
def test_maxpool_pads_as_darknet_does(size, stride, padding, length, expected):
    row = torch.arange(float(length)).expand(1, 1, length, length)
    out = MaxPool(size, stride, padding)(row)
    assert out[0, 0, 0].tolist() == expected
    assert out.shape[2] == out.shape[3]
    assert MaxPool(size, stride, padding)(row.transpose(2, 3))[0, 0, :, 0].tolist() == expected


def test_maxpool_never_returns_padding():
    assert (MaxPool(2, 1)(torch.full((1, 1, 3, 5), -7.0)) == -7).all()


def test_conv_block_by_hand():
    block = ConvBlock(1, 1, 1).eval()
    nn.init.constant_(block.conv.weight, 2)
    out = block(torch.tensor([[[[3.0, -3.0]]]]))
    assert out.flatten().tolist() == pytest.approx([6, -0.6], abs=1e-4)
    assert block.conv.bias is None


def test_initial_variance_is_2_over_fan_in():
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 256, 3)
    initialise(conv)
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert (conv.bias == 0).all()


def test_scaled_channels():
    assert [scaled(c, 1.0) for c in (30, 1024)] == [30, 1024]
    assert [scaled(c, 0.1) for c in (16, 64, 1024)] == [8, 8, 104]


def test_frozen_parameters_are_counted():
    block = ConvBlock(2, 4, 3)
    block.conv.weight.requires_grad_(False)
    assert count_parameters(block) == 2 * 4 * 9 + 8


def test_a_layer_is_a_convolution_with_its_norm():
    network = nn.ModuleDict({"stem": nn.Conv2d(3, 4, 1), "block": ConvBlock(4, 4, 3)})
    network["two"] = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
    network["late"] = nn.ModuleDict({"norm": nn.BatchNorm2d(4), "conv": nn.Conv2d(4, 4, 1)})
    network["alone"] = nn.BatchNorm2d(4)
    modules: dict[str, set[str]] = {}
    for name, layer in layer_names(network.state_dict()).items():
        modules.setdefault(layer, set()).add(name.rpartition(".")[0])
    assert modules == {
        "stem": {"stem"},
        "block": {"block.conv", "block.norm"},
        "two.0": {"two.0", "two.1"},
        "two.2": {"two.2", "two.3"},
        "late": {"late.norm", "late.conv"},
        "alone": {"alone"},
    }


def test_layer_names_do_not_depend_on_the_order_of_tensors():
    state = Darknet19(0.1).state_dict()
    assert layer_names(dict(reversed(state.items()))) == layer_names(state)
