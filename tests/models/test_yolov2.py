import pytest
import torch

from yolo9k.models.layers import count_parameters
from yolo9k.models.yolov2 import yolov2, yolov2_tiny

ANCHORS = torch.rand(5, 2) + 1


@pytest.mark.parametrize(
    ("build", "labels", "options", "parameters"),
    [
        (yolov2, 80, {}, 50_962_889),
        (yolov2, 20, {}, 50_655_389),
        (yolov2_tiny, 80, {}, 11_232_057),
        (yolov2_tiny, 20, {"last": 1024}, 15_861_773),
    ],
)
def test_published_parameter_counts(build, labels, options, parameters):
    with torch.device("meta"):
        assert count_parameters(build(ANCHORS, labels, **options)) == parameters


@pytest.mark.parametrize("passthrough", ["darknet", "paper", "none"])
def test_every_passthrough_accepts_images_that_are_not_square(passthrough):
    network = yolov2(ANCHORS, 3, width=0.1, passthrough=passthrough)
    out = network(torch.rand(2, 3, 64, 96))
    assert out.shape == (2, 5 * 8, 2, 3)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("width", [0.05, 0.3, 0.7, 1.3])
def test_reorg_works_at_any_width(width):
    with torch.device("meta"):
        assert yolov2(ANCHORS, 3, width=width)(torch.zeros(1, 3, 64, 64)).shape == (1, 40, 2, 2)


@pytest.mark.parametrize(("passthrough", "channels"), [("darknet", 1024 + 256), ("paper", 1024 + 2048), ("none", 1024)])
def test_input_channels_of_the_join(passthrough, channels):
    with torch.device("meta"):
        assert yolov2(ANCHORS, 3, passthrough=passthrough).neck.join.conv.in_channels == channels


def test_passthrough_channels_come_first():
    network = yolov2(ANCHORS, 3, width=0.1).eval()
    fine, coarse = network.backbone(torch.rand(1, 3, 64, 64))
    joined = []
    network.neck.join.register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    network.neck(fine, coarse)
    assert torch.equal(joined[0][:, :32], network.neck.passthrough(fine))


def test_tiny_yolov2_has_stride_32():
    assert yolov2_tiny(ANCHORS[:2], 1, width=0.1)(torch.rand(1, 3, 96, 32)).shape == (1, 2 * 6, 3, 1)


def test_anchors_are_not_in_the_state_dict():
    network = yolov2_tiny(ANCHORS, 1, width=0.1)
    assert torch.equal(network.anchors, ANCHORS)
    assert "anchors" not in network.state_dict()
