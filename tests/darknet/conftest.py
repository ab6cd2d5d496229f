"""Fixtures for golden data: arrays computed by Darknet, and the tolerances of the comparisons."""

import functools
import json

import numpy as np
import pytest
import torch

from yolo9k import darknet

TOLERANCE = 5e-5  # relative to the largest absolute value of an array
LOOSE = 2e-4  # after five optimiser steps


class Case:
    """One folder of golden data; `compared` collects the keys of the arrays that were compared."""

    def __init__(self, folder):
        self.folder = folder
        self.expected = np.load(folder / "expected.npz")
        self.given = np.load(folder / "input.npz")
        self.compared = set()

    def net(self, norm="cudnn", cfg="net.cfg"):
        return darknet.load(self.folder / cfg, self.folder / "net.weights", norm=norm)

    def variants(self):
        return json.loads((self.folder / "variants.json").read_text())

    def tensor(self, key):
        return torch.from_numpy(self.given[key])

    def equal(self, key, actual, tolerance=TOLERANCE):
        self.compared.add(key)
        expected = self.expected[key]
        actual = np.asarray(actual.detach() if isinstance(actual, torch.Tensor) else actual)
        assert actual.shape == expected.shape, f"{key}: {actual.shape}, not {expected.shape}"
        if expected.dtype.kind == "f":
            error = np.abs(actual - expected).max() / max(np.abs(expected).max(), 1e-9)
            assert error < tolerance, f"{key}: {error}"
        else:
            assert (actual == expected).all(), key


@pytest.fixture
def golden(shared):
    """`golden("forward-v2")` is a `Case`, cached within a test."""
    return functools.cache(lambda *parts: Case(shared("golden", "darknet", *parts)))


@pytest.fixture
def case(golden, request):
    """The case named by a test's indirect parameter."""
    return golden(request.param)


@pytest.fixture(scope="session")
def image_ops(shared):
    """Images and labels, the operations by kind, and Darknet's results (golden `image-ops`)."""
    folder = shared("golden", "darknet", "image-ops")
    operations = {}
    for entry in json.loads((folder / "ops.json").read_text()):
        operations.setdefault(entry.get("op", "augmentation"), []).append(entry)
    return np.load(folder / "input.npz"), operations, np.load(folder / "expected.npz")
