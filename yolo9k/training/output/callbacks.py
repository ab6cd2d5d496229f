"""How a run tells whoever started it what happens, without printing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yolo9k.config import RunConfig
    from yolo9k.training.tasks.task import Scores


@dataclass(frozen=True)
class Plan:
    """What a run is going to do, once everything is built; `data` and `lines` say in words what is learnt from what."""

    config: "RunConfig"
    folder: Path
    device: str
    precision: str
    parameters: int
    data: str
    lines: Sequence[str]
    labels: Sequence[str]
    first_step: int
    total_steps: int
    steps_per_epoch: float
    workers: int
    notes: Sequence[str] = ()


class Callback:
    """Does nothing; the command's own shows these events to a person."""

    def on_start(self, plan: Plan) -> None:
        """Everything is built; the first step comes next."""

    def on_step(self, step: int, size_wh: tuple[int, int]) -> None:
        """Step `step` was sent to the device."""

    def on_log(self, entry: Mapping[str, float]) -> None:
        """Losses and rates over the last few steps."""

    def on_evaluation(self, scores: "Scores", *, best: bool) -> None:
        """The validation split was scored."""

    def on_note(self, text: str) -> None:
        """Something that a person should know."""

    def on_end(self, folder: Path, best: float | None) -> None:
        """The run is over and saved."""
