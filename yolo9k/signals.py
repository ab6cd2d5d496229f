"""The signals that ask a program to stop, and how processes that must not act on them ignore them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = "SIGINT", "SIGTERM", "SIGHUP"  # Ctrl-C, job schedulers, a terminal that closes (not on Windows)
STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))


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
