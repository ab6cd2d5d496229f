import time

import torch

from yolo9k.bench.timing import seconds_per_call


def test_mean_time_of_a_call():
    calls = []
    seconds = seconds_per_call(torch.device("cpu"), lambda: calls.append(time.sleep(0.01)), 3)
    assert len(calls) == 3
    assert 0.01 <= seconds < 1
