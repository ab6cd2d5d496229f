"""`yolo9k classify eval` and `predict`."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from yolo9k import checkpoint
from yolo9k.build import build_classifier, build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.cli.classify import app
from yolo9k.config import load_classifier_config, load_config
from yolo9k.errors import ConfigError, DataError, MachineError, WeightsError
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.taxonomy import open_tree

FLAT = WordTree.flat(["car", "poodle", "terrier"])
SMALL = ("model={name: tiny, width: 0.1}", "data.size=64", "train.precision=float32")


def save_classifier(path, labels, *overrides):
    torch.manual_seed(0)
    config = load_classifier_config(None, [*SMALL, *overrides])
    network = build_classifier(config.model, labels)
    with torch.no_grad():
        network.last.weight.normal_(std=0.5)
    checkpoint.save(Checkpoint(config, labels, network.state_dict()), path)
    return path


@pytest.fixture
def flat(zoo):
    return save_classifier(zoo / "run" / "checkpoints" / "best.pt", FLAT, f"data.dataset={zoo / 'kinds.yaml'}")


@pytest.fixture
def over_tree(zoo):
    return save_classifier(zoo / "tree.pt", open_tree(zoo / "zoo.txt"))


@pytest.fixture
def run(zoo, monkeypatch):
    (zoo / "kinds.yaml").write_text(f"kind: folder\nroot: {zoo}\nsplits: {{train: [kinds], val: [kinds]}}\n")
    (zoo / "in_tree.yaml").write_text(
        f"kind: folder\nroot: {zoo}\nsplits: {{val: [kinds]}}\nlabels: {{tree: {zoo / 'zoo.txt'}}}\n"
    )
    monkeypatch.chdir(zoo)

    def invoke(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in [*arguments, "--device", "cpu"]])

    return invoke


def error_of(result, kind):
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def test_scores_with_flat_labels(run, flat, zoo):
    result = run("eval", "--weights", zoo / "run", "--json", "new/scores.json", "--plots", "new/plots", "--batch", 2)
    assert result.exit_code == 0, result.exception or result.output
    scores = json.loads((zoo / "new" / "scores.json").read_text())
    assert (scores["images"], scores["split"], scores["size_wh"], scores["tree"]) == (6, "val", [64, 64], None)
    assert {row["name"]: row["images"] for row in scores["classes"]} == {"car": 1, "poodle": 3, "terrier": 2}
    assert scores["top1"] == pytest.approx(sum(r["top1"] * r["images"] for r in scores["classes"]) / 6)
    assert f"top-1 {scores['top1']:.4f}   top-5 1.0000" in result.output
    assert "worst classes" in result.output
    assert sum(pair["count"] for pair in scores["confused_pairs"]) == round(6 * (1 - scores["top1"]))
    written = sorted(path.name for path in (zoo / "new" / "plots").iterdir())
    assert written == ["confusion.png", "worst_mistakes.jpg"]


def test_scores_with_a_label_tree(run, over_tree, zoo):
    result = run("eval", "--weights", over_tree, "--dataset", "in_tree.yaml", "--hier-thresh", 0.1, "--json", "-")
    assert result.exit_code == 0, result.exception
    scores = json.loads(result.stdout)
    assert [level["depth"] for level in scores["tree"]["levels"]] == [0, 1, 2]
    assert scores["tree"]["hier_thresh"] == 0.1
    assert "Accuracy by depth in the label tree" in result.stderr


def test_a_plain_folder_of_class_folders(run, flat, zoo):
    assert run("eval", "--weights", flat, "--dataset", zoo / "kinds", "--split", "train").exit_code == 0
    result = run("eval", "--weights", flat, "--dataset", zoo / "kinds")
    assert result.exit_code == 0, result.exception
    for split in ("train", "val"):
        for name in ("car", "poodle"):
            (zoo / "parts" / split / name).mkdir(parents=True)
            (zoo / "parts" / split / name / "a.png").write_bytes((zoo / "kinds" / "car" / "0.png").read_bytes())
    result = run("eval", "--weights", flat, "--dataset", zoo / "parts", "--json", "scores.json")
    assert result.exit_code == 0, result.exception
    scores = json.loads((zoo / "scores.json").read_text())
    assert (scores["split"], scores["images"]) == ("val", 2)


def test_a_map_assigns_labels(run, flat, zoo):
    (zoo / "my.map").write_text("2\n1\n0\n")
    assert run("eval", "--weights", flat, "--map", "my.map").exit_code == 0
    (zoo / "my.map").write_text("2\n1\n")
    message = error_of(run("eval", "--weights", flat, "--map", "my.map"), DataError)
    assert "my.map: 2 lines for the 3 labels of the data set" in message


def test_unreadable_images(run, flat, zoo):
    (zoo / "kinds" / "car" / "bad.png").write_text("text")
    assert "bad.png: not a readable image" in error_of(run("eval", "--weights", flat), DataError)
    weights = save_classifier(zoo / "b.pt", FLAT, f"data.dataset={zoo / 'kinds.yaml'}", "data.on_error=skip")
    result = run("eval", "--weights", weights)
    assert result.exit_code == 0, result.exception
    assert "warning: 1 images could not be read and are excluded; first: " in result.stderr
    assert "(6 images)" in result.stdout


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (["--hier-thresh", "0.4"], ConfigError, "hier-thresh: requires a label tree, but these labels are flat"),
        (["--split", "test"], ConfigError, "no split 'test'; it has train, val"),
        (["--dataset", "boxes.yaml"], ConfigError, "image-level labels need kind folder or shards, not yolo"),
        (["--dataset", "joint.yaml"], ConfigError, "joint.yaml: is a joint data set; use one of its sources"),
        (["--dataset", "nothing"], ConfigError, "nothing"),
        (["--size", "100"], ConfigError, "width and height must be multiples of 32, not 100x100"),
        (["--json", "boxes.yaml/x"], MachineError, "--json boxes.yaml/x: cannot be written"),
    ],
)
def test_eval_error_messages(run, flat, options, kind, message):
    assert message in error_of(run("eval", "--weights", flat, *options), kind)


def test_a_detector_is_refused(run, zoo):
    config = load_config(None, ["model={name: yolov2-tiny, width: 0.1, anchors: [[1, 1]]}", "data.size=64"])
    network = build_network(config.model, FLAT)
    checkpoint.save(Checkpoint(config, FLAT, network.state_dict()), zoo / "detector.pt")
    for command in (["eval"], ["predict", "kinds"]):
        message = error_of(run(*command, "--weights", "detector.pt"), WeightsError)
        assert "detector.pt: a detector, not a classifier" in message


def test_prints_a_table_per_image(run, flat, zoo):
    result = run("predict", "kinds/poodle", "--weights", flat, "--top", 2, "--json", "labels.json")
    assert result.exit_code == 0, result.exception
    found = json.loads((zoo / "labels.json").read_text())
    assert [image["file"] for image in found["images"]] == [f"kinds/poodle/{number}.png" for number in range(3)]
    for image in found["images"]:
        assert image["file"] in result.stdout
        first, second = image["labels"]
        assert first["probability"] >= second["probability"]
        assert first.keys() == {"label", "id", "probability"}
        assert "descent" not in image
    share = found["images"][0]["labels"][0]["probability"]
    assert "█" * round(20 * share) in result.stdout


def test_paths_and_descents_in_a_tree(run, over_tree, zoo):
    result = run("predict", "kinds/car/0.png", "--weights", over_tree, "--hier-thresh", 0.0, "--json", "labels.json")
    assert result.exit_code == 0, result.exception
    (image,) = json.loads((zoo / "labels.json").read_text())["images"]
    tree = open_tree(zoo / "zoo.txt")
    for row in image["labels"]:
        way = [step["label"] for step in row["path"]]
        assert way == [tree.names[node] for node in tree.path(tree.find(row["id"]))[::-1]]
        assert row["path"][-1]["probability"] == pytest.approx(row["probability"], abs=1e-5)
    reached = tree.find(image["descent"]["id"])
    assert tree.leaves[reached]
    line = next(line for line in result.stdout.splitlines() if line.startswith("descent: "))
    assert line.count(">") == tree.depth[reached]
    assert tree.names[reached] in line


def test_only_the_first_images_are_shown(run, flat, zoo):
    rng = np.random.default_rng(0)
    (zoo / "many").mkdir()
    for number in range(25):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(zoo / "many" / f"{number:02d}.png")
    result = run("predict", "many", "--weights", flat)
    assert "19.png" in result.stdout
    assert "20.png" not in result.stdout
    assert "… and 5 more images" in result.stdout


def test_an_unreadable_image_does_not_stop_the_others(run, flat, zoo):
    (zoo / "kinds" / "poodle" / "00.png").write_text("text")
    result = run("predict", "kinds/poodle", "--weights", flat, "--json", "labels.json")
    message = error_of(result, DataError)
    assert "1 of 4 images could not be read; first: kinds/poodle/00.png: not a readable image" in message
    assert len(json.loads((zoo / "labels.json").read_text())["images"]) == 3


def test_predict_error_messages(run, flat, zoo):
    assert "no such image or folder" in error_of(run("predict", "x.png", "--weights", flat), DataError)
    assert "hier-thresh" in error_of(run("predict", "kinds", "--weights", flat, "--hier-thresh", 0.5), ConfigError)
    assert run("predict", "kinds", "--weights", flat, "--top", 0).exit_code == 2
    result = run("predict", "kinds", "--weights", "missing.pt")
    assert "no such file or run" in error_of(result, WeightsError)
    assert list(json.loads(run("predict", "kinds/car", "--weights", flat, "--json", "-").stdout)["images"])
