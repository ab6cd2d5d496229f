"""The optimiser, and the guard that lets nothing into the weights that is not finite."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from yolo9k.config.schema import TrainConfig
from yolo9k.training.freezing import lr_factors_by_tensor

FACTOR = "lr_factor"  # of a parameter group, where it is not 1


def build_optimizer(network: nn.Module, config: TrainConfig) -> Optimizer:
    """SGD with momentum (or AdamW); convolution weights decay, biases and norms do not (Darknet `update`).

    Frozen parameters are in it, too: they may learn later. The fused kernels are used: one pass over memory, and they
    can be told on the device to leave out an update. Raises `ConfigError` for a name in `lr_factors` that no layer has.
    """
    groups = _groups(network, config)
    parameters = [parameter for group in groups for parameter in group["params"]]
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=True)
    optimizer = SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    if config.momentum:  # an update that is left out would keep the memory that torch reserves unwritten on the first
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _groups(network: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """For each factor of the learning rate what decays and what does not."""
    factors = lr_factors_by_tensor(network, config.lr_factors)
    learning = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    groups = []
    for factor in dict.fromkeys(factors[name] for name in learning):
        own = {name: parameter for name, parameter in learning.items() if factors[name] == factor}
        scaled = {} if factor == 1 else {FACTOR: factor}
        for decays, decay in ((True, config.weight_decay), (False, 0.0)):
            chosen = [parameter for name, parameter in own.items() if _decays(name, parameter) == decays]
            groups.append({"params": chosen, "weight_decay": decay, **scaled})
    return groups


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.dim() > 1 and name.endswith("weight")


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every parameter group the rate times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(FACTOR, 1.0)


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    if sources:  # a network without statistics (group norm, no norm) has no buffers, and torch no copy of nothing
        torch._foreach_copy_(targets, sources)


class FiniteGuard:
    """Stops all updates from the first loss, gradient or buffer on that is not finite, without asking the device.

    A variance can overflow where the loss does not: dividing by it gives zeros. `failed` (a bool on the device)
    stays true once it is; while it is, `update` changes neither weights nor optimiser state, and the network's
    buffers (batch-norm statistics) go back to what they were before the step.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, device: torch.device) -> None:
        self.optimizer = optimizer
        self.failed = torch.zeros((), dtype=torch.bool, device=device)
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self._buffers = list(network.buffers())
        self._before = [b.clone() for b in self._buffers]
        self._in_step = False
        self._floats = [b for b in self._buffers if b.is_floating_point() and b.numel()]

    def begin(self) -> None:
        """Remember the buffers before a step's first forward pass."""
        _copy(self._buffers, self._before)
        self._in_step = True

    def undo(self) -> None:
        """Put the buffers back to what they were before a step that was cut short, if one was."""
        if self._in_step:
            _copy(self._before, self._buffers)
            self._in_step = False

    def update(self, step: int, loss: Tensor, gradient_norm: Tensor, *, overflow_is_normal: bool) -> None:
        """One optimiser update, if the loss and the norm of the gradient are finite.

        `overflow_is_normal`: under fp16 a gradient that overflows leaves out one update, and is no failure.
        """
        bad_gradient = ~gradient_norm.isfinite()
        bad = ~loss.isfinite() | ~self._largest_in_buffers().isfinite()
        if not overflow_is_normal:
            bad = bad | bad_gradient
        first = bad & ~self.failed
        self.first_bad_step = torch.where(first, step, self.first_bad_step)
        self.failed = self.failed | bad
        self._step_unless(self.failed | bad_gradient)
        for buffer, before in zip(self._buffers, self._before, strict=True):
            torch.where(self.failed, before, buffer, out=buffer)
        self._in_step = False

    def _largest_in_buffers(self) -> Tensor:
        if not self._floats:
            return torch.zeros_like(self.failed, dtype=torch.float32)
        return torch.stack(torch._foreach_norm(self._floats, ord=float("inf"))).sum()

    def _step_unless(self, skip: Tensor) -> None:
        # The fused kernels read these attributes, which torch's own GradScaler sets in the same way.
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        self.optimizer.found_inf = skip.float()  # type: ignore[attr-defined]
        self.optimizer.step()


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scale gradients down to a norm of `most` (0: leave them) and give the norm they had."""
    chosen = list(parameters)
    return nn.utils.clip_grad_norm_(chosen, most or float("inf"))
