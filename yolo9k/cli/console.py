"""What all commands share: where text goes, progress bars, tables and JSON."""

import json
import sys
from collections.abc import Iterable, Sequence, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from yolo9k.errors import MachineError

Item = TypeVar("Item")

BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells count


class Output(Console):
    """Standard output; where its reader goes away (`| head`) the command ends, and that is no error of its own."""

    def on_broken_pipe(self) -> None:
        """End with the code that other programs end with."""
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise SystemExit(BROKEN_PIPE)


out = Output(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def speaker(json: str) -> Console:
    """Where text for people goes: out of the way where JSON goes to standard output (`-`)."""
    return err if json == "-" else out


def print_plain(console: Console, text: str) -> None:
    """A line as it is; paths and names may hold square brackets."""
    console.print(text, markup=False)


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """A progress bar with the time left, on standard error; nothing where no person looks."""
    if not err.is_terminal:
        return items
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()

    def shown() -> Iterable[Item]:
        with Progress(*columns, console=err, transient=True) as progress:
            length = total if total is not None or not isinstance(items, Sized) else len(items)
            yield from progress.track(items, description=description, total=length)

    return shown()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table whose first column is text and whose others are numbers; floats are shown with three decimals."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(f"{cell:.3f}" if isinstance(cell, float) else str(cell)) for cell in row))
    return made


def write_json(target: str, value: Any) -> None:
    """Write JSON to a file, or to standard output for `-`; numbers that are not finite become null.

    Raises `MachineError` where the file cannot be written.
    """
    text = json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        return
    try:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise MachineError(f"{target}: cannot be written: {error.strerror or error}") from error


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
