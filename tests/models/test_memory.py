import pytest
import torch
from torch import nn

from yolo9k.models.memory import image_bytes


class Conv(nn.Sequential):
    """A convolution with activation: 3 channels to 8, with the size of the image."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3, padding=1), nn.Mish(), nn.Conv2d(8, 8, 3, padding=1), nn.Mish())


MAP = 8 * 32 * 64 * 4  # bytes of a map of 8 channels


def test_inference_holds_input_and_output_of_a_layer():
    assert image_bytes(Conv(), (64, 32)) == 2 * MAP


def test_training_holds_all_outputs():
    assert image_bytes(Conv(), (64, 32), training=True) == 4 * MAP


def test_frozen_layers_need_less():
    network = Conv()
    network[0].requires_grad_(False)
    network[2].requires_grad_(False)
    assert image_bytes(network, (64, 32), training=True) == 2 * MAP


def test_nothing_changes_and_nothing_is_allocated():
    network = nn.Sequential(nn.Conv2d(3, 1024, 1), nn.BatchNorm2d(1024)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert image_bytes(network, (1 << 16, 1 << 16), training=True) > 1 << 44
    assert not network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("training", [False, True])
def test_a_map_of_one_cell_can_be_normalised(training):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    assert image_bytes(network, (1, 1), training=training) >= 2 * 4 * 4
