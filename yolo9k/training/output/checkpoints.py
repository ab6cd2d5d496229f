"""`RunCheckpoints`: the checkpoints of a run, written by a thread while training goes on; earlier ones are kept.

| file | content |
| --- | --- |
| `last.pt` | the newest step, with what resuming needs |
| `stepN.pt` | an earlier `last.pt`, after N steps |
| `best.pt` | the weights with the best validation score |
| `stageN.pt` | the weights at the end of a stage that is not the last |
"""

import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from yolo9k import checkpoint
from yolo9k.checkpoint import LAST, Checkpoint
from yolo9k.errors import WeightsError
from yolo9k.io import replacing, writing

CHECKPOINTS = "checkpoints"  # in a run folder
EARLIER = "step{}.pt"
EARLIER_PATTERN = re.compile(r"step(\d+)\.pt")


class RunCheckpoints:
    """Writes the checkpoints of a run into `folder`.

    Of the earlier checkpoints, the newest `keep_last` stay and those of multiples of `keep_every` steps (0: none).
    Methods raise `MachineError` if this or the previous checkpoint could not be written.
    """

    def __init__(self, folder: Path, keep_last: int, keep_every: int) -> None:
        self.folder, self._keep_last, self._keep_every = folder, keep_last, keep_every
        self.last_step: int | None = None  # of last.pt; `None`: there is none of this run
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending: Future[None] | None = None

    def continue_from(self, path: Path, step: int) -> None:
        """Make the checkpoint of `step`, from which the run is resumed, its last one again."""
        last = self.folder / LAST
        if path != last:
            with replacing(last, "checkpoint") as draft:
                shutil.copyfile(path, draft)
        self.last_step = step

    def save(self, name: str, stored: Checkpoint) -> None:
        """Write a checkpoint in the background, after the previous one; its weights may change meanwhile."""
        self._submit(checkpoint.save, checkpoint.snapshot(stored), self.folder / name)

    def save_last(self, stored: Checkpoint, step: int, pinned: int) -> None:
        """Write `last.pt` of a step in the background; the one before stays, as does that of the step `pinned`."""
        earlier, self.last_step = self.last_step, step
        self._submit(self._replace_last, checkpoint.snapshot(stored), step, earlier, pinned)

    def wait(self) -> None:
        """Wait until the checkpoint that is being written is complete."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def _submit(self, *call: object) -> None:
        self.wait()
        self._pending = self._thread.submit(*call)  # type: ignore[arg-type]

    def _replace_last(self, stored: Checkpoint, step: int, earlier: int | None, pinned: int) -> None:
        if earlier not in (None, step):
            self._keep_as(self.folder / EARLIER.format(earlier))
        checkpoint.save(stored, self.folder / LAST)
        self._remove_needless(step, pinned)

    def _keep_as(self, target: Path) -> None:
        """Give `last.pt` a second name; where a file system has no hard links, it is renamed."""
        last = self.folder / LAST
        with writing(target, "checkpoint"), suppress(FileNotFoundError):  # someone removed last.pt
            target.unlink(missing_ok=True)
            try:
                os.link(last, target)
            except (OSError, NotImplementedError):
                last.replace(target)

    def _remove_needless(self, step: int, pinned: int) -> None:
        """Remove earlier checkpoints that need not stay, and later ones, from which the run does not go on."""
        found = dict(earlier_checkpoints(self.folder))
        before = [number for number in found if number < step]
        kept = {*before[: self._keep_last], pinned}
        if self._keep_every:
            kept |= {number for number in before if number % self._keep_every == 0}
        for number, path in found.items():
            if number >= step or number not in kept:
                with suppress(OSError):
                    path.unlink()


class SilentCheckpoints(RunCheckpoints):
    """The checkpoints in processes that are not the main one: nothing is written."""

    def continue_from(self, path: Path, step: int) -> None:
        """Note the step."""
        self.last_step = step

    def save(self, name: str, stored: Checkpoint) -> None:
        """Do nothing."""

    def save_last(self, stored: Checkpoint, step: int, pinned: int) -> None:
        """Note the step."""
        self.last_step = step


def earlier_checkpoints(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield the step and path of each earlier checkpoint of a run, the newest first."""
    matches = ((EARLIER_PATTERN.fullmatch(path.name), path) for path in folder.glob("step*.pt"))
    yield from sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)


def is_resumable(folder: Path) -> bool:
    """Return whether a run folder has a checkpoint to resume from, whole or not."""
    checkpoints = folder / CHECKPOINTS
    return (checkpoints / LAST).exists() or any(earlier_checkpoints(checkpoints))


def load_resumable(path: Path) -> tuple[Path, Checkpoint, str]:
    """Load what a run is resumed from: a checkpoint, or that of a run folder. Return its path, itself and a note.

    If `last.pt` is damaged or missing, that is the newest earlier one that is whole, and the note says so; else the
    note is empty. Raises `WeightsError` if there is none.
    """
    if path.is_file():
        return path, checkpoint.load(path), ""
    folder = path / CHECKPOINTS
    try:
        return folder / LAST, checkpoint.load(folder / LAST), ""
    except WeightsError as error:
        reason = str(error).partition("; ")[0]
        for step, earlier in earlier_checkpoints(folder):
            with suppress(WeightsError):
                note = f"warning: {reason}; resuming from step {step}, {earlier}"
                return earlier, checkpoint.load(earlier), note
        raise
