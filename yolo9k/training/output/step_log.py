"""What a run says about its last few steps."""

import time
from collections.abc import Mapping

import torch
from torch import Tensor


class StepLog:
    """Losses since the last entry, kept on the device until then, and the clock of the training speed."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self._losses: list[Mapping[str, Tensor]] = []
        self.restart_clock()

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """The losses of one step, and its `gradient_norm`."""
        self._losses.append(losses)
        self._timed += 1

    def restart_clock(self) -> None:
        """Leave out of the speed what is no training."""
        self._clock, self._timed = time.monotonic(), 0

    def entry(self, step: int, rate: float, size_wh: tuple[int, int], steps_per_epoch: float) -> dict[str, float]:
        """Means over the steps since the last entry, each loss over the steps that had it."""
        means = {name: self._mean(name) for name in dict.fromkeys(name for losses in self._losses for name in losses)}
        norm = means.pop("gradient_norm")
        speed = self._timed * self.batch / max(time.monotonic() - self._clock, 1e-9)
        self._losses.clear()
        self.restart_clock()
        return {
            "step": step, "epoch": round(step / steps_per_epoch, 3), "loss": sum(means.values()),
            **{f"loss/{name}": value for name, value in means.items()},
            "gradient_norm": norm, "lr": rate, "width": size_wh[0], "height": size_wh[1],
            "images_per_second": round(speed, 2),
        }  # fmt: skip

    def _mean(self, name: str) -> float:
        return float(torch.stack([losses[name] for losses in self._losses if name in losses]).mean())
