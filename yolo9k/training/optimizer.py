"""The optimiser, and the guard that lets nothing into the weights that is not finite."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from yolo9k.config.schema import TrainConfig

CONVOLUTION_DIMENSIONS = 4


def build_optimizer(network: nn.Module, config: TrainConfig) -> Optimizer:
    """SGD with momentum (or AdamW); convolution weights decay, biases and norms do not (Darknet `update`).

    The fused kernels are used: one pass over memory, and they can be told on the device to leave out an update.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for p in parameters if p.dim() == CONVOLUTION_DIMENSIONS],
            "weight_decay": config.weight_decay,
        },
        {"params": [p for p in parameters if p.dim() != CONVOLUTION_DIMENSIONS], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999), fused=True)
    optimizer = SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    if config.momentum:  # an update that is left out would keep the memory that torch reserves unwritten on the first
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give all parameter groups the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


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
        self._floats = [b for b in self._buffers if b.is_floating_point()]

    def begin(self) -> None:
        """Remember the buffers before a step's first forward pass."""
        torch._foreach_copy_(self._before, self._buffers)
        self._in_step = True

    def undo(self) -> None:
        """Put the buffers back to what they were before a step that was cut short, if one was."""
        if self._in_step:
            torch._foreach_copy_(self._buffers, self._before)
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
