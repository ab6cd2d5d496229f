import pytest
import torch
from torch import nn

from yolo9k.config.schema import TrainConfig
from yolo9k.errors import ConfigError
from yolo9k.training.optimizer import build_optimizer, clip_gradients, set_learning_rate


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))


def config(**changes):
    return TrainConfig(**{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.5, **changes})


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_only_convolution_weights_decay(optimizer):
    net = network()
    groups = build_optimizer(net, config(optimizer=optimizer)).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    by_name = {name: decays[id(p)] for name, p in net.named_parameters()}
    assert by_name == {"0.weight": 0.5, "1.weight": 0.0, "1.bias": 0.0, "2.weight": 0.5, "2.bias": 0.0}


def test_linear_weights_decay_like_convolutions():
    net = nn.ModuleDict({"linear": nn.Linear(2, 3), "norm": nn.LayerNorm(3)})
    net.scale = nn.Parameter(torch.zeros(3, 1, 1))
    groups = build_optimizer(net, config()).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {name for name, p in net.named_parameters() if decays[id(p)]} == {"linear.weight"}


def test_layers_have_their_own_lr_factors():
    net = network()
    optimizer = build_optimizer(net, config(lr_factors={"0": 0.5, "[01]": 0.25, "2": 0}))
    set_learning_rate(optimizer, 0.5)
    lrs = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: lrs[id(p)] for name, p in net.named_parameters()} == {
        "0.weight": 0.25, "1.weight": 0.25, "1.bias": 0.25, "2.weight": 0.0, "2.bias": 0.0,
    }  # fmt: skip
    before = {name: p.clone() for name, p in net.named_parameters()}
    net(torch.randn(2, 2, 6, 6)).square().mean().backward()
    optimizer.step()
    assert [name for name, p in net.named_parameters() if torch.equal(p, before[name])] == ["2.weight", "2.bias"]


def test_a_factor_that_matches_no_layer_is_an_error():
    with pytest.raises(ConfigError, match=r"train\.lr_factors: no layer is named 'backbone'; did you mean 0, 2\?"):
        build_optimizer(network(), config(lr_factors={"backbone": 0.5}))


def test_sgd_by_hand():
    layer = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(3.0)
    optimizer = build_optimizer(layer, config())
    for _ in range(2):
        layer.weight.grad, layer.bias.grad = torch.full((1, 1, 1, 1), 4.0), torch.tensor([4.0])
        optimizer.step()
    # weight: v = 4 + .5 * 2 = 5, w = 1.5; v = .9 * 5 + 4 + .5 * 1.5 = 9.25, w = .575; the bias does not decay
    assert layer.weight.item() == pytest.approx(0.575)
    assert layer.bias.item() == pytest.approx(3 - 0.4 - 0.1 * (0.9 * 4 + 4))


def test_adamw_by_hand():
    layer = nn.Conv2d(1, 1, 1)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.bias.fill_(3.0)
    optimizer = build_optimizer(layer, config(optimizer="adamw", momentum=0.8))
    m, v, bias, weight = 0.0, 0.0, 3.0, 2.0
    for step, gradient in enumerate((4.0, 1.0), start=1):
        layer.weight.grad, layer.bias.grad = torch.full((1, 1, 1, 1), gradient), torch.tensor([gradient])
        optimizer.step()
        m, v = 0.8 * m + 0.2 * gradient, 0.999 * v + 0.001 * gradient**2
        change = 0.1 * (m / (1 - 0.8**step)) / (v / (1 - 0.999**step)) ** 0.5
        bias, weight = bias - change, weight * (1 - 0.1 * 0.5) - change
    assert layer.bias.item() == pytest.approx(bias, abs=1e-6)
    assert layer.weight.item() == pytest.approx(weight, abs=1e-6)  # only the weight decays


def test_sgd_without_momentum():
    layer = nn.Conv2d(1, 1, 1)
    optimizer = build_optimizer(layer, config(momentum=0, weight_decay=0))
    before = layer.bias.item()
    layer.weight.grad, layer.bias.grad = torch.zeros(1, 1, 1, 1), torch.tensor([1.0])
    optimizer.step()
    assert layer.bias.item() == pytest.approx(before - 0.1)


def test_the_learning_rate_is_set_for_all_groups():
    optimizer = build_optimizer(network(), config())
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_clipping_scales_down_and_returns_the_norm_before():
    parameters = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    for max_norm, expected in ((0, [3.0, 4.0]), (10, [3.0, 4.0]), (1, [0.6, 0.8])):
        for parameter, value in zip(parameters, (3.0, 4.0), strict=True):
            parameter.grad = torch.tensor([value])
        assert clip_gradients(parameters, max_norm) == 5
        assert [p.grad.item() for p in parameters] == pytest.approx(expected, abs=1e-5)
