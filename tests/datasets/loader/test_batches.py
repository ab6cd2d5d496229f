"""Worker processes: they end with the loop, also when they hang, and stop signals do not reach them."""

import multiprocessing
import os
import signal
import sys
import time

import numpy as np
import pytest
import torch

from yolo9k import signals
from yolo9k.datasets.loader.batches import _initialise_worker, load_batches
from yolo9k.datasets.loader.sampler import SampleOrder, StepSampler
from yolo9k.errors import MachineError
from yolo9k.hardware import explain_out_of_memory
from yolo9k.samples import BoxLabels, Sample

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


class Images:
    """A data set of images named after the process that loads them; from step `slow_from` on, each takes a minute."""

    def __init__(self, slow_from=100):
        self.slow_from = slow_from

    def __getitem__(self, request):
        if request.step >= self.slow_from:
            time.sleep(60)
        return Sample(np.zeros((32, 32, 3), np.uint8), BoxLabels.of([], []), str(os.getpid()))


def batches(images, steps=20):
    order = SampleOrder([50], seed=0)
    sampler = StepSampler(order, batch=2, accumulate=1, sizes=((32, 32),), size_period=1, start=0, stop=steps)
    return load_batches(images, sampler, workers=2)


def test_workers_end_with_the_loop():
    assert len(list(batches(Images()))) == 20
    assert multiprocessing.active_children() == []


def test_workers_that_hang_are_ended_at_once():
    loaded = batches(Images(slow_from=2))
    next(loaded)
    assert len(multiprocessing.active_children()) == 2
    start = time.monotonic()
    loaded.close()
    assert multiprocessing.active_children() == []
    assert time.monotonic() - start < 4


def test_a_worker_ends_whose_process_was_killed_while_it_started(monkeypatch):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(signals, "ignore", lambda: None)
    _initialise_worker(os.getppid(), 0)
    assert ended == []
    _initialise_worker(os.getpid(), 0)  # not the parent of this process
    assert ended == [1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_workers_ignore_stop_signals(number):
    loaded = batches(Images())
    next(loaded)
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, number)
    assert len(list(loaded)) == 19


def test_a_killed_worker_is_an_error_within_seconds():
    def read_all():
        with explain_out_of_memory(torch.device("cpu"), ""):  # torch's signal handler may raise in any line
            for batch in batches(Images(), steps=2000):
                os.kill(int(batch.names[0]), signal.SIGKILL)

    start = time.monotonic()
    with pytest.raises(MachineError, match="a data loader worker was killed"):
        read_all()
    assert multiprocessing.active_children() == []
    assert time.monotonic() - start < 15


def test_signals_wait_while_workers_start():
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    with signals.delayed():
        signal.raise_signal(signal.SIGTERM)
        assert received == []
    assert received == [True]
    signal.signal(signal.SIGTERM, before)
