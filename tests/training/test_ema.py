import pytest
import torch

from yolo9k.models.yolov2 import yolov2_tiny
from yolo9k.training.ema import Ema


@pytest.fixture
def network():
    torch.manual_seed(0)
    return yolov2_tiny(torch.tensor([[1.0, 1.0]]), 2, width=0.05)


def fill(network, value):
    with torch.no_grad():
        for tensor in (*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())):
            tensor.fill_(value)


def test_starts_as_an_independent_copy(network):
    ema = Ema(network, 0.9)
    before = {name: value.clone() for name, value in ema.network.state_dict().items()}
    fill(network, 5.0)
    assert all(torch.equal(value, before[name]) for name, value in ema.network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in ema.network.parameters())


def test_the_average_by_hand(network):
    fill(network, 0.0)
    ema = Ema(network, 0.25)
    fill(network, 1.0)
    ema.update(network)  # decay min(.25, 2/11) = 2/11
    assert ema.network.head.conv.bias[0].item() == pytest.approx(9 / 11)
    ema.update(network)  # decay min(.25, 3/12)
    assert ema.network.head.conv.bias[0].item() == pytest.approx(0.25 * 9 / 11 + 0.75)
    ema.update(network)  # decay min(.25, 4/13)
    assert ema.network.head.conv.bias[0].item() == pytest.approx(0.25 * (0.25 * 9 / 11 + 0.75) + 0.75)


def test_running_statistics_are_averaged_too(network):
    fill(network, 0.0)
    ema = Ema(network, 0.9)
    fill(network, 1.0)
    ema.update(network)
    state = ema.network.state_dict()
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    assert means
    assert all(torch.allclose(mean, torch.full_like(mean, 9 / 11)) for mean in means)
