"""Models on backbones of torchvision: what they are put together from, and what they cannot become."""

from pathlib import Path

import pytest
import torch
from torch import nn

from yolo9k import checkpoint
from yolo9k.build import build_backbone, build_classifier, build_network, load_pretrained
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import load_classifier_config, load_config
from yolo9k.errors import ConfigError, WeightsError
from yolo9k.inspection import inspect_checkpoint
from yolo9k.models.darknet19 import Darknet19, TinyBackbone
from yolo9k.models.norms import convert_norm
from yolo9k.models.torchvision_backbone import TorchvisionBackbone
from yolo9k.models.yolov2 import NoNeck, PassthroughNeck, TinyNeck
from yolo9k.pretrained import write_darknet
from yolo9k.training.transfer import transfer
from yolo9k.wordtree import WordTree

LABELS = WordTree.flat(["a", "b", "c"])


def config(*overrides):
    return load_config(None, ["model.backbone=resnet18", "model.anchors=[[1, 2], [3, 4]]", *overrides])


@pytest.mark.parametrize(
    ("name", "kind", "channels"),
    [
        ("yolov2", PassthroughNeck, 1024),
        ("yolov2-tiny", TinyNeck, 512),
        ("yolov2-tiny-voc", TinyNeck, 1024),
        ("yolo9000", NoNeck, 512),
    ],
)
def test_a_backbone_goes_into_every_model(name, kind, channels):
    with torch.device("meta"):
        network = build_network(config(f"model.name={name}").model, LABELS)
        assert network(torch.zeros(1, 3, 352, 480)).shape == (1, 2 * 8, 11, 15)
    assert isinstance(network.backbone, TorchvisionBackbone)
    assert isinstance(network.neck, kind)
    assert network.head.conv.in_channels == network.neck.channels == channels


@pytest.mark.parametrize(("passthrough", "joined"), [("darknet", 256), ("paper", 4 * 256), ("none", 0)])
def test_its_fine_features_are_passed_through(passthrough, joined):
    with torch.device("meta"):
        network = build_network(config(f"model.passthrough={passthrough}").model, LABELS)
    assert network.neck.join.conv.in_channels == 1024 + joined


def test_models_without_one_have_their_own():
    for name, kind in (("yolov2", Darknet19), ("yolo9000", Darknet19), ("yolov2-tiny", TinyBackbone)):
        settings = [f"model.name={name}", "model.width=0.1", "model.anchors=[[1, 2]]"]
        assert isinstance(build_backbone(load_config(None, settings).model), kind)


def test_it_keeps_the_start_that_torchvision_gives_it():
    torch.manual_seed(5)
    expected = TorchvisionBackbone("resnet18").state_dict()
    torch.manual_seed(5)
    network = build_network(config().model, LABELS)
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert float(network.neck.join.conv.weight.detach().std()) == pytest.approx((2 / (1280 * 9)) ** 0.5, rel=0.01)


def test_its_norms_are_those_of_the_config():
    norms = [m for m in build_backbone(config("model.norm.momentum=0.2", "model.norm.eps=0.5").model).modules()
             if isinstance(m, nn.BatchNorm2d)]  # fmt: skip
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.2, 1e-5)}  # eps is torchvision's
    grouped = build_backbone(config("model.norm.kind=group").model)
    assert sum(isinstance(m, nn.GroupNorm) for m in grouped.modules()) == 20
    assert grouped(torch.rand(1, 3, 32, 32))[1].shape == (1, 512, 1, 1)


def test_a_classifier_on_it():
    settings = ["model.backbone=resnet18"]
    network = build_classifier(load_classifier_config(None, settings).model, LABELS).eval()
    with torch.no_grad():
        images = torch.rand(2, 3, 64, 96)
        expected = network.last(network.backbone(images)[1]).mean((2, 3))
        assert torch.allclose(network(images), expected, atol=1e-4)
    assert expected.shape == (2, 3)


def test_width_belongs_to_the_own_backbones():
    with pytest.raises(ConfigError, match=r"model\.width=0\.5: must be 1 with a torchvision backbone, not 0\.5"):
        config("model.width=0.5")


# --- weights


@pytest.fixture
def published(monkeypatch):
    """A network with the weights that torchvision would have."""
    torch.manual_seed(1)
    network = TorchvisionBackbone("resnet18")
    for norm in [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]:
        norm.running_mean.normal_(std=0.1)
        norm.running_var.uniform_(0.5, 1.5)

    def load(self, track):
        self.load_state_dict(network.state_dict())
        return Path("resnet18-0a.pth")

    monkeypatch.setattr(TorchvisionBackbone, "load_pretrained", load)
    return network


@pytest.mark.parametrize("kind", ["batch", "frozen", "group", "none"])
def test_pretrained_weights_go_under_any_norm(kind, published):
    model = config("model.name=yolov2-tiny", f"model.norm.kind={kind}", "model.pretrained=true").model
    network = build_network(model, LABELS)
    neck = network.neck.join.conv.weight.clone()
    assert load_pretrained(network, model) == "backbone: torchvision's resnet18 from resnet18-0a.pth"
    assert torch.equal(network.neck.join.conv.weight, neck)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = convert_norm(published, model.norm).eval()(images)
        assert all(torch.equal(a, b) for a, b in zip(network.eval().backbone(images), expected, strict=True))
        if kind != "group":
            whole = published.eval()(images)
            assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(expected, whole, strict=True))


def test_building_loads_no_weights(monkeypatch):
    monkeypatch.setattr(TorchvisionBackbone, "load_pretrained", lambda self, track: pytest.fail("loaded"))
    build_network(config("model.name=yolo9000", "model.pretrained=true").model, LABELS)


def stored(*overrides):
    torch.manual_seed(3)
    made = config(*overrides)
    return Checkpoint(made, LABELS, build_network(made.model, LABELS).state_dict())


def test_the_backbone_of_one_model_starts_another():
    before, tiny = stored("model.name=yolo9000"), config("model.name=yolov2-tiny-voc")
    network = build_network(tiny.model, LABELS)
    report = transfer(before, network, tiny, LABELS)
    assert len(report.loaded) == 20
    assert all(name.startswith("backbone.body.") for name in report.loaded)
    assert torch.equal(network.state_dict()["backbone.body.layer4.1.bn2.weight"],
                       before.weights["backbone.body.layer4.1.bn2.weight"])  # fmt: skip


def test_inspection_has_a_row_for_each_convolution(tmp_path):
    checkpoint.save(stored("model.name=yolo9000"), tmp_path / "a.pt")
    facts, rows = inspect_checkpoint(tmp_path / "a.pt")
    assert facts["backbone"] == "resnet18 (torchvision)"
    assert len(rows) == 21
    assert rows[0].shape == "64x3x7x7"


def test_no_cfg_can_say_what_it_is(tmp_path):
    with pytest.raises(WeightsError, match=r"model\.backbone: torchvision's resnet18 cannot be written as a Darknet"):
        write_darknet(stored("model.name=yolo9000"), "run", tmp_path / "a.weights")
    assert list(tmp_path.iterdir()) == []
