"""`yolo9k export`, and the commands that run exported files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from yolo9k import checkpoint
from yolo9k.build import build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.cli import app, exit_code
from yolo9k.config import load_config
from yolo9k.inference.engines import session
from yolo9k.wordtree import WordTree

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

LABELS = WordTree.flat(["cat", "dog"])
CONFIG = load_config(None, ["model={name: yolov2-tiny, width: 0.1, anchors: [[1, 1], [2, 2]]}", "data.size=64"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with weights, their export and an image."""
    folder = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    network = build_network(CONFIG.model, LABELS)
    torch.nn.init.normal_(network.head.conv.weight, std=0.3)
    checkpoint.save(Checkpoint(CONFIG, LABELS, network.state_dict()), folder / "cells.pt")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)).save(folder / "a.png")
    return folder


@pytest.fixture(scope="module")
def exported(folder):
    result = CliRunner().invoke(
        app,
        ["export", str(folder / "cells.pt"), "-o", str(folder / "out/cells.onnx"), "--json", str(folder / "e.json")],
    )
    assert result.exit_code == 0, result.output
    assert "detect, form detections, 2 labels, input 64x64, batch any" in result.output
    assert "largest difference from PyTorch on 4 images: score " in result.output
    return folder / "out/cells.onnx"


def run(capsys, *arguments):
    """Run the command as a shell would; return its exit code, output and error line."""
    code = exit_code(app, "yolo9k", [str(each) for each in arguments]) or 0
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_everything_that_is_needed_is_beside_the_file(exported, folder):
    assert sorted(path.name for path in exported.parent.iterdir()) == ["README.md", "cells.onnx", "detect.py"]
    facts = json.loads((folder / "e.json").read_text())
    assert facts["parity"]["compared"] > 0
    assert facts["parity"]["unmatched"] == 0
    assert (
        "float32 (B, 3, 64, 64), RGB in [0, 1]; the image is letterboxed" in (exported.parent / "README.md").read_text()
    )


def test_detect_says_what_ran(exported, folder, capsys):
    arguments = ("detect", folder / "a.png", "--no-draw", "--conf", "0.1")
    outputs = {}
    for weights, options, engine in (
        (folder / "cells.pt", ("--precision", "float32"), "torch"),
        (exported, (), "onnxruntime"),
        (exported, ("--engine", "openvino", "--precision", "float32"), "openvino"),
    ):
        code, output, _ = run(capsys, *arguments, "--weights", weights, *options, "--device", "cpu", "--json", "-")
        assert code == 0
        facts = json.loads(output)
        assert (facts["engine"], facts["precision"], facts["size_wh"]) == (engine, "float32", [64, 64])
        outputs[engine] = [(each["label"], round(each["score"], 3)) for each in facts["images"][0]["detections"]]
    assert outputs["torch"] == outputs["onnxruntime"] == outputs["openvino"] != []


def test_inspect(exported, capsys):
    code, output, _ = run(capsys, "weights", "inspect", exported)
    assert code == 0
    for line in ("form: detections", "labels: 2: cat, dog", "size: 64x64", "batch: any", "anchors in cells: 1,1; 2,2"):
        assert line in output
    code, _, error = run(capsys, "weights", "inspect", exported, "--cfg", "a.cfg")
    assert (code, error.count("\n")) == (2, 1)


