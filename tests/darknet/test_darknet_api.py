"""The Python API of `yolo9k.darknet`, as in docs/darknet.md."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from yolo9k import darknet
from yolo9k.drawing import save_image
from yolo9k.errors import WeightsError

DOCS = Path(__file__).resolve().parents[2] / "docs" / "darknet.md"
CFG = """[net]
width=64
height=32
channels=3
[conv]
batch_normalize=1
filters=6
size=3
stride=4
pad=1
activation=leaky
[conv]
filters=16
activation=linear
[region]
num=2
anchors=1,2,3,4
classes=3
softmax=1
"""
TREE = "animal -1\ncat 0\ndog 0\n"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Small versions of the files of the documented example, in the current folder."""
    torch.manual_seed(0)
    (tmp_path / "yolov2-voc.cfg").write_text(CFG)
    darknet.save(darknet.load(tmp_path / "yolov2-voc.cfg"), tmp_path / "yolov2-voc.weights")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_documented_example_runs(files):
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    save_image(files / "dog.jpg", np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8))
    made: dict[str, Any] = {}
    with torch.no_grad():
        exec(code, made)
    assert made["letterboxed"].shape == (3, 32, 64)
    assert made["raw"].shape == (16, 8, 16)
    assert [tuple(output.shape) for output in made["outputs"]] == [(6, 8, 16), (16, 8, 16), (16, 8, 16)]
    detections = made["detections"]
    assert (detections.boxes.shape, detections.objectness.shape, detections.prob.shape) == ((256, 4), (256,), (256, 3))
    assert made["loss"](made["raw"][None], torch.tensor([[[0.5, 0.5, 0.2, 0.2, 1]]]), seen=64) > 0
    assert (files / "copy.weights").read_bytes() == (files / "yolov2-voc.weights").read_bytes()


def test_all_public_names_can_be_imported():
    assert all(getattr(darknet, name) is not None for name in darknet.__all__)
    with pytest.raises(AttributeError, match=r"yolo9k\.darknet' has no attribute 'forward'"):
        darknet.forward  # noqa: B018


def test_a_cfg_may_be_a_path_a_string_or_parsed(files):
    path = files / "yolov2-voc.cfg"
    raw = torch.randn(16, 8, 16)
    results = [darknet.detections(raw, cfg, (90, 50), 0.4).prob for cfg in (path, str(path), darknet.read_cfg(path))]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    targets = torch.tensor([[[0.5, 0.5, 0.2, 0.2, 1]]])
    losses = [darknet.region_loss(cfg)(raw[None], targets) for cfg in (path, str(path), darknet.read_cfg(path))]
    assert losses[0] == losses[1] == losses[2]


def test_strict_loading_turns_warnings_into_errors(files, caplog):
    path = files / "yolov2-voc.cfg"
    path.write_text(CFG.replace("softmax=1", "soft_max=1"))
    darknet.load(path)
    (warning,) = caplog.messages
    assert warning == f"{path}:19: [region] soft_max=1: unknown option; Darknet ignores it"
    with pytest.raises(WeightsError) as refused:
        darknet.load(path, strict=True)
    assert str(refused.value) == warning


def test_a_tree_is_given_or_found_or_missing(files):
    cfg = files / "yolov2-voc.cfg"
    cfg.write_text(CFG + "tree=elsewhere/a.tree\n")
    raw, targets = torch.randn(1, 16, 8, 16), torch.tensor([[[0.5, 0.5, 0.2, 0.2, 2]]])
    for call in (
        lambda **tree: darknet.region_loss(cfg, **tree),
        lambda **tree: darknet.detections(raw[0], cfg, (9, 9), **tree),
    ):
        with pytest.raises(WeightsError, match=r"\[region\] tree=elsewhere/a\.tree: file not found"):
            call()
    (files / "b.tree").write_text(TREE)
    given = darknet.region_loss(cfg, tree=files / "b.tree")(raw, targets)
    (files / "a.tree").write_text(TREE)  # next to the cfg
    assert darknet.region_loss(cfg)(raw, targets) == given > 0
    assert darknet.load(cfg).labels.ids == ("animal", "cat", "dog")


def test_a_given_header_is_written(files):
    net = darknet.load("yolov2-voc.cfg", "yolov2-voc.weights")
    darknet.save(net, files / "old.weights", darknet.Header(0, 1, 3, 640))
    again = darknet.load("yolov2-voc.cfg", files / "old.weights")
    assert again.origin.header == darknet.Header(0, 1, 3, 640)
    assert again.origin.layer_count == 2
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
