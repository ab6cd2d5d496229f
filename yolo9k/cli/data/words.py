"""What the commands of `yolo9k data` share."""

from typing import Annotated

import typer
from rich.console import Console

JsonOption = Annotated[str, typer.Option("--json", metavar="FILE", help="Write the result as JSON; - is stdout.")]


def say(console: Console, text: str) -> None:
    """A line as it is; paths and names may hold square brackets."""
    console.print(text, markup=False)
