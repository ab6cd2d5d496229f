"""`FiniteGuard`: skips optimiser updates from the first loss, gradient or buffer on that is NaN or infinite."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class FiniteGuard:
    """Updates the weights only while loss, gradient and buffers are finite, without waiting for the device.

    `failed` is a bool on the device; once true, it stays true. From then on `update` changes neither weights nor
    optimiser state, and the network's buffers (batch norm statistics) are put back to their values before the step.
    Buffers are checked because a variance can overflow while the loss stays finite: dividing by it gives zeros.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, device: torch.device) -> None:
        self.optimizer = optimizer
        self.failed = torch.zeros((), dtype=torch.bool, device=device)
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self._buffers = list(network.buffers())
        self._saved = [b.clone() for b in self._buffers]
        self._in_step = False
        self._float_buffers = [b for b in self._buffers if b.is_floating_point() and b.numel()]

    def begin(self) -> None:
        """Save the buffers; call before the first forward pass of a step."""
        _copy(self._buffers, self._saved)
        self._in_step = True

    def undo(self) -> None:
        """Restore the buffers if a step began but did not reach `update`."""
        if self._in_step:
            _copy(self._saved, self._buffers)
            self._in_step = False

    def update(self, step: int, loss: Tensor, gradient_norm: Tensor, *, overflow_is_normal: bool) -> None:
        """Do one optimiser update if loss, gradient norm and buffers are finite.

        `overflow_is_normal`: for fp16; a gradient that overflows then skips this update and is not a failure.
        """
        bad_gradient = ~gradient_norm.isfinite()
        bad = ~loss.isfinite() | ~self._buffer_norm().isfinite()
        if not overflow_is_normal:
            bad = bad | bad_gradient
        self.first_bad_step = torch.where(bad & ~self.failed, step, self.first_bad_step)
        self.failed = self.failed | bad
        # Fused optimisers read these two attributes on the device; torch's GradScaler sets them in the same way.
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        self.optimizer.found_inf = (self.failed | bad_gradient).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        for buffer, saved in zip(self._buffers, self._saved, strict=True):
            torch.where(self.failed, saved, buffer, out=buffer)
        self._in_step = False

    def _buffer_norm(self) -> Tensor:
        """Return the sum of the buffers' maximum norms: finite only if all of them are."""
        if not self._float_buffers:
            return torch.zeros_like(self.failed, dtype=torch.float32)
        return torch.stack(torch._foreach_norm(self._float_buffers, ord=float("inf"))).sum()


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    if sources:  # torch refuses an empty list: a network with group norm or no norm has no buffers
        torch._foreach_copy_(targets, sources)
