"""`Ema`: exponential moving average of the weights, used for evaluation and checkpoints (`train.ema`)."""

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Averages a network: average = decay * average + (1 - decay) * network, buffers included.

    In the first updates the decay is smaller, (1 + n) / (10 + n) for update n, so that initial weights fade quickly.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Update the average with the network's current weights."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(_float_tensors(self.network), _float_tensors(network), weight)


def _float_tensors(network: nn.Module) -> list[Tensor]:
    return [value.detach() for value in network.state_dict().values() if value.is_floating_point()]
