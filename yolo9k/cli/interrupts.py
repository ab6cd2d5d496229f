"""Ctrl-C, SIGTERM and SIGHUP end a command: the first one cleans up, a later one ends the program at once."""

import atexit
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from yolo9k import processes, signals
from yolo9k.cli.console import track
from yolo9k.errors import DataError, MachineError, Stopped
from yolo9k.progress import Item
from yolo9k.signals import StopHandler, StopSignal

SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it
ENDED = b"\nerror: ended at once by a second signal\n"


@contextmanager
def stop_signals() -> Iterator["Stops"]:
    """Raise `Interrupted` for the first signal in the block.

    The handlers are restored after it, unless a signal was received: another one then ends what Python still does, and
    is ignored while Python ends, which would take the default handlers.
    """
    stops = Stops(end_program)
    stops.install()
    try:
        yield stops
    finally:
        if stops.number:
            atexit.register(signals.ignore)
        else:
            stops.restore()


class Stops(StopHandler):
    """The handler of the signals of a command."""

    @property
    def exit_code(self) -> int:
        """Return 128 + the number of the signal, as shells count."""
        return 128 + (self.number or signal.SIGINT)


def end_program(number: int) -> None:
    """End the program and its workers without cleaning up."""
    module = sys.modules.get("multiprocessing.process")  # if it is not imported, there are no workers
    for child in module.active_children() if module else ():
        with suppress(Exception):  # torch's handler says that a worker was killed
            child.kill()
            child.join(1)
    with suppress(OSError):
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + ENDED)
    os._exit(128 + number)


class StoppableWork:
    """Context of work on many images: from its first `track`, a stop signal only ends the iteration.

    What the command has by then is written as usual, and `finish` ends it.
    """

    def __init__(self) -> None:
        self._stop, self._stack = StopSignal(), ExitStack()
        self.done, self.total = 0, 0  # images, of the first `track`
        self._ended = ""  # description of the `track` that was ended early
        self._number = 0  # of a stop signal that any process received

    def __enter__(self) -> "StoppableWork":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def is_stopped(self) -> bool:
        """Return whether images are missing."""
        return self._ended != ""

    def track(self, items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
        """Show the progress as `console.track` does, and end early after a stop signal.

        Raises `Stopped` if that is before the first image.
        """
        is_first = not self.total
        if is_first:
            self._stack.enter_context(self._stop)
            self.total = total or 0
        shown = iter(track(items, description, total))
        count = 0
        try:
            while not self._stop.received:
                try:
                    item = next(shown)
                except StopIteration:
                    return
                yield item
                count += 1
                self.done = count if is_first else self.done
            if count != total:
                self._ended = description
            if not self.done:
                raise Stopped("stopped before the first image", 128 + self._stop.received)
        finally:
            with suppress(MachineError):  # the terminal may be gone, which SIGHUP says
                getattr(shown, "close", lambda: None)()

    def combine(self, done: int, total: int) -> None:
        """Note what all processes have done together: the first `done` of `total` images."""
        if processes.count() == 1:
            return
        self.done, self.total = done, total
        states = processes.gather((self._stop.received, self._ended))
        self._number = max(number for number, _ in states)
        self._ended = next((ended for _, ended in states if ended), "")

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON files say: whether they are partial, and how many images of how many were done."""
        return {"partial": self.is_stopped, "images_done": self.done, "images_total": self.total}

    def titled(self, title: str) -> str:
        """Return the title of scores, with the part of the images they are of unless that is all."""
        if not self.is_stopped:
            return title
        if self.done < self.total:
            return f"{title}: PARTIAL, first {self.done:,} of {self.total:,} images"
        return f"{title}: PARTIAL, stopped while {self._ended[:1].lower()}{self._ended[1:]}"

    def finish(self, outcome: str, unreadable: Sequence[DataError] = ()) -> None:
        """Raise `Stopped` if a signal arrived, even after the last image, and `DataError` for `unreadable` images.

        `outcome`: what the outputs contain.
        """
        first = f" could not be read; first: {unreadable[0]}" if unreadable else ""
        if number := self._number or self._stop.received:
            problem = f"; {len(unreadable):,} of them{first}" if unreadable else ""
            raise Stopped(f"stopped after {self.done:,} of {self.total:,} images; {outcome}{problem}", 128 + number)
        if unreadable:
            error = DataError(f"{len(unreadable)} of {self.total} images{first}")
            error.is_shared = True
            raise error
