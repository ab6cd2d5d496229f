import numpy as np
import pytest
import torch
from export_models import ANCHORS
from torch import nn

from yolo9k.build import build_classifier, build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import load_classifier_config, load_config

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


def randomised(network):
    """Norms with an effect and a head with many detections."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.running_mean.copy_(torch.randn(norm.num_features, generator=generator) * 0.1)
            norm.running_var.copy_(torch.rand(norm.num_features, generator=generator) + 0.5)
        if hasattr(network, "head"):
            network.head.conv.weight.normal_(std=0.3, generator=generator)
    return network.eval()


@pytest.fixture(scope="session")
def stored():
    """Make a checkpoint of a detector (`model`: keys of the config) or, without, of a classifier."""

    def make(model, labels, size="96x64"):
        torch.manual_seed(0)
        if not model:
            config = load_classifier_config(None, ["model.width=0.1", "data.size=64"])
            network = build_classifier(config.model, labels)
        else:
            config = load_config(None, [f"model={{{model}, {ANCHORS}}}", f"data.size={size}"])
            network = build_network(config.model, labels)
        return Checkpoint(config, labels, randomised(network).state_dict())

    return make


@pytest.fixture(scope="session")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (h, w, 3), np.uint8) for w, h in ((50, 40), (96, 64), (30, 90), (120, 200))]
