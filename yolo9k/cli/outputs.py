"""Where results go: looked at before the work, which may take minutes, begins."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from yolo9k.errors import MachineError

JsonOption = Annotated[str, typer.Option("--json", metavar="FILE", help="Write the result as JSON; - is stdout.")]
Targets = Mapping[str, str | Path | None]
NOTHING: Targets = {}


def check_outputs(files: Targets = NOTHING, folders: Targets = NOTHING) -> None:
    """Look whether files and folders can be written, by the option that names them; makes and changes nothing.

    What is not given and standard output (`-`) always can. Raises `MachineError` where a file is in the way of a
    folder or a folder in that of a file, and where the place is not writable.
    """
    for targets, is_folder in ((files, False), (folders, True)):
        for option, target in targets.items():
            if target and str(target) != "-" and (reason := _obstacle(Path(target), is_folder=is_folder)):
                raise MachineError(f"{option} {target}: cannot be written: {reason}")


def _obstacle(target: Path, *, is_folder: bool) -> str:
    """What keeps a file or folder from being written; nothing where it can be."""
    try:
        there = _nearest(target)
        needs_folder = is_folder or there != target
        if there.is_dir() and not needs_folder:
            return "it is a folder, a file is needed"
        if not there.is_dir() and needs_folder:
            return f"{'it' if there == target else there} is a file, a folder is needed"
        return "" if os.access(there, os.W_OK) else f"no permission to write {there}"
    except OSError as error:
        return str(error.strerror or error)


def _nearest(target: Path) -> Path:
    """The first that is there of a path and the folders above it."""
    for path in (target, *target.parents):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return path
    return Path()
