"""`LossLevel`: the running level of the loss, which tells a training that blew up from its usual noise."""

import math
from collections.abc import Mapping

MEMORY = 0.9  # of the level, per log entry
HIGH = 10.0  # times the level; the loss of a healthy run varies by two or three times
SMALLEST = 1e-12  # a loss may be 0


class LossLevel:
    """A running geometric mean of the logged losses. Losses far above it do not raise it."""

    def __init__(self) -> None:
        self.level = math.nan  # before the first loss

    def add(self, loss: float) -> None:
        """Take a logged loss into account."""
        if self.is_high(loss) or not math.isfinite(loss):
            return
        value = math.log(max(loss, SMALLEST))
        before = value if math.isnan(self.level) else math.log(self.level)
        self.level = math.exp(MEMORY * before + (1 - MEMORY) * value)

    def is_high(self, loss: float) -> bool:
        """Return whether a loss is so far above the level that the weights are damaged."""
        return loss > HIGH * self.level

    def state(self) -> dict[str, float]:
        """Return what resuming needs."""
        return {"level": self.level}

    def restore(self, state: Mapping[str, float]) -> None:
        """Load the `state` of an earlier run."""
        self.level = float(state["level"])
