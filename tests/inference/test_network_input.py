import logging

import pytest
import torch
from torch import nn

from yolo9k import hardware
from yolo9k.errors import MachineError
from yolo9k.inference import network_input
from yolo9k.inference.network_input import MemoryLimit
from yolo9k.machine import free_memory

IMAGE = 2 * 100 * 200 * 4 * 10  # bytes: input and output of the activation


@pytest.fixture
def limit(monkeypatch):
    """Returns a limit of a network on a machine with memory for a number of images."""
    network = nn.Sequential(nn.Conv2d(3, 10, 1), nn.Mish())

    def make(images):
        free = int(images * IMAGE)
        monkeypatch.setattr(network_input, "free_memory", lambda: free)
        monkeypatch.setattr(hardware, "free_memory", lambda: free)
        return MemoryLimit(network, (100, 200), torch.device("cpu"), "float32")

    return make


def test_the_batch_is_lowered_to_what_fits(limit, caplog):
    assert limit(20).fit(16) == 16
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert limit(4).fit(16) == 3
    assert caplog.records[0].getMessage() == "batch 3 instead of 16: 100x200 images need 0.0 GB each"


def test_an_image_that_does_not_fit_is_refused(limit):
    with pytest.raises(MachineError, match=r"size 100x200: one image needs at least 0\.0 GB of memory, 0\.0 GB are"):
        limit(0.9).fit(1)


def test_other_precisions_and_devices():
    network = nn.Conv2d(3, 10, 1)
    full, half = (MemoryLimit(network, (100, 200), torch.device("cpu"), each) for each in ("float32", "bf16"))
    assert full.image_bytes == 2 * half.image_bytes
    assert MemoryLimit(network, (1 << 16, 1 << 16), torch.device("cuda"), "float32").fit(16) == 16


def test_free_memory_is_known_on_linux():
    free = free_memory()
    assert free is None or free > 1 << 20
