"""Exceptions for users: one class per exit code of the command, each message one line.

A message names the place (file, line, key), the value and what is allowed. Anything that is not a `Yolo9kError` is a
bug and keeps its traceback (exit code 1).
"""

from typing import Any

MAX_MESSAGE = 1800  # characters; lists and names in files have no limit of their own
MAX_QUOTED = 80


def shorten(text: str, length: int = 200) -> str:
    """Cut the middle of a text that is too long for a message: texts of files may be of any length."""
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-length // 2 :]}"


def quote(value: object, length: int = MAX_QUOTED) -> str:
    """Return a value of a file for a message: in quotes, on one line, without control characters, shortened."""
    return shorten(repr(shorten(value, length) if isinstance(value, str) else value), length + 40)


class Yolo9kError(Exception):
    """Base class of all errors that a user can fix; very long messages are cut in the middle.

    `is_shared`: with several processes, whether all of them raise this error, so that one reports it.
    """

    exit_code = 1
    is_shared = False

    def __init__(self, message: str = "") -> None:
        super().__init__(shorten(message, MAX_MESSAGE))

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process makes the same error, whatever arguments its class takes."""
        return _restore, (type(self), self.args, vars(self))

    @classmethod
    def at(cls, location: object, message: str) -> "Yolo9kError":
        """Return the error about a place: a file, a line, a key."""
        return cls(f"{location}: {message}")


def _restore(kind: type[Yolo9kError], args: tuple[Any, ...], values: dict[str, Any]) -> Yolo9kError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(values)
    return error


class ConfigError(Yolo9kError):
    """Wrong usage or config: unknown keys, wrong types, contradicting options."""

    exit_code = 2


class DataError(Yolo9kError):
    """A data set, annotation, image, label tree, taxonomy or map that cannot be used."""

    exit_code = 3


class WeightsError(Yolo9kError):
    """A checkpoint, weights file, cfg or download that cannot be used."""

    exit_code = 4


class DivergedError(Yolo9kError):
    """Training diverged: a loss or gradient is not finite."""

    exit_code = 5
    is_shared = True


class MachineError(Yolo9kError):
    """The machine failed: disk full, read-only folder, out of memory, missing device."""

    exit_code = 6


class Stopped(Yolo9kError):
    """A signal stopped the program; everything that had to be saved is saved."""

    is_shared = True

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
