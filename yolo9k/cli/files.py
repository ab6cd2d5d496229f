"""Options that several commands share: the files that a Darknet weights file needs beside it."""

from pathlib import Path
from typing import Annotated

import typer

CfgOption = Annotated[Path | None, typer.Option("--cfg", help="Of a Darknet file: its cfg, if not beside it.")]
NamesOption = Annotated[Path | None, typer.Option("--names", help="Of a Darknet file: the names of its labels.")]
TreeOption = Annotated[Path | None, typer.Option("--tree", help="Of a Darknet file: its label tree.")]
DataOption = Annotated[Path | None, typer.Option("--data", help="Darknet's .data file, instead of names and tree.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Of a Darknet file: warnings about its cfg are errors.")]
