"""`StepLog`: mean losses and training speed of the steps since the last log entry."""

import time
from collections.abc import Mapping

import torch
from torch import Tensor


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
        norm = means.pop("gradient_norm")
        speed = self._timed_steps * self.batch_size / max(time.monotonic() - self._start, 1e-9)
        self._losses.clear()
        self.restart_clock()
        return {
            "step": step, "epoch": round(step / steps_per_epoch, 3), "loss": sum(means.values()),
            **{f"loss/{name}": value for name, value in means.items()},
            "gradient_norm": norm, "lr": lr, "width": size_wh[0], "height": size_wh[1],
            "images_per_second": round(speed, 2),
        }  # fmt: skip

    def _mean(self, name: str) -> float:
        return float(torch.stack([losses[name] for losses in self._losses if name in losses]).mean())
