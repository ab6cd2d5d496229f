import copy

import pytest
import torch
from torch import nn

from yolo9k.config.schema import TrainConfig
from yolo9k.training.guard import FiniteGuard
from yolo9k.training.optimizer import build_optimizer, clip_gradients


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))


def config(**changes):
    return TrainConfig(**{"lr": 0.1, "momentum": 0.9, "weight_decay": 0.5, **changes})


class Training:
    """A guarded network, with a step whose loss and gradient can be made NaN or infinite."""

    def __init__(self, max_skipped=0, **changes):
        self.network = network()
        self.optimizer = build_optimizer(self.network, config(**changes))
        self.guard = FiniteGuard(self.network, self.optimizer, torch.device("cpu"), max_skipped)

    def step(self, step, *, factor=1.0, bad_gradient=None, overflow_is_normal=False):
        self.guard.begin()
        images = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(step))
        loss = self.network(images).square().mean() * factor
        loss.backward()
        if bad_gradient is not None:
            self.network[0].weight.grad[0, 0, 0, 0] = bad_gradient
        norm = clip_gradients(self.network.parameters(), 0)
        bad_processes = ~loss.detach().isfinite()[None]
        self.guard.update(step, loss.detach(), norm, bad_processes, overflow_is_normal=overflow_is_normal)
        self.optimizer.zero_grad(set_to_none=True)

    def state(self):
        """All values that a step may change."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            state |= {f"{index}.{name}": value for name, value in values.items()}
        return copy.deepcopy(state)


def differing(before, after):
    assert before.keys() == after.keys()
    return [name for name in before if not torch.equal(before[name], after[name])]


def test_only_a_step_that_was_not_completed_is_undone():
    training = Training()
    training.step(0)
    after = training.state()
    training.guard.undo()
    assert differing(after, training.state()) == []
    training.guard.begin()
    training.network(torch.randn(2, 2, 6, 6))  # changes the statistics of the batch norm
    assert differing(after, training.state()) != []
    training.guard.undo()
    assert differing(after, training.state()) == []


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    "failure",
    [{"factor": float("nan")}, {"factor": float("inf")}, {"bad_gradient": float("inf")},
     {"bad_gradient": float("nan")}],
    ids=["nan loss", "inf loss", "inf gradient", "nan gradient"],
)  # fmt: skip
@pytest.mark.parametrize("good_steps", [0, 2])
def test_nothing_changes_from_the_first_bad_step_on(optimizer, failure, good_steps):
    training = Training(optimizer=optimizer)
    for step in range(good_steps):
        training.step(step)
    before = training.state()
    training.step(good_steps, **failure)
    assert training.guard.failed
    if good_steps:  # AdamW creates its state in its first step
        assert differing(before, training.state()) == []
    after = training.state()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    for later in range(good_steps + 1, good_steps + 4):
        training.step(later)
    assert differing(after, training.state()) == []
    assert training.guard.first_bad_step == good_steps


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_bad_steps_are_skipped_and_counted_until_they_are_too_many_in_a_row(optimizer):
    training, without = Training(max_skipped=2, optimizer=optimizer), Training(optimizer=optimizer)
    for step in (0, 3):
        without.step(step)
    training.step(0)
    training.step(1, factor=float("nan"))
    training.step(2, bad_gradient=float("inf"))
    training.step(3)
    assert differing(without.state(), training.state()) == []
    assert (int(training.guard.skipped), bool(training.guard.failed)) == (2, False)
    for step in (4, 5, 6):
        assert not training.guard.failed
        training.step(step, factor=float("nan"))
    assert (int(training.guard.first_bad_step), int(training.guard.skipped)) == (6, 4)
    training.step(7)
    assert differing(without.state(), training.state()) == []


def test_good_steps_are_plain_sgd():
    training = Training()
    plain = network()
    optimizer = torch.optim.SGD(
        [{"params": [plain[0].weight, plain[2].weight], "weight_decay": 0.5},
         {"params": [plain[1].weight, plain[1].bias, plain[2].bias]}],
        lr=0.1, momentum=0.9,
    )  # fmt: skip
    for step in range(3):
        training.step(step)
        images = torch.randn(2, 2, 6, 6, generator=torch.Generator().manual_seed(step))
        plain(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not training.guard.failed
    assert training.guard.first_bad_step == -1
    torch.testing.assert_close(training.network.state_dict(), plain.state_dict())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_normal_overflow_skips_one_update(optimizer):
    training = Training(optimizer=optimizer)
    training.step(0, bad_gradient=float("inf"), overflow_is_normal=True)  # usual in the first steps of fp16
    assert not training.guard.failed
    initial = {name: value for name, value in network().state_dict().items() if "running" not in name}
    now = training.network.state_dict()
    assert all(torch.equal(now[name], value) for name, value in initial.items() if "num_batches" not in name)
    training.step(1, overflow_is_normal=True)
    twin = Training(optimizer=optimizer)
    twin.step(1)
    trained = [name for name, _ in network().named_parameters()]
    assert all(torch.equal(training.network.state_dict()[n], twin.network.state_dict()[n]) for n in trained)


def test_a_bad_loss_is_always_a_failure():
    training = Training()
    training.step(0, factor=float("nan"), overflow_is_normal=True)
    assert training.guard.failed


def test_a_variance_that_overflows_is_a_failure_even_with_a_finite_loss():
    training = Training()
    training.step(0)
    before = training.state()
    training.guard.begin()
    with torch.no_grad():
        training.network[1].running_var[0] = float("inf")
    loss, norm = torch.tensor(1.0), torch.tensor(1.0)
    training.guard.update(1, loss, norm, torch.tensor([False]), overflow_is_normal=False)
    assert training.guard.failed
    assert differing(before, training.state()) == []


def test_undo_restores_the_buffers():
    training = Training()
    before = training.state()
    training.guard.begin()
    training.network(torch.ones(2, 2, 6, 6))
    assert differing(before, training.state())
    training.guard.undo()
    assert differing(before, training.state()) == []
