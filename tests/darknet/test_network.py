"""Networks from cfgs: every section against plain torch or Darknet's loops, and whole networks."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from yolo9k import darknet
from yolo9k.darknet.layers import DarknetNorm
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.errors import ConfigError, WeightsError
from yolo9k.models.head import AnchorHead, RawMap
from yolo9k.wordtree import WordTree

TREE = WordTree(("a", "b", "c", "d", "e"), ("a", "b", "c", "d", "e"), (-1, -1, 0, 0, 2))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def build(layers: str, size_wh=(10, 6), channels=3, labels=None) -> DarknetNetwork:
    """Build a network in evaluation mode with random weights, biases and running statistics."""
    net_section = f"[net]\nwidth={size_wh[0]}\nheight={size_wh[1]}\nchannels={channels}\n"
    net = DarknetNetwork(darknet.parse_cfg(net_section + layers, "a.cfg"), labels).initialise()
    for module in net.modules():
        if isinstance(module, DarknetNorm):
            for value in (module.weight, module.running_var):
                nn.init.uniform_(value, 0.5, 2)
            for value in (module.bias, module.running_mean):
                nn.init.uniform_(value, -1, 1)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.uniform_(module.bias, -1, 1)
    return net.eval()


def image(net: DarknetNetwork, count: int = 2) -> torch.Tensor:
    w, h = net.cfg.size_wh
    return torch.randn(count, net.cfg.net.values["channels"], h, w)


ACTIVATIONS = {
    "leaky": lambda x: torch.where(x > 0, x, 0.1 * x),
    "relu": lambda x: x.clamp(min=0),
    "logistic": lambda x: 1 / (1 + (-x).exp()),
    "linear": lambda x: x,
}


@torch.no_grad()
@pytest.mark.parametrize("size_wh", [(10, 6), (7, 9), (5, 5)])
@pytest.mark.parametrize(
    ("options", "stride", "padding", "groups"),
    [
        ("size=3\nstride=1\npad=1\n", 1, 1, 1),
        ("size=3\nstride=2\npad=1\n", 2, 1, 1),
        ("size=5\nstride=2\npadding=1\n", 2, 1, 1),
        ("size=4\nstride=3\npad=1\n", 3, 2, 1),
        ("size=3\npad=1\npadding=5\n", 1, 1, 1),
        ("size=3\npad=0\npadding=2\n", 1, 2, 1),
        ("size=3\ngroups=2\npad=1\n", 1, 1, 2),
        ("size=1\ngroups=4\n", 1, 0, 4),
        ("", 1, 0, 1),
    ],
)
def test_a_convolution(options, stride, padding, groups, size_wh):
    net = build(f"[conv]\nfilters=8\nactivation=linear\n{options}", size_wh, channels=4)
    x, conv = image(net), net.layers[0].conv
    output = net(x)
    assert torch.allclose(output, F.conv2d(x, conv.weight, conv.bias, stride, padding, groups=groups), atol=1e-6)
    assert output.shape[1:] == (net.shapes[0].channels, net.shapes[0].h, net.shapes[0].w)
    assert net.stride == stride


@torch.no_grad()
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("activation", [*ACTIVATIONS, None])
def test_norm_and_activation_of_a_convolution(norm, activation):
    option = f"activation={activation}\n" if activation else ""
    net = build(f"[conv]\nfilters=5\nsize=3\nbatch_normalize={int(norm)}\n{option}")
    block, x = net.layers[0], image(net)
    out = F.conv2d(x, block.conv.weight, block.conv.bias)
    for rule in ("cudnn", "cpu"):
        net.use_norm_rule(rule)
        expected = out
        if norm:
            mean, variance, scale, bias = (
                value[:, None, None]
                for value in (block.norm.running_mean, block.norm.running_var, block.norm.weight, block.norm.bias)
            )
            divisor = (variance + 1e-5).sqrt() if rule == "cudnn" else variance.sqrt() + 1e-6
            expected = (out - mean) / divisor * scale + bias
        expected = ACTIVATIONS[activation or "logistic"](expected)  # Darknet's default
        assert torch.allclose(net(x), expected, atol=1e-5)


def test_the_two_formulas_of_batch_norm_differ_for_a_small_variance():
    net = build("[conv]\nfilters=5\nbatch_normalize=1\nactivation=linear\n")
    net.layers[0].norm.running_var.fill_(1e-6)
    x = image(net)
    cudnn = net(x)
    net.use_norm_rule("cpu")
    assert (net(x) - cudnn).abs().max() > 1
    net.train()
    trained = net(x)
    net.use_norm_rule("cudnn")
    assert torch.equal(net(x), trained)  # training has only one formula


def test_running_statistics_are_updated_as_in_darknet():
    net = build("[conv]\nfilters=5\nbatch_normalize=1\nactivation=linear\n").train()
    block, x = net.layers[0], image(net)
    before = block.norm.running_mean.clone(), block.norm.running_var.clone()
    net(x)
    with torch.no_grad():
        out = F.conv2d(x, block.conv.weight).transpose(0, 1).flatten(1)
    assert torch.allclose(block.norm.running_mean, 0.99 * before[0] + 0.01 * out.mean(1))
    assert torch.allclose(block.norm.running_var, 0.99 * before[1] + 0.01 * out.var(1))


def maxpool_loop(x: np.ndarray, size: int, stride: int, padding: int) -> np.ndarray:
    """Darknet `maxpool_layer.c: forward_maxpool_layer`."""
    b, c, h, w = x.shape
    rows, columns = ((length + padding - size) // stride + 1 for length in (h, w))
    out = np.full((b, c, rows, columns), -np.inf, x.dtype)
    for i, j, n, m in itertools.product(range(rows), range(columns), range(size), range(size)):
        row, column = i * stride - padding // 2 + n, j * stride - padding // 2 + m
        if 0 <= row < h and 0 <= column < w:
            out[:, :, i, j] = np.maximum(out[:, :, i, j], x[:, :, row, column])
    return out


@pytest.mark.parametrize("size_wh", [(10, 6), (7, 9), (5, 5)])
@pytest.mark.parametrize(
    ("options", "size", "stride", "padding"),
    [
        ("size=2\nstride=2\n", 2, 2, 1), ("size=2\nstride=1\n", 2, 1, 1), ("size=3\nstride=2\n", 3, 2, 2),
        ("size=2\nstride=2\npadding=0\n", 2, 2, 0), ("size=3\nstride=2\npadding=1\n", 3, 2, 1),
        ("size=4\nstride=1\npadding=0\n", 4, 1, 0), ("size=2\nstride=3\n", 2, 3, 1), ("stride=3\n", 3, 3, 2),
        ("", 1, 1, 0),
    ],
)  # fmt: skip
def test_max_pool(options, size, stride, padding, size_wh):
    net = build(f"[maxpool]\n{options}", size_wh)
    x = image(net)
    output, expected = net(x).numpy(), maxpool_loop(x.numpy(), size, stride, padding)
    assert output.shape == expected.shape == (2, net.shapes[0].channels, net.shapes[0].h, net.shapes[0].w)
    assert (output == expected).all()


def test_average_pool():
    net = build("[avgpool]\n")
    x = image(net)
    assert torch.allclose(net(x), x.flatten(2).mean(2)[..., None, None])
    assert net(x).shape == (2, 3, 1, 1)


def test_dropout_is_the_identity_in_evaluation_and_keeps_the_mean_in_training():
    net = build("[dropout]\nprobability=.25\n")
    x = torch.ones(9, 3, 100, 100)
    assert torch.equal(net(x), x)
    trained = net.train()(x)
    assert trained.unique().tolist() == [0, pytest.approx(4 / 3)]
    assert trained.mean() == pytest.approx(1, abs=0.02)


def reorg_loop(x: np.ndarray, stride: int) -> np.ndarray:
    """Darknet `blas.c: reorg_cpu`, forward."""
    b, c, h, w = x.shape
    out_c = c // stride**2
    flat, out = x.reshape(b, -1), np.empty((b, c * h * w), x.dtype)
    for k, j, i in itertools.product(range(c), range(h), range(w)):
        column = i * stride + k // out_c % stride
        row = j * stride + k // out_c // stride
        out[:, i + w * (j + h * k)] = flat[:, column + w * stride * (row + h * stride * (k % out_c))]
    return out.reshape(b, c * stride**2, h // stride, w // stride)


@pytest.mark.parametrize(("channels", "size_wh", "stride"), [(4, (10, 6), 2), (12, (4, 8), 2), (9, (6, 9), 3)])
def test_reorg(channels, size_wh, stride):
    net = build(f"[reorg]\nstride={stride}\n", size_wh, channels)
    x = image(net)
    assert (net(x).numpy() == reorg_loop(x.numpy(), stride)).all()
    assert net.stride == stride


def reorg3d_loop(x: np.ndarray, stride: int) -> np.ndarray:
    """AlexeyAB's `blas.c: reorg_cpu` with forward = 0, index by index; its `x` is a flat array."""
    b, c, h, w = x.shape
    out_c, out_h, out_w = c * stride * stride, h // stride, w // stride
    in_c = out_c // (stride * stride)
    values, out = x.reshape(-1), np.zeros(x.size, np.float32)
    for batch, k, j, i in itertools.product(range(b), range(out_c), range(out_h), range(out_w)):
        in_index = i + out_w * (j + out_h * (k + out_c * batch))
        c2, offset = k % in_c, k // in_c
        w2, h2 = i * stride + offset % stride, j * stride + offset // stride
        out[in_index] = values[w2 + out_w * stride * (h2 + out_h * stride * (c2 + in_c * batch))]
    return out.reshape(b, out_c, out_h, out_w)


