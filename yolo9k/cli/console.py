"""Console output of all commands: standard output and error, progress bars, tables and JSON."""

import json
import sys
from collections.abc import Iterable, Sequence, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from yolo9k.io import writing

Item = TypeVar("Item")

BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells count


class Output(Console):
    """Standard output. If its reader exits (`| head`), the command ends without an error message."""

    def on_broken_pipe(self) -> None:
        """Exit with the code of other programs."""
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise SystemExit(BROKEN_PIPE)


out = Output(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def speaker(json: str) -> Console:
    """Return the console for text: standard error if JSON goes to standard output (`-`)."""
    return err if json == "-" else out


def print_plain(console: Console, text: str) -> None:
    """Print a line without markup: paths and names may contain square brackets."""
    console.print(text, markup=False)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """Show a progress bar with the remaining time on standard error; nothing if that is not a terminal."""
    if not err.is_terminal:
        return items
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()

    def tracked() -> Iterable[Item]:
        with Progress(*columns, console=err, transient=True) as progress:
            length = total if total is not None or not isinstance(items, Sized) else len(items)
            yield from progress.track(items, description=description, total=length)

    return tracked()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table: the first column is left-aligned, the others right-aligned; floats have three decimals."""
    result = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        result.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        result.add_row(*(Text(f"{cell:.3f}" if isinstance(cell, float) else str(cell)) for cell in row))
    return result


def write_json(target: str, value: Any) -> None:
    """Write JSON to a file, or to standard output (`-`); NaN and infinities become null. Raises `MachineError`."""
    text = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    path = Path(target)
    with writing(path):  # in place, since the target may be a pipe or a device
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
