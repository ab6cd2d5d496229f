"""Console output of all commands: standard output and error, progress bars, tables, warnings and JSON."""

import json
import logging
import sys
from collections.abc import Iterable, Sequence, Sized
from typing import Any, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from yolo9k import __version__
from yolo9k.cli.outputs import WRITER, is_standard_output, open_output
from yolo9k.cli.text import UNSAFE, one_line, safe_lines

Item = TypeVar("Item")


class Output(Console):
    """Standard output or error, in plain text: a string is one line, without markup, emoji codes or line breaks.

    Nothing that a terminal would act on gets through from names and messages, in any kind of output.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, soft_wrap=True, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print strings as one line (`text.one_line`), and tables and the like as they are."""
        super().print(*(one_line(each) if isinstance(each, str) else each for each in objects), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does, with control characters replaced."""
        for segment in super().render(renderable, options):
            unsafe = not segment.control and segment.text != "\n" and UNSAFE.search(segment.text)
            yield segment._replace(text=safe_lines(segment.text)) if unsafe else segment


out = Output()
err = Output(stderr=True)


class LogHandler(logging.Handler):
    """Prints what the package logs: what it chose, and warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line on standard error."""
        if record.levelno < logging.WARNING:
            err.print(record.getMessage())
        else:
            warn(record.getMessage())


def warn(message: str) -> None:
    """Print a warning, one line on standard error."""
    err.print(f"warning: {message}", style="yellow")


def speaker(json: str) -> Output:
    """Return the console for text: standard error if JSON goes to standard output (`-`)."""
    return err if is_standard_output(json) else out


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterable[Item]:
    """Show a progress bar with the remaining time on standard error; nothing if that is not a terminal."""
    if not err.is_terminal:
        return items
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    title = TextColumn("{task.description}", markup=False)
    columns = title, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()

    def tracked() -> Iterable[Item]:
        with Progress(*columns, console=err, transient=True) as progress:
            length = total if total is not None or not isinstance(items, Sized) else len(items)
            yield from progress.track(items, description=one_line(description), total=length)

    return tracked()


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table: the first column is left-aligned, the others right-aligned; floats have three decimals."""
    heading = Text(one_line(title), style="bold") if title else None
    result = Table(title=heading, title_justify="left", box=None, pad_edge=False)
    for index, column in enumerate(columns):
        result.add_column(Text(one_line(column)), justify="right" if index else "left", overflow="fold")
    for row in rows:
        result.add_row(*(Text(f"{cell:.3f}" if isinstance(cell, float) else one_line(str(cell))) for cell in row))
    return result


def print_document(text: str) -> None:
    """Print a text of several lines on standard output: unchanged into files and pipes, safe on a terminal."""
    sys.stdout.write(safe_lines(text) if out.is_terminal else text)


def write_json(target: str, value: Any) -> None:
    """Write JSON to a file, or to standard output (`-`); NaN and infinities become null. Raises `MachineError`.

    Texts keep all their characters; those that a terminal would act on are written as `\\u001b`, as are the bytes of a
    file name that are no text (`\\udcff`). An object begins with the version of yolo9k that wrote it.
    """
    if isinstance(value, dict):
        value = {WRITER: __version__, **value}
    ascii_only = is_standard_output(target) and "utf" not in (sys.stdout.encoding or "utf-8").lower()
    text = json.dumps(_finite(value), indent=1, ensure_ascii=ascii_only, allow_nan=False)
    lines = (UNSAFE.sub(lambda found: json.dumps(found[0])[1:-1], line) for line in text.split("\n"))
    with open_output(target) as file:
        file.writelines(f"{line}\n" for line in lines)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
