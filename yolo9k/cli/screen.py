"""Show the progress of a training run in the terminal."""

from collections.abc import Mapping
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from yolo9k.cli.console import err, out
from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import split_names
from yolo9k.training.output.callbacks import Callback, RunInfo
from yolo9k.training.tasks.task import Scores

NEXT_COMMANDS = {  # after a run, by task
    "detect": "yolo9k eval --weights {folder}{split}; yolo9k detect IMAGE --weights {folder}",
    "classify": "yolo9k classify eval --weights {folder}{split}; yolo9k classify predict IMAGE --weights {folder}",
}


class Screen(Callback):
    """Shows a progress bar, and a line per evaluation; without a terminal only lines."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.size = (0, 0)
        self.task, self.split = "detect", ""

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()  # restores the cursor, also after an error

    def on_start(self, info: RunInfo) -> None:
        """Print a summary of the run, and start the bar."""
        model = info.config.model
        self.task = info.config.task
        self.split = _eval_split(info.config.data.dataset)
        err.print(
            f"{model.name}: {info.parameters:,} parameters, {len(info.labels)} labels; {info.data_summary}; "
            f"{info.device}, {info.precision}, {info.workers} workers"
        )
        err.print("; ".join(info.details))
        for note in info.notes:
            err.print(note)
        err.print(f"writing to {info.folder}; steps {info.first_step} to {info.total_steps}")
        if err.is_terminal:
            columns = (
                TextColumn("{task.fields[epoch]}", markup=False), BarColumn(bar_width=None), MofNCompleteColumn(),
                TimeRemainingColumn(), TextColumn("{task.fields[status]}", markup=False),
            )  # fmt: skip
            self.progress = Progress(*columns, console=err)
            self.progress.add_task("", total=info.total_steps, completed=info.first_step, epoch="", status="")
            self.progress.start()

    def on_step(self, step: int, size_wh: tuple[int, int]) -> None:
        """Move the bar."""
        self.size = size_wh
        if self.progress:
            self.progress.update(self.progress.task_ids[0], completed=step + 1)

    def on_log(self, entry: Mapping[str, float]) -> None:
        """Show losses, learning rate and speed."""
        parts = {name.removeprefix("loss/"): value for name, value in entry.items() if name.startswith("loss/")}
        losses = " ".join(f"{name[:5]} {value:.2f}" for name, value in parts.items())
        status = (
            f"loss {entry['loss']:.2f} ({losses}) {self.size[0]}x{self.size[1]} "
            f"lr {entry['lr']:.2g} {entry['images_per_second']:.1f} images/s"
        )
        if self.progress:
            epoch = f"epoch {entry['epoch']:.1f}"
            self.progress.update(self.progress.task_ids[0], status=status, epoch=epoch)
        else:
            err.print(f"step {entry['step']} epoch {entry['epoch']:.2f} {status}")

    def on_evaluation(self, scores: Scores, *, best: bool) -> None:
        """Print the scores."""
        err.print(f"validation: {scores.text}{' (best)' if best else ''}")

    def on_note(self, text: str) -> None:
        """Print it above the bar."""
        err.print(text, style="yellow")

    def on_end(self, folder: Path, best: float | None) -> None:
        """Print the run folder and the next commands."""
        score = "" if best is None else f", best validation score {best:.4f}"
        out.print(f"done{score}; results are in {folder}")
        split = f" --split {self.split}" if self.split else ""
        out.print(f"next: {NEXT_COMMANDS[self.task].format(folder=folder, split=split)}")


def _eval_split(dataset: object) -> str:
    """Return the split for `eval`: test, else val (an empty text, since it is the default), else train."""
    if not isinstance(dataset, DatasetConfig):
        return ""
    names = split_names(dataset)
    if "test" in names:
        return "test"
    return "" if "val" in names else "train"
