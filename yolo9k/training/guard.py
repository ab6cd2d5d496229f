"""`FiniteGuard`: skips optimiser updates whose loss, gradient or buffers are NaN or infinite."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from yolo9k import processes


class FiniteGuard:
    """Updates the weights only while loss, gradient and buffers are finite, without waiting for the device.

    A step that is not finite changes neither weights nor optimiser state, and the network's buffers (batch norm
    statistics) are put back to their values before it. Buffers are checked because a variance can overflow while the
    loss stays finite: dividing by it gives zeros.

    `max_skipped`: so many of these steps in a row are only skipped, and counted in `skipped`; the next one fails.
    `failed` is a bool on the device; once true, it stays true, and no later step changes anything. `bad_processes`:
    which processes had a loss that is not finite in the step that failed.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, device: torch.device, max_skipped: int = 0) -> None:
        self.optimizer, self.max_skipped = optimizer, max_skipped
        self.failed = torch.zeros((), dtype=torch.bool, device=device)
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._in_a_row = torch.zeros((), dtype=torch.int64, device=device)
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self.bad_processes = torch.zeros(processes.count(), dtype=torch.bool, device=device)
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

    def update(
        self, step: int, loss: Tensor, gradient_norm: Tensor, bad_processes: Tensor, *, overflow_is_normal: bool
    ) -> None:
        """Do one optimiser update if loss, gradient norm and buffers are finite; all are equal in all processes.

        `overflow_is_normal`: for fp16; a gradient that overflows then skips this update and is not a failure.
        """
        bad_gradient = ~gradient_norm.isfinite()
        bad = ~loss.isfinite() | ~self._buffer_norm().isfinite()
        if not overflow_is_normal:
            bad = bad | bad_gradient
        self._in_a_row = torch.where(bad, self._in_a_row + 1, 0)
        fails = self._in_a_row > self.max_skipped
        is_first = fails & ~self.failed
        self.first_bad_step = torch.where(is_first, step, self.first_bad_step)
        self.bad_processes = torch.where(is_first, bad_processes, self.bad_processes)
        self.failed = self.failed | fails
        self.skipped = self.skipped + (bad & ~self.failed)
        unchanged = self.failed | bad
        # Fused optimisers read these two attributes on the device; torch's GradScaler sets them in the same way.
        self.optimizer.grad_scale = None  # type: ignore[attr-defined]
        self.optimizer.found_inf = (unchanged | bad_gradient).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        for buffer, saved in zip(self._buffers, self._saved, strict=True):
            torch.where(unchanged, saved, buffer, out=buffer)
        self._in_step = False

    def _buffer_norm(self) -> Tensor:
        """Return the sum of the buffers' maximum norms: finite only if all of them are."""
        if not self._float_buffers:
            return torch.zeros_like(self.failed, dtype=torch.float32)
        return torch.stack(torch._foreach_norm(self._float_buffers, ord=float("inf"))).sum()


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    if sources:  # torch refuses an empty list: a network with group norm or no norm has no buffers
        torch._foreach_copy_(targets, sources)
