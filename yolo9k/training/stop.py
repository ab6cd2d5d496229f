"""Stopping a run from outside: Ctrl-C, or a batch system that wants its machine back."""

import signal
from types import FrameType
from typing import Any


class StopSignal:
    """Remembers SIGINT and SIGTERM, so that the loop can finish its step and save; a second one acts at once.

    A signal that is ignored, as a shell does for SIGINT of what it starts in the background, stays ignored.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not in the main thread: whoever runs it there has its own way to stop
                break
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._give_back()

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
