"""Torchvision backbones in training: a step, a checkpoint, the next step, detection."""

import numpy as np
import pytest
import torch

from yolo9k import checkpoint
from yolo9k.build import build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import load_config, updated
from yolo9k.inference.detector import Detector
from yolo9k.models.torchvision_backbone import LISTED, TorchvisionBackbone
from yolo9k.pretrained import build_stored
from yolo9k.samples import Batch
from yolo9k.training import resume, train
from yolo9k.training.run import prepare_run
from yolo9k.training.step import Stepper
from yolo9k.training.tasks.detection import DetectionStep, build_loss
from yolo9k.wordtree import WordTree

LABELS = WordTree.flat(["a", "b"])
CPU = torch.device("cpu")
LIGHT = ("model.name=yolo9000", "model.anchors=[[0.5,0.5],[1,1]]", "data.size=64", "train.batch=2")


def batch():
    """Two noise images with one box each."""
    return Batch(
        images=torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
        image_index=torch.tensor([0, 1]),
        xyxy=torch.tensor([[4.0, 4.0, 30.0, 40.0], [20.0, 10.0, 60.0, 30.0]]),
        label=torch.tensor([0, 1]),
        ignore=torch.zeros(2, dtype=torch.bool),
        labelled_image=torch.zeros(0, dtype=torch.int64),
        image_label=torch.zeros(0, dtype=torch.int64),
    )


def stepper(config, network):
    loss = build_loss(config, network, LABELS)
    step = DetectionStep(network, loss, device=CPU, precision="float32", batch_size=2)
    return Stepper(step, config.train, torch.channels_last)


@pytest.mark.parametrize("name", LISTED)
def test_every_listed_backbone_trains_resumes_and_detects(name, tmp_path):
    config = load_config(None, [*LIGHT, f"model.backbone={name}"])
    torch.manual_seed(0)
    network = build_network(config.model, LABELS).to(memory_format=torch.channels_last).train()
    first = stepper(config, network)
    before = {name: value.clone() for name, value in network.named_parameters()}
    losses = first(0, [batch()], 1e-3)
    assert all(value.isfinite() for value in losses.values())
    assert not any(torch.equal(value, before[name]) for name, value in network.named_parameters() if value.dim() == 4)

    path = tmp_path / "last.pt"
    checkpoint.save(Checkpoint(config, LABELS, network.state_dict(), first.state()), path)
    stored = checkpoint.load(path)
    again = build_stored(stored, path).to(memory_format=torch.channels_last).train()
    second = stepper(config, again)
    second.restore(stored.training)
    for run in (first, second):
        run(1, [batch()], 1e-3)
    for name, value in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name

    image = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    for size_wh in ((64, 64), (96, 32)):
        detector = Detector.of_network(again, LABELS, config, size_wh=size_wh, device="cpu", precision="float32")
        detections = detector(image, conf=0.0)
        assert len(detections.score)
        assert np.isfinite(detections.xyxy).all()


def test_a_run_with_a_torchvision_backbone_resumes(tiny, run_folder):
    config = tiny(
        "model.width=1", "model.backbone=mobilenet_v3_small", "model.norm.kind=frozen", "train.ema=0.9",
        "train.steps=2", "train.batch=2",
    )  # fmt: skip
    whole = train(config, run_folder.with_name("whole"))
    train(updated(config, {"train.steps": 1}), run_folder)
    resume(run_folder, overrides=["train.steps=2"])
    ends = [checkpoint.load(folder / "checkpoints" / "last.pt") for folder in (whole, run_folder)]
    assert ends[0].weights.keys() == ends[1].weights.keys()
    for name, value in ends[0].weights.items():
        assert torch.equal(ends[1].weights[name], value), name
    assert len(Detector.load(run_folder, device="cpu")(np.zeros((64, 64, 3), np.uint8), conf=0.0).score)


def test_only_a_new_run_starts_from_published_weights(tiny, tmp_path, monkeypatch):
    loaded = []

    def load(self, track):
        loaded.append(self.name)
        torch.nn.init.constant_(next(self.parameters()), 0.125)
        return tmp_path / "published.pth"

    monkeypatch.setattr(TorchvisionBackbone, "load_pretrained", load)
    changes = ("model.name=yolov2-tiny", "model.width=1", "model.backbone=mobilenet_v3_small", "model.pretrained=true")
    config = tiny(*changes, "train.steps=1", "train.ema=0.9", "train.lr=1e-9", "train.eval_every=0")
    run = prepare_run(config, tmp_path / "a")
    assert loaded == ["mobilenet_v3_small"]
    assert "published.pth" in run.notes[-1]
    for network in (run.network, run.ema.network):
        assert (next(network.backbone.parameters()) == 0.125).all()
    folder = train(config, tmp_path / "a")
    resume(folder, overrides=["train.steps=2"])
    prepare_run(config, tmp_path / "b", weights=folder)
    assert len(loaded) == 2  # by `prepare_run` and `train`, but not by `resume` or with other weights
