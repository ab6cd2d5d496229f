"""Write files atomically, with one message if a file cannot be written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from yolo9k.errors import MachineError


@contextmanager
def writing(path: Path, what: str = "") -> Iterator[None]:
    """Convert an `OSError` in the block to a `MachineError` that names `path`; `what` names the content: "the plot"."""
    try:
        yield
    except OSError as error:
        subject = f"{what} " if what else ""
        raise MachineError(f"{path}: {subject}cannot be written: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path, what: str = "") -> Iterator[Path]:
    """Yield a temporary path to write to; after the block the file is synced and replaces `path` in one step.

    The old file stays unchanged until then, and if the block raises. Creates the folder. Raises `MachineError` if the
    file cannot be written.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    with writing(path, what):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield draft
            with draft.open("rb+") as file:
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            with suppress(OSError):  # it exists only after a failure
                draft.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically. Raises `MachineError`."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
