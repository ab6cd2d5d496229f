"""`yolo9k bench detect`: engines side by side."""

import json

import numpy as np
import pytest
import torch

from yolo9k import checkpoint, cli
from yolo9k.bench.detection_speed import _difference, matrix_rate
from yolo9k.build import build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import load_config
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

LABELS = WordTree.flat(["cat", "dog"])


def detections(rows):
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
        LABELS.names,
    )


def test_differences_of_detections():
    a = detections([([0, 0, 10, 10], 0.9, 0), ([50, 50, 60, 60], 0.8, 0), ([0, 0, 5, 5], 0.5, 1)])
    b = detections([([50, 50, 61, 60], 0.75, 0), ([0, 0, 10, 10], 0.9, 0)])
    assert _difference([a], [a]) == (0, 0)
    assert _difference([a], [b]) == (pytest.approx(0.05), 1)
    assert _difference([b], [a]) == (pytest.approx(0.05), 1)
    assert _difference([detections([])], [a]) == (0, 3)


def test_the_rate_of_the_machine_is_positive():
    assert matrix_rate("float32", runs=1) > 0


def test_the_command(tmp_path, capsys):
    torch.manual_seed(0)
    config = load_config(None, ["model={name: yolov2-tiny, width: 0.1, anchors: [[1, 1], [2, 2]]}", "data.size=64"])
    network = build_network(config.model, LABELS)
    torch.nn.init.normal_(network.head.conv.weight, std=0.3)
    checkpoint.save(Checkpoint(config, LABELS, network.state_dict()), tmp_path / "a.pt")
    arguments = ["bench", "detect", str(tmp_path / "a.pt"), "--rounds", "2", "--batch", "2", "--json"]
    assert not cli.exit_code(cli.app, "yolo9k", [*arguments, str(tmp_path / "a.json")])
    output = capsys.readouterr().out
    assert "fastest per image: " in output
    assert max(map(len, output.replace(str(tmp_path), "").splitlines())) <= 80
    engines = json.loads((tmp_path / "a.json").read_text())["engines"]
    names = [(each["engine"], each["precision"]) for each in engines]
    assert names[0] == ("torch", "float32")
    assert {("onnxruntime", "float32"), ("openvino", "float32")} < set(names)
    for each in engines:
        assert each["compared"] > 0
        assert min(each["image"], each["engine_alone"], each["batched"], each["of_matmul"]) > 0
        if each["precision"] == "float32":
            assert (each["score_difference"] < 1e-4, each["unmatched"]) == (True, 0)
