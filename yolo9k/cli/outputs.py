"""Check that output files and folders can be written, before a command starts work that may take minutes."""

import os
from collections.abc import Mapping
from pathlib import Path

from yolo9k.errors import MachineError

Targets = Mapping[str, str | Path | None]
NO_TARGETS: Targets = {}


def check_outputs(files: Targets = NO_TARGETS, folders: Targets = NO_TARGETS) -> None:
    """Check that files and folders, by the option that names them, can be written; nothing is created or changed.

    Options that are not given and standard output (`-`) are skipped. Raises `MachineError` if a file is in the place
    of a folder, a folder in the place of a file, or the location is not writable.
    """
    for targets, is_folder in ((files, False), (folders, True)):
        for option, target in targets.items():
            if target and str(target) != "-" and (reason := _obstacle(Path(target), is_folder=is_folder)):
                raise MachineError(f"{option} {target}: cannot be written: {reason}")


def _obstacle(target: Path, *, is_folder: bool) -> str:
    """Return why a file or folder cannot be written; an empty text if it can."""
    try:
        existing = _nearest_existing(target)
        needs_folder = is_folder or existing != target
        if existing.is_dir() and not needs_folder:
            return "it is a folder, a file is needed"
        if not existing.is_dir() and needs_folder:
            return f"{'it' if existing == target else existing} is a file, a folder is needed"
        return "" if os.access(existing, os.W_OK) else f"no permission to write {existing}"
    except OSError as error:
        return str(error.strerror or error)


def _nearest_existing(target: Path) -> Path:
    """Return the first of a path and its parents that exists."""
    for path in (target, *target.parents):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return path
    return Path()
