"""The signals that ask a program to stop: the first one stops it in good order, a later one at once.

`StopHandler` is what a command installs, `StopSignal` the block in which work goes on until it can be saved.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

NAMES = "SIGINT", "SIGTERM", "SIGHUP"  # Ctrl-C, job schedulers, a terminal that closes (not on Windows)
STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
REPEATED_S = 1.0  # a signal this soon after the first is the same one: `timeout` and terminals signal twice


class Interrupted(KeyboardInterrupt):
    """A signal asks the program to stop; `number` is that of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class StopHandler:
    """Handles the stop signals; `number` is that of the first one, 0 before.

    The first one raises `Interrupted`, but is only stored while it is `deferred`. A later one calls `end` with its
    number; nothing is raised then, since it may arrive in any finaliser.
    """

    def __init__(self, end: Callable[[int], None] | None = None) -> None:
        self.number = 0
        self._end = end or self._act_as_before
        self._received_s = 0.0
        self._deferrals = 0
        self._previous: dict[signal.Signals, Any] = {}

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        now = time.monotonic()
        if self.number:
            if now - self._received_s > REPEATED_S:
                self._end(number)
            return
        self.number, self._received_s = number, now
        if not self._deferrals:
            raise Interrupted(number)

    def install(self) -> None:
        """Handle the signals of this process, but those that are ignored (`nohup`, shells' background jobs)."""
        for number in STOP_SIGNALS:
            handler = signal.getsignal(number)
            if handler is signal.SIG_IGN:
                continue
            try:
                signal.signal(number, self)
            except ValueError:  # Python allows handlers only in the main thread; other threads run without
                break
            self._previous[number] = handler

    def restore(self) -> None:
        """Install the handlers that were there before."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only store the first signal during the block."""
        self._deferrals += 1
        try:
            yield
        finally:
            self._deferrals -= 1

    def _act_as_before(self, number: int) -> None:
        self.restore()
        signal.raise_signal(number)


class StopSignal:
    """Context that stores the first stop signal in `received` (0: none) instead of acting on it.

    A later one ends a command at once; in other programs it acts as it did before. A signal that was ignored before
    stays ignored.
    """

    def __init__(self) -> None:
        self._handler = StopHandler()
        self._stack = ExitStack()

    @property
    def received(self) -> int:
        """Return the number of the first signal; 0: none."""
        return self._handler.number

    def __enter__(self) -> "StopSignal":
        installed = [handler for number in STOP_SIGNALS if isinstance(handler := signal.getsignal(number), StopHandler)]
        if installed:
            self._handler = installed[0]
        else:
            self._handler.install()
            self._stack.callback(self._handler.restore)
        self._stack.enter_context(self._handler.deferred())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


@contextmanager
def delayed() -> Iterator[None]:
    """Let stop signals wait until the end of the block; processes that it starts never receive them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore() -> None:
    """Ignore stop signals in this process."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
