import json

import pytest
import torch

from yolo9k import cli
from yolo9k.bench.backbone_cost import ANCHORS, NAMES, OWN, compare, model_config
from yolo9k.errors import ConfigError
from yolo9k.models.torchvision_backbone import LISTED


def test_every_backbone_is_measured():
    assert ("darknet19", "tiny", *LISTED) == NAMES
    assert {model_config(name).name for name in OWN} == {"yolov2", "yolov2-tiny-voc"}
    assert all(len(model_config(name).anchors) == 5 == len(ANCHORS) for name in NAMES)


def test_costs_of_a_whole_detector_and_of_its_backbone():
    tiny, mobile = compare((64, 32), ["tiny", "mobilenet_v3_small"], runs=2)
    assert (tiny.parameters, tiny.model) == (15_861_773, "yolov2-tiny-voc")  # as published
    neck = 1024 * 1024 * 9 + 2 * 1024  # the 3x3 convolution with its norm
    assert tiny.parameters - tiny.backbone_parameters == neck + 125 * 1025
    for cost in (tiny, mobile):
        assert 0 < cost.backbone_operations < cost.operations
        assert 0 < cost.fastest <= cost.seconds
    assert mobile.backbone == "mobilenet_v3_small"


def test_an_unknown_backbone_is_refused_before_measuring(monkeypatch):
    monkeypatch.setattr("yolo9k.bench.backbone_cost._measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(ConfigError, match=r"did you mean resnet18\?; this package also has darknet19 and tiny"):
        compare((64, 64), ["tiny", "resnet8"])


def test_a_size_that_is_not_a_multiple_of_the_stride():
    with pytest.raises(ConfigError, match="size 60x64: width and height must be multiples of 32"):
        compare((60, 64), ["tiny"])


def test_the_command(tmp_path, monkeypatch, capsys):
    target = tmp_path / "cost.json"
    arguments = [
        "yolo9k",
        "bench",
        "backbones",
        "--only",
        "tiny",
        "--size",
        "64x32",
        "--runs",
        "1",
        "--json",
        str(target),
    ]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(cli.sys, "exit", lambda code: None)
    cli.main()
    report = json.loads(target.read_text())
    assert (report["size"], report["threads"]) == ([64, 32], torch.get_num_threads())
    assert [cost["backbone"] for cost in report["costs"]] == ["tiny"]
    printed = capsys.readouterr().out
    assert f"64x32, threads: {torch.get_num_threads()}" in printed
    assert "15.86" in printed
