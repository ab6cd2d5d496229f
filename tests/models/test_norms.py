"""Kinds of norms, conversion of norms, and folding of norms into convolutions."""

import pytest
import torch
import torchvision
from several import in_processes
from torch import nn

from yolo9k.build import build_network
from yolo9k.config import load_config
from yolo9k.config.schema import NormConfig
from yolo9k.errors import ConfigError
from yolo9k.models import norms
from yolo9k.models.layers import ConvBlock
from yolo9k.models.norms import FrozenBatchNorm, SyncedBatchNorm, convert_norm, fold_norms, largest_divisor, norm_layer
from yolo9k.models.yolov2 import yolov2
from yolo9k.wordtree import WordTree

ANCHORS = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
KINDS = ("batch", "group", "frozen", "sync", "none")


def network(kind="batch", **changes):
    torch.manual_seed(0)
    return yolov2(ANCHORS, 3, width=0.1, norm=norm_layer(NormConfig(kind=kind, **changes)))


def with_random_norms(module, seed=1):
    """The module with random statistics, factors and biases, as if it had been trained."""
    random = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, norms.BatchNorm):
            for value in (norm.weight.data, norm.running_var):
                nn.init.uniform_(value, 0.5, 2, generator=random)
            for value in (norm.bias.data, norm.running_mean):
                nn.init.uniform_(value, -1, 1, generator=random)
    return module


def images(images=2, side=64, seed=0):
    return torch.rand(images, 3, side, side, generator=torch.Generator().manual_seed(seed))


def is_close(actual, expected, tolerance=1e-4):
    return (actual - expected).abs().max() <= tolerance * expected.abs().max()


# --- kinds


@pytest.mark.parametrize(
    ("kind", "norm_class"),
    [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm), ("frozen", FrozenBatchNorm), ("sync", SyncedBatchNorm)],
)
def test_each_kind_has_its_layer(kind, norm_class):
    layer = norm_layer(NormConfig(kind=kind, eps=0.25, momentum=0.5))(12)
    assert type(layer) is norm_class
    assert layer.eps == 0.25
    if kind in ("batch", "sync"):
        assert layer.momentum == 0.5


def test_without_a_norm_convolutions_have_a_bias():
    assert norm_layer(NormConfig(kind="none")) is None
    blocks = [module for module in network("none").modules() if isinstance(module, ConvBlock)]
    assert len(blocks) == 22
    assert all(block.conv.bias is not None and isinstance(block.norm, nn.Identity) for block in blocks)
    assert all(block.conv.bias is None for block in network().modules() if isinstance(block, ConvBlock))


@pytest.mark.parametrize(
    ("channels", "limit", "groups"), [(64, 32, 32), (104, 32, 26), (8, 32, 8), (7, 32, 7), (37, 32, 1), (64, 1, 1)]
)
def test_groups_divide_the_channels(channels, limit, groups):
    assert largest_divisor(channels, limit) == groups
    assert norm_layer(NormConfig(kind="group", groups=limit))(channels).num_groups == groups


@pytest.mark.parametrize("name", ["yolov2", "yolov2-tiny", "yolo9000"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bf16", [False, True])
def test_every_kind_trains_in_every_model(name, kind, memory_format, bf16):
    overrides = [f"model.name={name}", "model.width=0.1", "model.anchors=[[1,2]]", f"model.norm.kind={kind}"]
    net = build_network(load_config(None, overrides).model, WordTree.flat(["a"])).to(memory_format=memory_format)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = net(images().contiguous(memory_format=memory_format))
    out.float().square().mean().backward()
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    assert trainable
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trainable)


def test_group_norm_is_independent_of_the_rest_of_the_batch():
    batch = images(4)
    for kind, is_independent in (("group", True), ("frozen", True), ("none", True), ("batch", False)):
        net = network(kind).train()
        with torch.no_grad():
            alone, together = net(batch[:1]), net(batch)[:1]
        assert torch.allclose(alone, together, atol=1e-5) == is_independent, kind


# --- frozen


def test_frozen_equals_batch_norm_in_evaluation_mode():
    batch, frozen = with_random_norms(network("batch")), network("frozen")
    frozen.load_state_dict(batch.state_dict())
    frozen.train()
    with torch.no_grad():
        assert torch.equal(frozen(images()), batch.eval()(images()))
    batch.load_state_dict(frozen.state_dict())  # the keys are the same in both directions


def test_frozen_norms_do_not_change_in_training():
    frozen = with_random_norms(network("frozen")).train()
    before = {name: value.clone() for name, value in frozen.state_dict().items() if ".norm." in name}
    optimizer = torch.optim.SGD([p for p in frozen.parameters() if p.requires_grad], lr=0.1, weight_decay=0.5)
    for seed in range(3):
        frozen(images(seed=seed)).square().mean().backward()
        optimizer.step()
    after = frozen.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None for name, p in frozen.named_parameters() if ".norm." in name)


