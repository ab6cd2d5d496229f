"""The running average of the weights, which detects better than the last weights do."""

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Averages a network: average = decay * average + (1 - decay) * network, buffers included.

    Early on the decay is smaller, (1 + n) / (10 + n), so that the random start is soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the network's present weights."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(_floats(self.network), _floats(network), weight)


def _floats(network: nn.Module) -> list[Tensor]:
    return [value.detach() for value in network.state_dict().values() if value.is_floating_point()]
