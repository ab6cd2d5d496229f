"""Writing files: whole or not at all, with one message where it cannot be done."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from yolo9k.errors import MachineError


@contextmanager
def writing(path: Path, what: str = "") -> Iterator[None]:
    """Raise a `MachineError` that names `path` for an `OSError` in the block; `what` is written, e.g. "the plot"."""
    try:
        yield
    except OSError as error:
        subject = f"{what} " if what else ""
        raise MachineError(f"{path}: {subject}cannot be written: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path, what: str = "") -> Iterator[Path]:
    """Give a path to write to; afterwards the file is synced and takes the place of `path` in one step.

    The old file stays as it is until then, and if the block raises. The folder is made. Raises `MachineError` where
    the disk refuses.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    with writing(path, what):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            _sync(draft)
            draft.replace(path)
        finally:
            with suppress(OSError):  # there only after a failure
                draft.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all. Raises `MachineError`."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
