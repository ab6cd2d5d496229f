"""What a person sees of a training run."""

from collections.abc import Mapping
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from yolo9k.cli.console import err, out
from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import split_names
from yolo9k.training.output.callbacks import Callback, Plan
from yolo9k.training.tasks.task import Scores

NEXT = {  # what to do with a finished run
    "detect": "yolo9k eval --weights {folder}{split}; yolo9k detect IMAGE --weights {folder}",
    "classify": "yolo9k classify eval --weights {folder}{split}; yolo9k classify predict IMAGE --weights {folder}",
}


class Screen(Callback):
    """Shows a run: a bar with what a person watches, a line for each evaluation; lines only where no person looks."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.size = (0, 0)
        self.task, self.split = "detect", ""

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()  # gives the cursor back, whatever happened

    def on_start(self, plan: Plan) -> None:
        """Say what is going to happen, and open the bar."""
        model = plan.config.model
        self.task = plan.config.task
        self.split = _split_to_score(plan.config.data.dataset)
        err.print(
            f"{model.name}: {plan.parameters:,} parameters, {len(plan.labels)} labels; {plan.data}; "
            f"{plan.device}, {plan.precision}, {plan.workers} reading processes"
        )
        err.print("; ".join(plan.lines))
        for note in plan.notes:
            err.print(note, markup=False)
        err.print(f"writing to {plan.folder}; steps {plan.first_step} to {plan.total_steps}", markup=False)
        if err.is_terminal:
            columns = (
                TextColumn("{task.fields[epoch]}"), BarColumn(bar_width=None), MofNCompleteColumn(),
                TimeRemainingColumn(), TextColumn("{task.fields[status]}"),
            )  # fmt: skip
            self.progress = Progress(*columns, console=err)
            self.progress.add_task("", total=plan.total_steps, completed=plan.first_step, epoch="", status="")
            self.progress.start()

    def on_step(self, step: int, size_wh: tuple[int, int]) -> None:
        """Move the bar."""
        self.size = size_wh
        if self.progress:
            self.progress.update(self.progress.task_ids[0], completed=step + 1)

    def on_log(self, entry: Mapping[str, float]) -> None:
        """Show losses, rate and speed."""
        parts = {name.removeprefix("loss/"): value for name, value in entry.items() if name.startswith("loss/")}
        losses = " ".join(f"{name[:5]} {value:.2f}" for name, value in parts.items())
        status = (
            f"loss {entry['loss']:.2f} ({losses}) {self.size[0]}x{self.size[1]} "
            f"lr {entry['lr']:.2g} {entry['images_per_second']:.1f} img/s"
        )
        if self.progress:
            epoch = f"epoch {entry['epoch']:.1f}"
            self.progress.update(self.progress.task_ids[0], status=status, epoch=epoch)
        else:
            err.print(f"step {entry['step']} epoch {entry['epoch']:.2f} {status}", markup=False)

    def on_evaluation(self, scores: Scores, *, best: bool) -> None:
        """One line for each evaluation."""
        err.print(f"validation: {scores.text}{' (best)' if best else ''}")

    def on_note(self, text: str) -> None:
        """Show it above the bar."""
        err.print(text, style="yellow", markup=False)

    def on_end(self, folder: Path, best: float | None) -> None:
        """Say where everything is and what comes next."""
        score = "" if best is None else f", best validation score {best:.4f}"
        out.print(f"done{score}; the run is in {folder}", markup=False)
        split = f" --split {self.split}" if self.split else ""
        out.print(f"next: {NEXT[self.task].format(folder=folder, split=split)}", markup=False)


def _split_to_score(dataset: object) -> str:
    """What `eval` is to be told: test where there is one, train where there is no val either; empty for val."""
    if not isinstance(dataset, DatasetConfig):
        return ""
    there = split_names(dataset)
    if "test" in there:
        return "test"
    return "" if "val" in there else "train"