# --- sync


def test_sync_with_one_process_equals_batch_norm():
    batch, sync = with_random_norms(network("batch")), with_random_norms(network("sync"))
    sync.load_state_dict(batch.state_dict())
    for net in (batch.train(), sync.train()):
        net(images()).square().mean().backward()
    for (name, own), other in zip(batch.named_parameters(), sync.parameters(), strict=True):
        assert torch.equal(own.grad, other.grad), name
    assert all(torch.equal(a, b) for a, b in zip(batch.buffers(), sync.buffers(), strict=True))


def test_sync_in_a_group_of_one_process_is_batch_norm():
    [result] = in_processes(1, normalise_synced)
    assert result == nn.BatchNorm2d(3)(IMAGES).tolist()


IMAGES = torch.arange(24.0).view(2, 3, 2, 2)


def normalise_synced():
    return SyncedBatchNorm(3)(IMAGES).tolist()


def test_sync_with_several_processes_needs_gpus(monkeypatch):
    monkeypatch.setattr(norms.processes, "count", lambda: 2)
    layer = SyncedBatchNorm(3)
    with pytest.raises(ConfigError, match=r"model\.norm\.kind: sync with several processes needs GPUs"):
        layer(torch.zeros(1, 3, 2, 2))
    assert layer.eval()(torch.zeros(1, 3, 2, 2)).shape == (1, 3, 2, 2)


# --- conversions


def pretrained(eps=1e-3):
    """A small network whose norms have another eps than our configs."""
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6, eps),
        nn.ReLU(),
        nn.Conv2d(6, 4, 1),
        nn.BatchNorm2d(4, eps),
    )
    return with_random_norms(nn.Sequential(*layers))


@pytest.mark.parametrize("kind", ["batch", "frozen", "sync", "none"])
def test_conversions_keep_the_function(kind):
    net = pretrained()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    converted = convert_norm(net, NormConfig(kind=kind, eps=0.5, momentum=0.25))
    with torch.no_grad():
        assert torch.allclose(converted.eval()(images()), net.eval()(images()), atol=1e-5)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())  # the original is unchanged


@pytest.mark.parametrize("kind", ["batch", "frozen", "sync", "group"])
def test_converted_norms_keep_their_eps_and_factors(kind):
    net = pretrained(eps=0.125)
    converted = convert_norm(net, NormConfig(kind=kind, eps=0.5, momentum=0.25))
    for index in (1, 4):
        assert type(converted[index]) is type(norm_layer(NormConfig(kind=kind))(4))
        assert converted[index].eps == 0.125
        assert torch.equal(converted[index].weight, net[index].weight)
        assert torch.equal(converted[index].bias, net[index].bias)
        if kind in ("batch", "sync"):
            assert converted[index].momentum == 0.25
    trainable = any(parameter.requires_grad for parameter in converted[1].parameters())
    assert trainable == (kind != "frozen")


def test_the_bias_of_a_folded_norm_is_trainable():
    converted = convert_norm(pretrained(), NormConfig(kind="none"))
    assert isinstance(converted[1], nn.Identity)
    converted(images()).sum().backward()
    assert converted[0].bias.grad is not None


