import signal
import threading

import pytest

from yolo9k import signals
from yolo9k.signals import Interrupted, StopHandler, StopSignal


@pytest.fixture
def program():
    """The installed handler of a program, whose `ended` has the numbers of the signals that end it."""
    ended = []
    handler = StopHandler(ended.append)
    handler.ended = ended
    handler.install()
    yield handler
    handler.restore()


def test_stores_a_signal_and_restores_the_handlers():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert stop.received == 0
        signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is before


def test_without_a_signal_the_handlers_are_restored():
    before = signal.getsignal(signal.SIGINT)
    with StopSignal():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_later_signal_acts_as_before(monkeypatch):
    with StopSignal():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the same one, again
        monkeypatch.setattr(signals, "REPEATED_S", -1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_other_threads_run_without_handlers():
    entered = []

    def use():
        with StopSignal() as stop:
            entered.append(stop.received)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert entered == [0]


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.received == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_the_first_signal_interrupts_a_program_and_a_later_one_ends_it(program, monkeypatch):
    with pytest.raises(Interrupted) as stop:
        signal.raise_signal(signal.SIGTERM)
    assert stop.value.number == program.number == signal.SIGTERM
    signal.raise_signal(signal.SIGTERM)  # within a second
    assert program.ended == []
    monkeypatch.setattr(signals, "REPEATED_S", -1)
    signal.raise_signal(signal.SIGINT)
    assert program.ended == [signal.SIGINT]


def test_a_program_is_not_interrupted_in_a_block_nor_after_it(program, monkeypatch):
    """A signal that is stored must not raise later: that may be in any finaliser."""
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
    signal.raise_signal(signal.SIGTERM)
    with StopSignal() as later:
        assert later.received == signal.SIGTERM
    monkeypatch.setattr(signals, "REPEATED_S", -1)
    signal.raise_signal(signal.SIGINT)
    assert program.ended == [signal.SIGINT]
    assert signal.getsignal(signal.SIGTERM) is program


def test_a_block_without_a_signal_leaves_the_program_as_it_was(program):
    with StopSignal():
        pass
    with pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGTERM)
