import signal
import threading

import pytest

from yolo9k.training.stop import StopSignal


def test_stores_a_signal_and_restores_the_handlers():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert stop.received == 0
        signal.raise_signal(signal.SIGINT)
        assert stop.received == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_second_signal_acts_immediately():
    with StopSignal():
        signal.raise_signal(signal.SIGINT)
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
