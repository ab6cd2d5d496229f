"""`Callback`: the events of a run, for whoever shows or records them; the training loop itself prints nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yolo9k.config import RunConfig
    from yolo9k.training.tasks.task import Scores


@dataclass(frozen=True)
class RunInfo:
    """What a run is going to do, known before its first step.

    `data_summary`: one line about the training data. `details`: further facts, one line each. `labels`: label names.
    `first_step`: above 0 for a resumed run. `notes`: warnings and facts for the user.
    """

    config: "RunConfig"
    folder: Path
    device: str
    precision: str
    parameters: int
    data_summary: str
    details: Sequence[str]
    labels: Sequence[str]
    first_step: int
    total_steps: int
    steps_per_epoch: float
    workers: int
    notes: Sequence[str] = ()


class Callback:
    """Base class whose methods do nothing; `yolo9k train` passes one that shows the run in the terminal."""

    def on_start(self, info: RunInfo) -> None:
        """Called before the first step, with everything built."""

    def on_step(self, step: int, size_wh: tuple[int, int]) -> None:
        """Called when step `step` (from 0) has been sent to the device; `size_wh`: image size of the step."""

    def on_log(self, entry: Mapping[str, float]) -> None:
        """Called every `train.log_every` steps with an entry of metrics.jsonl (see `StepLog.entry`)."""

    def on_evaluation(self, scores: "Scores", *, best: bool) -> None:
        """Called after each evaluation on the validation split; `best`: whether it is the best so far."""

    def on_note(self, text: str) -> None:
        """Called with a warning or a fact for the user, one line."""

    def on_end(self, folder: Path, best: float | None) -> None:
        """Called after the last step, with everything saved; `best`: the best score, `None` without evaluations."""
