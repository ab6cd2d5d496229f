"""`StopSignal`: lets a run finish its step and save after Ctrl-C, a scheduler's SIGTERM or a terminal's SIGHUP."""

import signal
from types import FrameType
from typing import Any

from yolo9k.signals import STOP_SIGNALS


class StopSignal:
    """Context that stores the first stop signal in `received` (0: none) instead of acting on it; the second one acts.

    A signal that was ignored before (shells ignore SIGINT for background jobs) stays ignored.
    """

    def __init__(self) -> None:
        self.received = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                self._previous[number] = signal.signal(number, self._receive)
            except ValueError:  # Python allows handlers only in the main thread; other threads run without
                break
        return self

    def __exit__(self, *_: object) -> None:
        self._restore_handlers()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
