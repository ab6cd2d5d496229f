import csv
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from yolo9k import checkpoint
from yolo9k.build import build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.cli.detect import _draw, detect
from yolo9k.config import load_config
from yolo9k.darknet import catalogue
from yolo9k.errors import ConfigError, DataError, MachineError, WeightsError
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

LOW = ("--conf", "0.02")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A run with an untrained tiny network, which detects much."""
    torch.manual_seed(0)
    config = load_config(
        None, ["model={name: yolov2-tiny, width: 0.1, anchors: [[1, 1], [2, 2]]}", "data.size=64", "data.dataset=voc"]
    )
    labels = WordTree.flat(["cat", "dog"])
    path = tmp_path_factory.mktemp("work") / "runs" / "one" / "checkpoints" / "best.pt"
    checkpoint.save(Checkpoint(config, labels, build_network(config.model, labels).state_dict()), path)
    return path


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "sub[x]/a.png", "b.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def run(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.command()(detect)

    def invoke(*arguments, weights=weights):
        given = ["--device", "cpu", *(["--weights", weights] if weights else [])]
        return CliRunner().invoke(app, [str(argument) for argument in [*arguments, *given]])

    return invoke


def error_of(result, kind):
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def test_all_outputs_are_written(run, photos, tmp_path):
    result = run(
        photos, *LOW, "--out", "drawn", "--json", "new/found.json", "--csv", "new/found.csv", "--txt", "labels"
    )
    assert result.exit_code == 0, result.exception or result.output
    found = json.loads((tmp_path / "new" / "found.json").read_text())
    count = sum(len(image["detections"]) for image in found["images"])
    assert count > 3
    assert f"{count} detections in 3 images" in result.output
    assert [image["file"] for image in found["images"]] == [str(photos / n) for n in ("a.png", "b.jpg", "sub[x]/a.png")]
    assert (len(found["coco_results"]), found["labels"], found["size_wh"]) == (count, ["cat", "dog"], [64, 64])
    assert {entry["image_id"] for entry in found["coco_results"]} <= set(found["coco_image_ids"].values())
    rows = list(csv.DictReader((tmp_path / "new" / "found.csv").open()))
    assert len(rows) == count
    assert rows[0].keys() == {"file", "label", "score", "left", "top", "right", "bottom"}
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["a-2.jpg", "a.jpg", "b.jpg"]
    with Image.open(tmp_path / "drawn" / "a.jpg") as drawn:
        assert drawn.size == (60, 40)
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["a-2.txt", "a.txt", "b.txt"]


def test_brackets_in_a_path_are_not_markup(run, photos):
    result = run("photos/sub[x]/a.png", *LOW, "--max-detections", "1", "--no-draw")
    assert "photos/sub[x]/a.png" in result.output


def test_all_output_formats_agree(run, photos, tmp_path):
    result = run(photos / "a.png", *LOW, "--no-draw", "--json", "f.json", "--txt", "labels")
    assert result.exit_code == 0, result.exception
    assert not (tmp_path / "detections").exists()
    found = json.loads((tmp_path / "f.json").read_text())
    lines = (tmp_path / "labels" / "a.txt").read_text().splitlines()
    plain = found["images"][0]["detections"]
    for entry, coco, line in zip(plain, found["coco_results"], lines, strict=True):
        x1, y1, x2, y2 = entry["xyxy"]
        assert coco["bbox"] == pytest.approx([x1, y1, x2 - x1, y2 - y1], abs=1e-2)
        label, *numbers = line.split()
        assert ["cat", "dog"][int(label)] == entry["label"]
        expected = [(x1 + x2) / 120, (y1 + y2) / 80, (x2 - x1) / 60, (y2 - y1) / 40, entry["score"]]
        assert [float(number) for number in numbers] == pytest.approx(expected, abs=1e-4)


def test_only_json_goes_to_standard_output(run, photos):
    result = run(photos, "--json", "-")
    assert json.loads(result.stdout)["images"]


def test_options_reach_the_detector(run, photos, tmp_path):
    result = run(
        photos / "a.png",
        *LOW,
        "--classes",
        "dog",
        "--max-detections",
        "2",
        "--size",
        "96x64",
        "--agnostic",
        "--json",
        "f.json",
    )
    assert result.exit_code == 0, result.exception
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["size_wh"] == [96, 64]
    assert 0 < len(found["images"][0]["detections"]) <= 2
    assert {entry["label"] for entry in found["images"][0]["detections"]} == {"dog"}
    assert run(photos, "--classes", "dog, cat", "--no-draw").exit_code == 0


def test_the_newest_run_is_the_default(run, photos, weights, monkeypatch):
    monkeypatch.setenv("YOLO9K_CACHE", str(weights.parent / "cache"))
    official = catalogue.ENTRIES["yolov2"]
    nowhere = replace(official.weights, remote=replace(official.weights.remote, urls=("http://127.0.0.1:9/x",)))
    monkeypatch.setitem(catalogue.ENTRIES, "yolov2", replace(official, weights=nowhere))
    result = run(photos, weights="")
    message = error_of(result, WeightsError)
    assert "runs/ has no run, and the official yolov2 could not be downloaded" in message
    assert len(message) < 250
    assert "\n" not in message
    assert result.output == ""
    monkeypatch.chdir(weights.parents[3])
    assert run(photos, "--no-draw", weights="").exit_code == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.png", "missing.png: no such image or folder"),
        ("empty", "empty: no images in this folder"),
        ("notes.jpg", "notes.jpg: not a readable image"),
        ("http://host/a.png", "http://host/a.png: URLs are not supported"),
    ],
)
def test_unusable_images(run, tmp_path, source, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.jpg").write_text("text")
    assert message in error_of(run(source), DataError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes", "bird"], "classes: 'bird' is not a label of this set (cat, dog)"),
        (["--size", "100"], "width and height must be multiples of 32, not 100x100"),
        (["--size", "big"], "must be N or WIDTHxHEIGHT"),
    ],
)
def test_wrong_options(run, photos, options, message):
    assert message in error_of(run(photos, *options), ConfigError)


def test_values_out_of_range_are_usage_errors(run, photos):
    assert run(photos, "--conf", "1.5").exit_code == 2
    assert run(photos, "--batch", "0").exit_code == 2


def test_unusable_weights(run, photos, tmp_path):
    assert "no such file or run, and not in the catalogue" in error_of(
        run(photos, weights=tmp_path / "x.pt"), WeightsError
    )
    (tmp_path / "x.pt").write_text("<html>")
    assert "not a readable checkpoint" in error_of(run(photos, weights=tmp_path / "x.pt"), WeightsError)


def test_an_unreadable_image_does_not_stop_the_others(run, photos, tmp_path):
    (photos / "ab.png").write_text("text")
    result = run(photos, "--json", tmp_path / "found.json", "--batch", 1, *LOW)
    message = error_of(result, DataError)
    assert f"1 of 4 images could not be read; first: {photos / 'ab.png'}: not a readable image" in message
    found = json.loads((tmp_path / "found.json").read_text())
    assert [Path(entry["file"]).name for entry in found["images"]] == ["a.png", "b.jpg", "a.png"]
    assert sorted(path.name for path in (tmp_path / "detections").iterdir()) == ["a-2.jpg", "a.jpg", "b.jpg"]


def test_what_is_no_image_is_refused_before_the_weights_are_read(run, photos, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for source, message in (
        ("fifo", "fifo: is a named pipe"),
        ("/dev/zero", "is a device"),
        ("//", "root of the file"),
    ):
        assert message in error_of(run(source, weights="not-looked-at"), DataError)


def test_skipped_images_are_counted(run, photos):
    for name in ("x.psd", "sub[x]/y.psd", ".hidden.psd"):
        (photos / name).write_text("x")
    result = run(photos, "--no-draw")
    assert result.exit_code == 0
    assert "2 .psd files were skipped: convert them to JPEG, PNG or TIFF" in result.stderr
    assert "detections in 3 images" in result.output


def test_large_images_are_allowed_by_an_option(run, photos, monkeypatch):
    monkeypatch.setenv("YOLO9K_MAX_PIXELS", "1000")  # also restores what the option changes
    message = error_of(run(photos / "a.png", "--no-draw"), DataError)
    assert "a.png: has 2,400 pixels, at most 1,000 are allowed; allow more with --max-pixels" in message
    assert run(photos / "a.png", "--no-draw", "--max-pixels", 2400).exit_code == 0
    assert run(photos / "a.png", "--no-draw", "--max-pixels", 0).exit_code == 2


def test_names_of_any_script_are_drawn(photos, tmp_path):
    for name in ("сеть", "中文\n[/b]", "$a$ عربي"):
        box = Detections(np.array([[5, 20, 50, 38]], np.float32), np.ones(1, np.float32), np.zeros(1, int), (name,))
        _draw(photos / "a.png", box, tmp_path / "drawn.jpg")
        with Image.open(tmp_path / "drawn.jpg") as drawn:
            assert drawn.size == (60, 40)


def test_images_wider_than_jpeg_allows_are_drawn_smaller(run, tmp_path):
    Image.new("L", (70_000, 20)).save(tmp_path / "wide.png")
    result = run("wide.png", *LOW)
    assert result.exit_code == 0, result.exception
    assert "wide.jpg: is smaller than wide.png, since JPEG has at most 65,500 pixels a side" in result.stderr
    with Image.open(tmp_path / "detections" / "wide.jpg") as drawn:
        assert drawn.width == 65_500


def test_input_images_are_never_overwritten(run, photos):
    before = (photos / "b.jpg").read_bytes()
    message = error_of(run(photos, "--out", photos), ConfigError)
    assert f"--out {photos / 'b.jpg'}: is an input of this command" in message
    assert (photos / "b.jpg").read_bytes() == before
    assert run(photos, "--out", photos, "--no-draw").exit_code == 0


@pytest.mark.parametrize("option", ["--csv", "--txt", "--json", "--out"])
def test_outputs_are_checked_before_the_work(run, photos, tmp_path, option):
    (tmp_path / "file").write_text("")
    result = run(photos / "a.png", option, tmp_path / "file" / "x", weights="not-looked-at")
    assert f"{option} {tmp_path / 'file' / 'x'}: cannot be written" in error_of(result, MachineError)


def test_out_is_a_folder(run, photos, tmp_path):
    (tmp_path / "file").write_text("kept")
    result = run(photos / "a.png", "--out", tmp_path / "file")
    assert "cannot be written: it is a file, a folder is needed" in error_of(result, MachineError)
    assert (tmp_path / "file").read_text() == "kept"
    assert run(photos / "a.png", "--out", tmp_path / "file", "--no-draw").exit_code == 0
