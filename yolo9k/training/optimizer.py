"""The optimiser (SGD or AdamW), its learning rate per parameter group, and gradient clipping."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from yolo9k.config.schema import TrainConfig
from yolo9k.training.freezing import lr_factors_by_tensor

LR_FACTOR = "lr_factor"  # key of a parameter group whose factor is not 1


def build_optimizer(network: nn.Module, config: TrainConfig) -> Optimizer:
    """Build SGD with momentum, or AdamW. Only the weights of convolutions and linear layers decay (Darknet `update`).

    Frozen parameters are included, since they may be unfrozen later. The fused kernels are used: they make one pass
    over memory, and a flag on the device can make them skip an update (`FiniteGuard`). Raises `ConfigError` for a name
    in `lr_factors` that no layer has.
    """
    groups = _parameter_groups(network, config)
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=True)
    optimizer = SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    if config.momentum:  # if the first update is skipped, torch would keep a buffer that was never written
        for parameter in (parameter for group in groups for parameter in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _parameter_groups(network: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Return two groups per learning rate factor: parameters with and without weight decay."""
    factors = lr_factors_by_tensor(network, config.lr_factors)
    trainable = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    groups = []
    for factor in dict.fromkeys(factors[name] for name in trainable):
        scaled = {} if factor == 1 else {LR_FACTOR: factor}
        members = {name: parameter for name, parameter in trainable.items() if factors[name] == factor}
        for decays, weight_decay in ((True, config.weight_decay), (False, 0.0)):
            parameters = [p for name, p in members.items() if (p.dim() > 1 and name.endswith("weight")) == decays]
            groups.append({"params": parameters, "weight_decay": weight_decay, **scaled})
    return groups


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group: `lr` times the group's factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(LR_FACTOR, 1.0)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale gradients down to a total norm of at most `max_norm` (0: no clipping); return the norm before."""
    return nn.utils.clip_grad_norm_(list(parameters), max_norm or float("inf"))
