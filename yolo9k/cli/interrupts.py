"""Ctrl-C, SIGTERM and SIGHUP end a command: the first one cleans up, a later one ends the program at once."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from yolo9k.signals import STOP_SIGNALS

REPEATED_S = 1.0  # a signal this soon after the first is the same one: a terminal and a scheduler signal twice
SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it


class Interrupted(KeyboardInterrupt):
    """A signal asks the program to stop; `number` is that of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def stop_signals() -> Iterator["Stops"]:
    """Raise `Interrupted` for the first signal in the block; the handlers are restored after it.

    Signals that were ignored before (`nohup`, shells' background jobs) stay ignored. Only the main thread has signals.
    """
    stops = Stops()
    previous: dict[signal.Signals, Any] = {}
    for number in STOP_SIGNALS:
        handler = signal.getsignal(number)
        if handler is signal.SIG_IGN:
            continue
        try:
            signal.signal(number, stops.receive)
        except ValueError:  # not the main thread
            break
        previous[number] = handler
    try:
        yield stops
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Stops:
    """The handler of the signals; `number` is that of the first one, 0 before."""

    def __init__(self) -> None:
        self.number = 0
        self._received_s = 0.0

    @property
    def exit_code(self) -> int:
        """Return 128 + the number of the signal, as shells count."""
        return 128 + (self.number or signal.SIGINT)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Raise `Interrupted` for the first signal; end the program without cleaning up for a later one."""
        now = time.monotonic()
        if not self.number:
            self.number, self._received_s = number, now
            raise Interrupted(number)
        if now - self._received_s > REPEATED_S:
            if os.isatty(2):
                os.write(2, SHOW_CURSOR)
            os._exit(128 + number)
