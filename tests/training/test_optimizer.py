import copy

import pytest
import torch
from torch import nn

from yolo9k.config.schema import TrainConfig
from yolo9k.errors import ConfigError
from yolo9k.training.optimizer import FiniteGuard, build_optimizer, clip_gradients, set_learning_rate


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))


def config(**changes):
    return TrainConfig(**{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.5, **changes})


class Training:
    """A network under guard, with a step whose loss and gradient can be spoilt."""

    def __init__(self, **changes):
        self.network = network()
        self.optimizer = build_optimizer(self.network, config(**changes))
        self.guard = FiniteGuard(self.network, self.optimizer, torch.device("cpu"))

    def step(self, number, *, factor=1.0, spoilt_gradient=None, overflow_is_normal=False):
        self.guard.begin()
        images = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(number))
        loss = self.network(images).square().mean() * factor
        loss.backward()
        if spoilt_gradient is not None:
            self.network[0].weight.grad[0, 0, 0, 0] = spoilt_gradient
        norm = clip_gradients(self.network.parameters(), 0)
        self.guard.update(number, loss.detach(), norm, overflow_is_normal=overflow_is_normal)
        self.optimizer.zero_grad(set_to_none=True)

    def state(self):
        """All numbers that a step may change."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for number, values in self.optimizer.state_dict()["state"].items():
            state |= {f"{number}.{name}": value for name, value in values.items()}
        return copy.deepcopy(state)


def differing(before, after):
    assert before.keys() == after.keys()
    return [name for name in before if not torch.equal(before[name], after[name])]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_only_convolution_weights_decay(optimizer):
    net = network()
    groups = build_optimizer(net, config(optimizer=optimizer)).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    found = {name: decays[id(p)] for name, p in net.named_parameters()}
    assert found == {"0.weight": 0.5, "1.weight": 0.0, "1.bias": 0.0, "2.weight": 0.5, "2.bias": 0.0}


def test_linear_maps_decay_as_convolutions_do():
    net = nn.ModuleDict({"linear": nn.Linear(2, 3), "norm": nn.LayerNorm(3)})
    net.scale = nn.Parameter(torch.zeros(3, 1, 1))
    groups = build_optimizer(net, config()).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert {name for name, p in net.named_parameters() if decays[id(p)]} == {"linear.weight"}


def test_parts_have_rates_of_their_own():
    net = network()
    optimizer = build_optimizer(net, config(lr_factors={"0": 0.5, "[01]": 0.25, "2": 0}))
    set_learning_rate(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: rates[id(p)] for name, p in net.named_parameters()} == {
        "0.weight": 0.25, "1.weight": 0.25, "1.bias": 0.25, "2.weight": 0.0, "2.bias": 0.0,
    }  # fmt: skip
    before = {name: p.clone() for name, p in net.named_parameters()}
    net(torch.randn(2, 2, 6, 6)).square().mean().backward()
    optimizer.step()
    assert [name for name, p in net.named_parameters() if torch.equal(p, before[name])] == ["2.weight", "2.bias"]


def test_a_factor_for_no_layer_is_refused():
    with pytest.raises(ConfigError, match=r"train\.lr_factors: no layer is called 'backbone'; near are 0, 2"):
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


def test_sgd_without_momentum():
    layer = nn.Conv2d(1, 1, 1)
    optimizer = build_optimizer(layer, config(momentum=0, weight_decay=0))
    before = layer.bias.item()
    layer.weight.grad, layer.bias.grad = torch.zeros(1, 1, 1, 1), torch.tensor([1.0])
    optimizer.step()
    assert layer.bias.item() == pytest.approx(before - 0.1)


def test_the_rate_is_that_of_all_groups():
    optimizer = build_optimizer(network(), config())
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    "spoil",
    [{"factor": float("nan")}, {"factor": float("inf")}, {"spoilt_gradient": float("inf")},
     {"spoilt_gradient": float("nan")}],
    ids=["nan loss", "inf loss", "inf gradient", "nan gradient"],
)  # fmt: skip
@pytest.mark.parametrize("good_steps", [0, 2])
def test_nothing_changes_from_the_first_bad_step_on(optimizer, spoil, good_steps):
    training = Training(optimizer=optimizer)
    for number in range(good_steps):
        training.step(number)
    before = training.state()
    training.step(good_steps, **spoil)
    assert training.guard.failed
    if good_steps:  # AdamW makes its state at its first step
        assert differing(before, training.state()) == []
    reached = training.state()
    assert all(torch.equal(value, reached[name]) for name, value in before.items())
    for later in range(good_steps + 1, good_steps + 4):
        training.step(later)
    assert differing(reached, training.state()) == []
    assert training.guard.first_bad_step == good_steps


def test_good_steps_are_plain_sgd():
    training = Training()
    plain = network()
    optimizer = torch.optim.SGD(
        [{"params": [plain[0].weight, plain[2].weight], "weight_decay": 0.5},
         {"params": [plain[1].weight, plain[1].bias, plain[2].bias]}],
        lr=0.1, momentum=0.9,
    )  # fmt: skip
    for number in range(3):
        training.step(number)
        images = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(number))
        plain(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not training.guard.failed
    assert training.guard.first_bad_step == -1
    torch.testing.assert_close(training.network.state_dict(), plain.state_dict())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_an_overflow_that_is_normal_leaves_out_one_update(optimizer):
    training = Training(optimizer=optimizer)
    training.step(0, spoilt_gradient=float("inf"), overflow_is_normal=True)  # fp16 begins like this, as a rule
    assert not training.guard.failed
    untouched = {name: value for name, value in network().state_dict().items() if "running" not in name}
    now = training.network.state_dict()
    assert all(torch.equal(now[name], value) for name, value in untouched.items() if "num_batches" not in name)
    training.step(1, overflow_is_normal=True)
    twin = Training(optimizer=optimizer)
    twin.step(1)
    learnt = [name for name, _ in network().named_parameters()]
    assert all(torch.equal(training.network.state_dict()[n], twin.network.state_dict()[n]) for n in learnt)


def test_a_loss_that_is_not_finite_is_never_normal():
    training = Training()
    training.step(0, factor=float("nan"), overflow_is_normal=True)
    assert training.guard.failed


def test_a_variance_that_overflows_is_a_failure_though_the_loss_is_finite():
    training = Training()
    training.step(0)
    before = training.state()
    training.guard.begin()
    with torch.no_grad():
        training.network[1].running_var[0] = float("inf")
    loss, norm = torch.tensor(1.0), torch.tensor(1.0)
    training.guard.update(1, loss, norm, overflow_is_normal=False)
    assert training.guard.failed
    assert differing(before, training.state()) == []


def test_undo_puts_the_buffers_back():
    training = Training()
    before = training.state()
    training.guard.begin()
    training.network(torch.ones(2, 2, 6, 6))
    assert differing(before, training.state())
    training.guard.undo()
    assert differing(before, training.state()) == []


def test_clipping_gives_the_norm_that_was_and_scales_down():
    parameters = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    for most, expected in ((0, [3.0, 4.0]), (10, [3.0, 4.0]), (1, [0.6, 0.8])):
        for parameter, value in zip(parameters, (3.0, 4.0), strict=True):
            parameter.grad = torch.tensor([value])
        assert clip_gradients(parameters, most) == 5
        assert [p.grad.item() for p in parameters] == pytest.approx(expected, abs=1e-5)