@pytest.fixture
def damaged(exported, tmp_path):
    """Write a damaged copy of the export."""

    def make(kind):
        path = tmp_path / "a.onnx"
        model = onnx.load(exported)
        properties = {each.key: each.value for each in model.metadata_props}
        facts = json.loads(properties["yolo9k"])
        if kind == "no metadata":
            properties = {}
        elif kind == "another version":
            properties["yolo9k"] = json.dumps(facts | {"version": 99})
        elif kind == "no JSON":
            properties["yolo9k"] = "[" * 100_000
        elif kind == "no labels":
            properties["yolo9k"] = json.dumps({key: value for key, value in facts.items() if key != "labels"})
        elif kind == "other labels":
            names = ["cat"]
            properties["yolo9k"] = json.dumps(facts | {"labels": WordTree.flat(names).to_dict()})
        elif kind == "another form":
            properties["yolo9k"] = json.dumps(facts | {"form": "raw"})
        elif kind == "odd anchors":
            properties["yolo9k"] = json.dumps(facts | {"anchors": [[float("nan"), 1], [2, 2]]})
        elif kind == "odd form":
            properties["yolo9k"] = json.dumps(facts | {"form": "probabilities"})
        onnx.helper.set_model_props(model, properties)
        content = model.SerializeToString()
        path.write_bytes(
            b"hello" if kind == "a text" else content[: len(content) // 2] if kind == "cut off" else content
        )
        return path

    return make


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no metadata", "not exported by yolo9k"),
        ("another version", "exported by another version of yolo9k (format 99, this one reads 1); export it again"),
        ("no JSON", "its description is damaged"),
        ("no labels", "its description is damaged: a part is missing"),
        ("odd form", "its description is damaged: unknown form"),
        ("another form", "its description does not fit it: outputs 'boxes', "),
        ("odd anchors", "its description is damaged: anchors must be above 0"),
        ("cut off", "not "),
        ("a text", "not "),
    ],
)
def test_bad_files_are_one_line(damaged, folder, capsys, kind, message, engine):
    path = damaged(kind)
    code, _, error = run(capsys, "detect", folder / "a.png", "--weights", path, "--engine", engine, "--no-draw")
    assert code == 4
    assert error.startswith(f"error: {path}: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--size", "96"), 2, "was exported for 64x64; export it again with --size"),
        (("--precision", "bf16"), 2, "--precision bf16: ONNX Runtime runs"),
        (("--engine", "torch"), 2, "can be run by onnxruntime or openvino"),
        (("--device", "cuda"), 2, "--device cuda: exported files run on the CPU"),
        (("--names", "a.names"), 2, "--names: is only for Darknet weights files"),
        (("--agnostic",), 2, "agnostic: an exported file suppresses boxes per label"),
    ],
)
def test_options_that_a_file_does_not_have(exported, folder, capsys, options, code, message):
    found, _, error = run(capsys, "detect", folder / "a.png", "--weights", exported, "--no-draw", *options)
    assert found == code
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--batch", "none"), 2, "--batch none: must be dynamic or a number from 1 to 1024"),
        (("--size", "100"), 2, "multiples of 32"),
        (("-o", "a.xml"), 2, "--output a.xml: the name must end in .onnx"),
        (("--form", "probabilities"), 2, "--form probabilities: a detector has the forms detections and raw"),
        (("--images", "nosuch.jpg"), 3, "nosuch.jpg: no such image or folder"),
    ],
)
def test_bad_options_of_export(folder, capsys, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    found, _, error = run(capsys, "export", folder / "cells.pt", *arguments)
    assert (found, error.count("\n")) == (code, 1)
    assert message in error
    assert not list(Path().iterdir()) or not list(Path().rglob("*.onnx"))


def test_an_export_is_not_exported_again(exported, capsys):
    code, _, error = run(capsys, "export", exported)
    assert code == 4
    assert "an exported file; export the weights that it came from" in error


def test_a_runtime_that_is_not_installed(exported, folder, capsys, monkeypatch):
    monkeypatch.setattr(session, "find_spec", lambda name: None)
    code, _, error = run(capsys, "detect", folder / "a.png", "--weights", exported, "--no-draw")
    assert code == 6
    assert "onnxruntime is not installed; run: pip install 'yolo9k[onnx]'" in error


def test_files_beside_a_foreign_one_are_not_overwritten(folder, capsys, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    code, _, error = run(capsys, "export", folder / "cells.pt", "-o", tmp_path / "cells.onnx")
    assert code == 2
    assert "README.md" in error
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_description_with_other_labels(damaged, folder, capsys):
    path = damaged("other labels")
    code, _, error = run(capsys, "detect", folder / "a.png", "--weights", path, "--no-draw", "--conf", "0.05")
    assert (code, error) == (4, "error: the exported file has label 1, but its description 1 labels\n")


def test_an_export_is_repeated_without_overwrite(folder, capsys, tmp_path):
    for _ in range(2):
        code, _, error = run(capsys, "export", folder / "cells.pt", "-o", tmp_path / "cells.onnx")
        assert (code, error) == (0, "")


def test_int8_is_for_int8_files(folder, capsys):
    code, _, error = run(
        capsys, "detect", folder / "a.png", "--weights", folder / "cells.pt", "--no-draw", "--precision", "int8"
    )
    assert (code, error.count("\n")) == (2, 1)
    assert "precision: int8 is only for exported files" in error
