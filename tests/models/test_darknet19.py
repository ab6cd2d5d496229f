from functools import partial

import pytest
import torch

from yolo9k.models.darknet19 import Classifier, Darknet19, TinyBackbone
from yolo9k.models.layers import ConvBlock, MaxPool, count_operations, count_parameters


@pytest.fixture(scope="module")
def darknet19() -> Classifier:
    return Classifier(Darknet19(), 1000)


def test_classifier_has_the_published_parameters_and_operations(darknet19):
    assert count_parameters(darknet19) == 20_842_376
    saved = 2 * 1024 * 1000 * (7 * 7 - 1)  # Darknet averages after the last convolution, we before it
    assert (count_operations(darknet19, (224, 224)) + saved) / 1e9 == pytest.approx(5.58, abs=0.01)


def test_nineteen_convolutions_and_five_pools(darknet19):
    kinds = [type(module) for module in darknet19.modules()]
    assert kinds.count(ConvBlock) + 1 == 19
    assert kinds.count(MaxPool) == 5


@pytest.mark.parametrize("backbone", [Darknet19, TinyBackbone])
def test_features_of_an_image_that_is_not_square(backbone):
    network = backbone(0.1, partial(torch.nn.BatchNorm2d, momentum=0.5))
    fine, coarse = network(torch.zeros(2, 3, 64, 96))
    assert fine.shape == (2, network.channels[0], 4, 6)
    assert coarse.shape == (2, network.channels[1], 2, 3)
    assert {m.momentum for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.5}


def test_logits_are_averaged_over_the_image():
    network = Classifier(TinyBackbone(0.1), 7).eval()
    with torch.no_grad():
        images = torch.rand(2, 3, 96, 64)
        expected = network.last(network.backbone(images)[1]).mean((2, 3))
        assert torch.allclose(network(images), expected, atol=1e-6)
    assert expected.shape == (2, 7)


def test_counting_operations_keeps_training_mode(darknet19):
    network = Classifier(TinyBackbone(0.1), 7).train()
    count_operations(network, (64, 32))
    assert network.training


@torch.no_grad()
def test_averaging_before_the_last_convolution_is_equivalent():
    torch.manual_seed(0)
    classifier = Classifier(Darknet19(width=0.1), 5).eval()
    images = torch.rand(2, 3, 64, 96)
    maps = classifier.last(classifier.backbone(images)[1])
    assert torch.allclose(classifier(images), maps.mean(dim=(2, 3)), atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert classifier(images).dtype == torch.float32
