"""`StepLog`: mean losses and training speed of the steps since the last log entry."""

import math
import time
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

NORM = "gradient_norm"


def total_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the losses of a step."""
    return torch.stack([value for name, value in losses.items() if name != NORM]).sum()


class StepLog:
    """Collects losses on the device, so that steps need not wait for them, and measures the training speed."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._losses: list[Mapping[str, Tensor]] = []
        self.restart_clock()

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of one step, `gradient_norm` included."""
        self._losses.append(losses)
        self._timed_steps += 1

    def restart_clock(self) -> None:
        """Restart the speed measurement; call it after an evaluation, which is not training time."""
        self._start, self._timed_steps = time.monotonic(), 0

    def entry(self, step: int, lr: float, size_wh: tuple[int, int], steps_per_epoch: float) -> dict[str, float]:
        """Return the entry for metrics.jsonl and start the next one. Each loss is averaged over the steps that have it.

        Older runs resume and plots read old files: keep the keys.
        """
        means = {name: self._mean(name) for name in dict.fromkeys(name for losses in self._losses for name in losses)}
        norm = means.pop(NORM)
        speed = self._timed_steps * self.batch_size / max(time.monotonic() - self._start, 1e-9)
        self._losses.clear()
        self.restart_clock()
        return {
            "step": step, "epoch": round(step / steps_per_epoch, 3), "loss": sum(means.values()),
            **{f"loss/{name}": value for name, value in means.items()},
            "gradient_norm": norm, "lr": lr, "width": size_wh[0], "height": size_wh[1],
            "images_per_second": round(speed, 2),
        }  # fmt: skip

    def recent_loss(self) -> float:
        """Return the mean of the finite losses since the last entry; NaN if there are none. Waits for the device."""
        finite = [total for losses in self._losses if math.isfinite(total := float(total_loss(losses)))]
        return sum(finite) / len(finite) if finite else math.nan

    def drop(self, steps: int) -> None:
        """Forget the last steps, which changed nothing."""
        del self._losses[len(self._losses) - min(steps, len(self._losses)) :]

    def state(self) -> list[dict[str, float]]:
        """Return the losses that are not logged yet: what resuming needs. Waits for the device."""
        return [{name: float(value) for name, value in losses.items()} for losses in self._losses]

    def restore(self, state: Iterable[Mapping[str, float]], device: torch.device) -> None:
        """Load the `state` of an earlier run; the speed is measured anew."""
        self._losses = [
            {name: torch.tensor(value, device=device) for name, value in losses.items()} for losses in state
        ]
        self.restart_clock()

    def _mean(self, name: str) -> float:
        values = torch.stack([losses[name] for losses in self._losses if name in losses])
        mean = float(values.mean())
        finite = values if math.isfinite(mean) else values[values.isfinite()]  # without steps that were skipped
        return float(finite.mean()) if len(finite) else math.nan
