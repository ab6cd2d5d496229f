import json
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from yolo9k.cli.evaluate import evaluate
from yolo9k.config import load_config
from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import ConfigError, DataError, MachineError
from yolo9k.inference.detector import Decoding, Detector
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

ANNOTATIONS = {
    "images": [{"id": 5, "file_name": "a.png", "width": 80, "height": 60}],
    "annotations": [{"id": 1, "image_id": 5, "category_id": 3, "bbox": [10, 10, 30, 30], "area": 800, "iscrowd": 0}],
    "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
}


class OneBox:
    """A detector that returns the only box, and records its arguments."""

    labels = WordTree.flat(["cat", "dog"])
    device = torch.device("cpu")
    supervision = None
    engine = SimpleNamespace(name="torch", precision="float32")
    loaded: ClassVar[tuple] = ()
    settings: ClassVar[dict] = {}

    def __init__(self, dataset="", size_wh=None):
        self.config = load_config(None, [f"data.dataset={dataset}"] if dataset else [])
        self.size_wh = size_wh or (416, 416)

    def class_decoder(self, **options):
        type(self).named = options

    def stream_each(self, paths, decodings, **settings):
        type(self).settings = {"decodings": decodings, **settings}
        for _ in paths:
            box = np.array([[10, 10, 40, 40]], np.float32)
            yield (Detections(box, np.array([0.9], np.float32), np.zeros(1, int), self.labels.names),)


@pytest.fixture
def dataset(tmp_path):
    """A COCO data set of one image, as a config."""
    Image.new("RGB", (80, 60)).save(tmp_path / "a.png")
    (tmp_path / "val.json").write_text(json.dumps(ANNOTATIONS))
    config = tmp_path / "tiny.yaml"
    config.write_text(f"kind: coco\nroot: {tmp_path}\nsplits: {{val: [{{annotations: val.json, images: .}}]}}\n")
    return config


@pytest.fixture
def run(monkeypatch, dataset):
    def load(path, device="auto", size_wh=None, files=None, track=None, **_):
        OneBox.loaded = (path, device, size_wh)
        return OneBox(dataset if path == "trained" else "", size_wh)

    monkeypatch.setattr(Detector, "load", load)
    app = typer.Typer()
    app.command()(evaluate)

    def invoke(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


def test_prints_protocol_table_and_summary(run, dataset):
    result = run("--weights", "x.pt", "--dataset", dataset)
    assert result.exit_code == 0, result.output
    for part in ("confidence >= 0.005", "all", "cat", "mAP50 1.0000", "11-point 1.0000", "COCO  AP 1.0000"):
        assert part in result.output


def test_options_reach_the_detector(run, dataset):
    result = run(
        *("--weights", "x.pt", "--dataset", dataset, "--size", "320x256", "--device", "cpu", "--no-coco"),
        *("--conf", ".1", "--iou", ".3", "--max-detections", "9", "--batch", "2"),
    )
    assert result.exit_code == 0, result.output
    assert OneBox.loaded == ("x.pt", "cpu", (320, 256))
    assert OneBox.settings | {"on_unreadable": None} == {
        "decodings": [Decoding(Thresholds(0.1, 0.3, 9))], "batch": 2, "on_unreadable": None,
    }  # fmt: skip
    assert "COCO" not in result.output


def test_the_data_set_of_the_checkpoint_is_the_default(run):
    assert run("--weights", "trained").exit_code == 0
    result = run("--weights", "x.pt")
    assert isinstance(result.exception, ConfigError)
    assert "no data set given" in str(result.exception)


def test_a_folder_is_a_data_set(run, dataset):
    result = run("--weights", "x.pt", "--dataset", dataset.parent, "--no-coco")
    assert result.exit_code == 0, result.output
    assert "mAP50 1.0000" in result.output


def test_an_unknown_split_lists_the_existing_ones(run, dataset):
    result = run("--weights", "x.pt", "--dataset", dataset, "--split", "test")
    assert isinstance(result.exception, ConfigError)
    assert "val" in str(result.exception)


def test_only_json_goes_to_standard_output(run, dataset):
    result = run("--weights", "x.pt", "--dataset", dataset, "--json", "-")
    stored = json.loads(result.stdout)
    assert stored["map50"] == 1
    assert stored["coco"]["AP large"] is None
    assert stored["protocol"]["conf"] == 0.005


def test_coco_results_use_the_ids_of_the_data_set(run, dataset, tmp_path):
    target = tmp_path / "out" / "results.json"
    result = run("--weights", "x.pt", "--dataset", dataset, "--results", target, "--plots", tmp_path / "plots")
    assert result.exit_code == 0, result.output
    (entry,) = json.loads(target.read_text())
    assert (entry["image_id"], entry["category_id"], entry["bbox"]) == (5, 3, [10, 10, 30, 30])
    assert [path.name for path in target.parent.iterdir()] == ["results.json"]  # the data set has a COCO file
    assert (tmp_path / "plots" / "confusion.png").is_file()


def test_other_kinds_also_write_the_ground_truth(run, tmp_path):
    for folder in ("images", "labels"):
        (tmp_path / "yolo" / folder).mkdir(parents=True)
    Image.new("RGB", (80, 60)).save(tmp_path / "yolo" / "images" / "a.png")
    (tmp_path / "yolo" / "labels" / "a.txt").write_text("0 .3125 .41666667 .375 .5\n")
    config = tmp_path / "yolo.yaml"
    config.write_text(f"kind: yolo\nroot: {tmp_path / 'yolo'}\nsplits: {{val: [images]}}\nlabels: [cat, dog]\n")
    target = tmp_path / "results.json"
    result = run("--weights", "x.pt", "--dataset", config, "--results", target)
    assert result.exit_code == 0, result.output
    ground_truth = json.loads((tmp_path / "results.ground_truth.json").read_text())
    assert [category["id"] for category in ground_truth["categories"]] == [1, 2]
    assert ground_truth["annotations"][0]["bbox"] == pytest.approx([10, 10, 30, 30], abs=1e-3)


@pytest.mark.parametrize("option", ["--json", "--results", "--plots"])
def test_outputs_are_checked_before_the_work(run, dataset, option):
    OneBox.loaded = ()
    result = run("--weights", "x.pt", "--dataset", dataset, option, dataset / "x")
    assert isinstance(result.exception, MachineError)
    assert f"{option} {dataset / 'x'}: cannot be written: {dataset} is a file" in str(result.exception)
    assert OneBox.loaded == ()


def test_skipped_images_are_counted(run, dataset, monkeypatch):
    class Skipping(OneBox):
        def __init__(self, *_):
            super().__init__()
            self.config = load_config(None, [f"data.dataset={dataset}", "data.on_error=skip"])

        def stream_each(self, paths, decodings, on_unreadable, **settings):
            for path in paths:
                on_unreadable(DataError(f"{path}: is no image"))
                yield (Detections.empty(self.labels.names),)

    monkeypatch.setattr(Detector, "load", lambda *_, **__: Skipping())
    result = run("--weights", "x.pt", "--dataset", dataset, "--no-coco")
    assert result.exit_code == 0, result.output
    assert "1 images could not be read" in " ".join(result.output.split())
