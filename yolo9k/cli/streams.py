"""Standard output and error that may be closed, full, a pipe whose reader left, or not UTF-8."""

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from yolo9k.cli.text import in_encoding
from yolo9k.errors import MachineError

BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells count
ERRORS = "yolo9k"  # name of the handler for characters that an encoding lacks


class StreamError(MachineError):
    """Standard output or error cannot be written; a pipe without a reader is no fault, and ends without a message."""

    def __init__(self, name: str, error: OSError | ValueError) -> None:
        super().__init__(f"{name}: cannot be written: {getattr(error, 'strerror', None) or error}")
        self.is_broken_pipe = getattr(error, "errno", None) in (errno.EPIPE, errno.ECONNRESET)
        if self.is_broken_pipe:
            self.exit_code = BROKEN_PIPE


class Stream:
    """A text stream whose failed writes raise `StreamError`, whoever writes (this program, typer, rich).

    `reports=False`: failed writes are lost; for what is still printed when the command has ended.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name = stream, name
        self.reports = True

    def write(self, text: str) -> int:
        """Write a text and return its length."""
        with self._guarded():
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is buffered."""
        with self._guarded():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: the stream is closed
            self._discard()
            if self.reports:
                raise StreamError(self._name, error) from error

    def _discard(self) -> None:
        """Let what is still buffered go nowhere: Python writes it at the end, and would print another error."""
        with suppress(OSError, ValueError, io.UnsupportedOperation):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Make standard output and error `Stream`s in the block; what their encodings lack is replaced.

    A standard error that is closed goes nowhere; `require_output` refuses a standard output that is closed.
    """
    before = sys.stdout, sys.stderr
    _fill_closed_descriptors()
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # until the program ends
    codecs.register_error(ERRORS, in_encoding)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ERRORS)
    guarded = [Stream(sys.stderr, "standard error")]
    sys.stderr = guarded[0]
    if sys.stdout is not None:
        guarded.append(Stream(sys.stdout, "standard output"))
        sys.stdout = guarded[1]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in guarded:
            stream.reports = False


def require_output() -> None:
    """Raise `StreamError` if standard output is closed (`>&-`)."""
    if sys.stdout is None:
        raise StreamError("standard output", OSError(errno.EBADF, "it is closed"))


def _fill_closed_descriptors() -> None:
    """Open the null device as standard input, output or error that is closed.

    The next file that is opened would get its number, and receive what libraries print.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