@torch.no_grad()
@pytest.mark.parametrize(("channels", "size_wh", "stride"), [(3, (4, 6), 2), (3, (9, 3), 3), (1, (4, 4), 2)])
def test_reorg3d_equals_the_loop_of_the_fork(channels, size_wh, stride):
    net = build(f"[reorg3d]\nstride={stride}\n", size_wh, channels)
    images = image(net)
    assert np.array_equal(net(images).numpy(), reorg3d_loop(images.numpy(), stride))


def shortcut_loop(x: np.ndarray, earlier: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """Darknet `blas.c: shortcut_cpu`; 1 is the earlier layer, 2 is the input."""
    (b, c1, h1, w1), (_, c2, h2, w2) = earlier.shape, x.shape
    stride, sample = max(w1 // w2, 1), max(w2 // w1, 1)
    add, out = earlier.reshape(b, -1), x.reshape(b, -1).copy()
    for k, j, i in itertools.product(range(min(c1, c2)), range(min(h1, h2)), range(min(w1, w2))):
        at = i * sample + w2 * (j * sample + h2 * k)
        out[:, at] = alpha * out[:, at] + beta * add[:, i * stride + w1 * (j * stride + h1 * k)]
    return out.reshape(x.shape)


@torch.no_grad()
@pytest.mark.parametrize("activation", ["linear", "leaky"])
@pytest.mark.parametrize(
    ("size_wh", "first", "second"),
    [
        ((10, 6), "filters=4\n", "filters=4\n"),  # same size
        ((10, 6), "filters=4\n", "filters=6\n"),  # more channels
        ((10, 6), "filters=6\n", "filters=4\n"),
        ((10, 6), "filters=4\n", "filters=4\nsize=2\nstride=2\n"),  # the earlier layer is larger
        ((11, 7), "filters=4\n", "filters=5\nsize=2\nstride=2\n"),
        ((12, 9), "filters=4\n", "filters=4\nsize=3\nstride=3\n"),
        ((13, 13), "filters=4\n", "filters=4\nsize=3\nstride=2\n"),
        ((10, 10), "filters=4\nstride=2\n", "filters=4\nsize=1\npadding=4\n"),  # the earlier layer is smaller
        ((9, 9), "filters=7\nsize=5\nstride=2\n", "filters=4\nsize=1\npadding=2\n"),
        ((10, 10), "filters=4\n", "filters=4\nsize=3\n"),  # slightly smaller
    ],
)
def test_shortcut_equals_darknets_loop(size_wh, first, second, activation):
    layers = f"[conv]\nactivation=linear\n{first}[conv]\nactivation=linear\n{second}"
    net = build(f"{layers}[shortcut]\nfrom=-2\nalpha=.5\nbeta=-2\nactivation={activation}\n", size_wh)
    earlier, x, output = net.layer_outputs(image(net))
    expected = shortcut_loop(x.numpy(), earlier.numpy(), 0.5, -2.0)
    assert torch.allclose(output, ACTIVATIONS[activation](torch.from_numpy(expected)), atol=1e-6)
    assert (output.shape[1], net.shapes[2].h, net.shapes[2].w) == (x.shape[1], output.shape[2], output.shape[3])


def test_a_shortcut_passes_gradients_to_both():
    net = build("[conv]\nfilters=2\n[conv]\nfilters=3\nsize=2\nstride=2\n[shortcut]\nfrom=0\n")
    net(image(net)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())


def test_a_shortcut_of_incompatible_sizes_is_refused():
    with pytest.raises(WeightsError, match=r"a\.cfg:11: \[shortcut\] from=0: layer 0 is 1x10x14, which cannot be"):
        build("[conv]\n[maxpool]\nstride=1\nsize=7\npadding=0\n[shortcut]\nfrom=0\n", (14, 10))


@pytest.mark.parametrize(("groups", "temperature"), [(1, 1), (2, 1), (3, 0.5)])
def test_softmax_in_groups(groups, temperature):
    net = build(f"[avgpool]\n[softmax]\ngroups={groups}\ntemperature={temperature}\n[cost]\n", channels=6)
    x = image(net)
    logits = x.flatten(2).mean(2)
    assert torch.allclose(net(x), logits)
    parts = [(part / temperature).softmax(1) for part in logits.chunk(groups, 1)]
    outputs = net.layer_outputs(x)
    assert len(outputs) == 3
    for output in outputs[1:]:
        assert torch.allclose(output, torch.cat(parts, 1))


@pytest.mark.parametrize(("option", "temperature"), [("", 1), ("temperature=.5\n", 0.5)])
def test_softmax_of_a_tree_is_per_sibling_group_also_after_the_cost(option, temperature):
    net = build(f"[avgpool]\n[softmax]\n{option}tree=x\n[cost]\n", channels=5, labels=TREE)
    x = image(net)
    logits = x.flatten(2).mean(2) / temperature
    expected = torch.cat([part.softmax(1) for part in logits.split([2, 2, 1], 1)], 1)
    for output in net.layer_outputs(x)[1:]:
        assert torch.allclose(output, expected)


def test_a_missing_tree_is_an_error_only_when_it_is_needed():
    net = build("[avgpool]\n[softmax]\n\ntree=x.tree\n", channels=5)
    assert net(image(net)).shape == (2, 5)
    with pytest.raises(WeightsError, match=r"a\.cfg:8: \[softmax\] tree=x\.tree: file not found"):
        net.layer_outputs(image(net))


def test_the_number_of_labels_must_equal_the_classes():
    with pytest.raises(WeightsError, match=r"a\.cfg:6: \[softmax\]: 5 labels for 4 classes"):
        build("[avgpool]\n[softmax]\n", channels=4, labels=TREE)


def test_routes_have_absolute_or_relative_indices():
    layers = "[conv]\nfilters=2\n[conv]\nfilters=3\n[conv]\nfilters=4\n"
    for option, sources in {"0": [0], "-1": [2], "-3,1": [0, 1], "2,0,2": [2, 0, 2], "-1,-3": [2, 0]}.items():
        net = build(f"{layers}[route]\nlayers={option}\n")
        outputs = net.layer_outputs(image(net))
        assert torch.equal(outputs[3], torch.cat([outputs[source] for source in sources], 1))
        assert net.shapes[3].channels == outputs[3].shape[1]


def test_an_image_without_a_batch_dimension():
    net = build("[conv]\nfilters=4\n[maxpool]\nstride=2\n[conv]\nfilters=8\nactivation=linear\n[region]\nclasses=3\n")
    x = image(net)
    assert torch.allclose(net(x[0]), net(x)[0], atol=1e-6)
    for one, many in zip(net.layer_outputs(x[0]), net.layer_outputs(x), strict=True):
        assert torch.allclose(one, many[0], atol=1e-6)


REGION = "[region]\nnum=2\nanchors=1,2,3,4\nclasses=3\nsoftmax=1\n"
BEFORE = "[conv]\nfilters=6\nsize=3\nstride=2\npad=1\nbatch_normalize=1\nactivation=leaky\n"
HEADS = {
    "a plain convolution": ("[conv]\nfilters=16\nactivation=linear\n", AnchorHead),
    "a larger kernel": ("[conv]\nfilters=16\nsize=3\npad=1\nactivation=linear\n", RawMap),
    "an activation": ("[conv]\nfilters=16\nactivation=leaky\n", RawMap),
    "a norm": ("[conv]\nfilters=16\nbatch_normalize=1\nactivation=linear\n", RawMap),
    "groups": ("[conv]\nfilters=16\ngroups=2\nactivation=linear\n", RawMap),
    "a route": ("[conv]\nfilters=8\nactivation=linear\n[route]\nlayers=-1,-1\n", RawMap),
    "a pool": ("[conv]\nfilters=16\nactivation=linear\n[maxpool]\nsize=2\nstride=1\n", RawMap),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", HEADS)
def test_the_head_computes_parts_of_the_last_feature_map(kind):
    layers, head_class = HEADS[kind]
    net = build(BEFORE + layers + REGION, (14, 10))
    assert isinstance(net.head, head_class)
    x = image(net)
    features, raw = net.features(x), net(x)
    assert raw.shape == (2, 16, 5, 7)
    assert torch.allclose(net.head.dense(features), raw, atol=1e-6)
    parts = raw.unflatten(1, (2, 8))
    assert torch.allclose(net.head.geometry(features), parts[:, :, :5], atol=1e-6)
    positions = torch.tensor([[0, 1, 4, 6], [1, 0, 0, 3], [1, 1, 2, 2]])
    expected_logits = torch.stack([parts[b, a, 5:, row, column] for b, a, row, column in positions.tolist()])
    assert torch.allclose(net.head.class_logits(features, positions), expected_logits, atol=1e-6)
    nodes = torch.tensor([2, 0])
    assert torch.allclose(net.head.class_logits(features, positions, nodes), expected_logits[:, nodes], atol=1e-6)
    assert net.anchors.tolist() == [[1, 2], [3, 4]]


@torch.no_grad()
def test_the_output_of_a_region_is_activated():
    net = build(BEFORE + HEADS["a plain convolution"][0] + REGION)
    x = image(net)
    raw, out = net(x).unflatten(1, (2, 8)), net.layer_outputs(x)[-1].unflatten(1, (2, 8))
    assert torch.allclose(out[:, :, [0, 1, 4]], raw[:, :, [0, 1, 4]].sigmoid())
    assert torch.equal(out[:, :, 2:4], raw[:, :, 2:4])
    assert torch.allclose(out[:, :, 5:], raw[:, :, 5:].softmax(2))
    logistic = build(BEFORE + HEADS["a plain convolution"][0] + REGION.replace("softmax=1", "softmax=0"))
    logistic.load_state_dict(net.state_dict())
    assert torch.allclose(logistic.layer_outputs(x)[-1].unflatten(1, (2, 8))[:, :, 5:], raw[:, :, 5:].sigmoid())


def test_a_network_without_region_has_no_features():
    net = build("[conv]\nfilters=4\n")
    with pytest.raises(
        WeightsError, match=r"a detector must end with \[region\]; this cfg ends with \[convolutional\]"
    ):
        net.features(image(net))
    with pytest.raises(WeightsError, match="no classes; a network needs"):
        net.scores()


FAR_BACK = (
    "[conv]\nfilters=4\nactivation=relu\n" + "[conv]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n" * 5
    + "[route]\nlayers=0\n[conv]\nfilters=4\n[route]\nlayers=-1,3,1\n[shortcut]\nfrom=2\n[conv]\nfilters=8\n"
    + "[region]\nclasses=3\n"
)  # fmt: skip


@torch.no_grad()
def test_releasing_outputs_changes_no_result():
    net = build(FAR_BACK)
    x = image(net)
    outputs = net.layer_outputs(x)
    assert torch.equal(net(x), outputs[-2])
    for index in range(len(outputs) - 1):  # no layer changed the output of another in place
        inputs = [x if source < 0 else outputs[source] for source in net.sources[index]]
        assert torch.equal(net.layers[index](*inputs), outputs[index])


@torch.no_grad()
def test_outputs_are_released_after_their_last_use():
    net = build(FAR_BACK)
    stored, alive = [], {}

    def record_alive(index):
        def hook(_module, _inputs, output):
            alive[index] = [n for n, reference in enumerate(stored) if not reference.expired()]
            stored.append(StorageWeakRef(output.untyped_storage()))

        return hook

    for index, layer in enumerate(net.layers):
        layer.register_forward_hook(record_alive(index))
    net(image(net))
    assert alive[5] == [0, 1, 2, 3, 4]  # 4 has just been read, the others will be read later
    assert alive[9] == [2, 8]
    assert alive[10] == [9]


def test_layers_before_stopbackward_get_no_gradients():
    layers = ["[conv]\nfilters=4\n", "[conv]\nfilters=4\n", "[conv]\nfilters=4\n", "[route]\nlayers=0,-1\n"]
    plain = build("".join([*layers, "[conv]\nfilters=4\n"]))
    layers[1] += "stopbackward=1\n"
    stopped = build("".join([*layers, "[conv]\nfilters=4\n"]))
    stopped.load_state_dict(plain.state_dict())  # the same names
    x = image(plain)
    assert torch.equal(plain(x), stopped(x))
    stopped(x).sum().backward()
    has_gradient = [any(p.grad is not None for p in layer.parameters()) for layer in stopped.layers]
    assert has_gradient == [False, False, True, False, True]  # also layer 0, although the route reads it
    plain(x).sum().backward()
    assert all(parameter.grad is not None for parameter in plain.parameters())


def test_an_image_size_can_be_checked():
    net = build(BEFORE + "[reorg]\nstride=2\n".replace("reorg", "maxpool") + "[conv]\nfilters=8\n[reorg]\nstride=2\n"
                "[conv]\nfilters=8\nactivation=linear\n[region]\nclasses=3\n", (16, 16))  # fmt: skip
    net.check_size((32, 8))
    with pytest.raises(ConfigError, match=r"size 12x16: a\.cfg:\d+: \[reorg\] stride=2: does not fit 8x4x3"):
        net.check_size((12, 16))
    with pytest.raises(ConfigError, match="size 0x16: "):
        net.check_size((0, 16))
    assert net.shapes[-1].w == 2  # the network is unchanged
    assert net.stride == 8


def test_fresh_weights_are_initialised():
    net = darknet.load(darknet.parse_cfg("[net]\nwidth=8\nheight=8\nchannels=3\n" + BEFORE + REGION.replace(
        "num=2\nanchors=1,2,3,4\nclasses=3", "classes=1")))  # fmt: skip
    assert all(value.isfinite().all() for value in net.state_dict().values())
    assert not net.training
    assert net.origin is None
    assert 0.1 < net.layers[0].conv.weight.std() < 0.6  # sqrt(2 / 27) = .27


def test_a_softmax_in_the_middle_is_refused():
    with pytest.raises(WeightsError, match=r"a\.cfg:5: \[softmax\]: must be at the end of the network"):
        build("[softmax]\n[convolutional]\nfilters=2\n")