def test_a_norm_before_the_convolution_cannot_be_folded():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1))
    with pytest.raises(
        ConfigError, match=r"model\.norm\.kind: none: 0 cannot be folded into a convolution, so it cannot"
    ):
        convert_norm(net, NormConfig(kind="none"))
    with torch.no_grad():
        assert torch.equal(fold_norms(with_random_norms(net).eval())(images()), net(images()))  # `fold_norms` keeps it


@pytest.mark.parametrize("kind", ["batch", "frozen", "sync", "group", "none"])
def test_convert_norms_without_factors_or_in_half_precision(kind):
    net = pretrained()
    net[1] = nn.BatchNorm2d(6, affine=False)
    nn.init.uniform_(net[1].running_mean)
    converted = convert_norm(net.half().eval(), NormConfig(kind=kind))
    assert all(value.dtype == torch.float16 for value in converted.state_dict().values() if value.is_floating_point())
    if kind != "group":
        with torch.no_grad():
            assert is_close(converted.float()(images()), net.float()(images()), 1e-2)


def test_norms_without_running_statistics():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    for kind in ("batch", "frozen", "sync"):
        with pytest.raises(ConfigError, match=rf"model\.norm\.kind: {kind}: 1 has no running statistics; choose group"):
            convert_norm(net, NormConfig(kind=kind))
    with pytest.raises(ConfigError, match=r"model\.norm\.kind: none: 1 cannot be folded"):
        convert_norm(net, NormConfig(kind="none"))
    assert isinstance(convert_norm(net, NormConfig(kind="group"))[1], nn.GroupNorm)
    assert torch.equal(fold_norms(net)(images()), net(images()))


def test_shared_convolutions_and_norms():
    conv, norm = nn.Conv2d(3, 3, 1), with_random_norms(nn.Sequential(nn.BatchNorm2d(3)))[0]
    net = nn.Sequential(nn.Sequential(conv, norm), nn.Sequential(nn.Conv2d(3, 3, 1), norm), nn.Sequential(conv)).eval()
    with torch.no_grad():
        assert torch.equal(fold_norms(net)(images()), net(images()))
    grouped = convert_norm(net, NormConfig(kind="group"))
    assert grouped[0][1] is grouped[1][1]
    assert isinstance(grouped[0][1], nn.GroupNorm)
    with pytest.raises(ConfigError, match=r"none: 0\.1 cannot be folded"):
        convert_norm(net, NormConfig(kind="none"))


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v2", "shufflenet_v2_x1_0", "vgg16_bn"])
def test_norms_of_torchvision_networks_are_folded_correctly(name):
    torch.manual_seed(0)
    classifier = getattr(torchvision.models, name)()
    net = with_random_norms(classifier.features if hasattr(classifier, "features") else classifier).eval()
    with torch.no_grad():
        assert is_close(fold_norms(net)(images(1)), net(images(1)), 1e-3)
        frozen = convert_norm(net, NormConfig(kind="frozen")).train()
        assert all(not norm.training for norm in frozen.modules() if isinstance(norm, nn.BatchNorm2d))
    grouped = convert_norm(net, NormConfig(kind="group"))
    assert not any(isinstance(module, norms.BatchNorm) for module in grouped.modules())


def test_folding_keeps_group_norms():
    net = network("group").eval()
    folded = fold_norms(net)
    assert sum(isinstance(module, nn.GroupNorm) for module in folded.modules()) == 22
    with torch.no_grad():
        assert torch.equal(folded(images()), net(images()))


@pytest.mark.parametrize("kind", ["batch", "frozen", "sync"])
def test_norms_with_running_statistics_are_folded(kind):
    net = with_random_norms(network(kind)).eval()
    folded = fold_norms(net)
    assert not any(isinstance(module, norms.BatchNorm) for module in folded.modules())
    with torch.no_grad():
        assert is_close(folded(images()), net(images()))


def test_conversion_keeps_training_mode():
    assert not any(module.training for module in convert_norm(pretrained().eval(), NormConfig(kind="group")).modules())
    assert all(module.training for module in convert_norm(pretrained(), NormConfig(kind="batch")).modules())
