"""Label tree options of `detect` and `eval`, with an untrained network."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from yolo9k import checkpoint, cli
from yolo9k.build import build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import load_config
from yolo9k.errors import ConfigError, DataError
from yolo9k.wordtree import WordTree

# two labels are called "jaguar"
TREE = WordTree(
    ("animal", "machine", "cat", "dog", "n1", "n2", "poodle", "terrier"),
    ("animal", "machine", "cat", "dog", "car", "jaguar", "poodle", "jaguar"),
    (-1, -1, 0, 0, 1, 1, 3, 3),
)
LEAVES = {"cat", "car", "jaguar", "poodle"}
ANNOTATIONS = {
    "images": [{"id": 5, "file_name": "a.png", "width": 60, "height": 40}],
    "annotations": [{"id": 1, "image_id": 5, "category_id": 3, "bbox": [5, 5, 30, 30], "area": 900, "iscrowd": 0}],
    "categories": [{"id": 3, "name": "dog"}, {"id": 9, "name": "poodle"}],
}


def saved(labels, path):
    torch.manual_seed(0)
    model = "model={name: yolov2-tiny, width: 0.1, anchors: [[1, 1], [2, 2]]}"
    config = load_config(None, [model, "data.size=64", "data.dataset=voc"])
    checkpoint.save(Checkpoint(config, labels, build_network(config.model, labels).state_dict()), path)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {"tree": saved(TREE, folder / "tree.pt"), "flat": saved(WordTree.flat(["a", "b"]), folder / "flat.pt")}


@pytest.fixture
def run(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save("a.png")
    (tmp_path / "val.json").write_text(json.dumps(ANNOTATIONS))
    (tmp_path / "boxes.yaml").write_text("kind: coco\nroot: .\nsplits: {val: [{annotations: val.json, images: .}]}\n")
    monkeypatch.setenv("YOLO9K_DATA", str(tmp_path))

    def invoke(command, *options, model="tree"):
        given = (
            ["a.png", "--conf", "0", "--max-detections", "9"] if command == "detect" else ["--no-coco", "--conf", "0"]
        )
        arguments = [command, "--weights", models[model], "--device", "cpu", *given, *options]
        return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])

    return invoke


def found_by(run, *options):
    result = run("detect", "--no-draw", "--json", "-", *options)
    assert result.exit_code == 0, result.output
    (image,) = json.loads(result.stdout)["images"]
    assert image["detections"]
    return image["detections"]


def test_the_hierarchical_threshold_limits_the_depth(run):
    assert {len(found["path"]) for found in found_by(run, "--hier-thresh", "1")} == {1}
    deepest = found_by(run, "--hier-thresh", "0")
    assert {found["label"] for found in deepest} <= LEAVES
    for found in deepest:
        assert found["path"][-1]["label"] == found["label"]
        assert sorted((step["probability"] for step in found["path"]), reverse=True) == [
            step["probability"] for step in found["path"]
        ]


def test_leaves_and_subtrees(run):
    assert {found["label"] for found in found_by(run, "--leaves-only")} <= LEAVES
    under = found_by(run, "--under", "dog,n2", "--hier-thresh", "0")
    assert {found["id"] for found in under} <= {"poodle", "terrier", "n2"}
    assert {found["id"] for found in found_by(run, "--under", "dog", "--leaves-only")} <= {"poodle", "terrier"}
    assert {found["id"] for found in found_by(run, "--classes", "machine")} <= {"machine", "n1", "n2"}


def test_darknet_mode_uses_objectness_as_the_score(run):
    paper, darknet = (max(f["score"] for f in found_by(run, "--tree-mode", mode)) for mode in ("paper", "darknet"))
    assert darknet > paper


def test_csv_has_ids_of_labels_with_the_same_name(run, tmp_path):
    assert run("detect", "--no-draw", "--csv", "found.csv", "--leaves-only", "--under", "n2").exit_code == 0
    rows = list(csv.DictReader((tmp_path / "found.csv").open()))
    assert {(row["label"], row["id"]) for row in rows} == {("jaguar", "n2")}
    assert rows[0]["path"].startswith("machine 0.")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--under", "bird"), "under: 'bird' is not a label of this set"),
        (("--under", "jaguar"), "under: 'jaguar' is the name of several labels: n2, terrier"),
        (("--leaves-only", "--hier-thresh", ".3"), "leaves-only: chooses the most probable leaf without a descent"),
        (("--leaves-only", "--tree-mode", "darknet"), "leaves-only: chooses the most probable leaf without a descent"),
    ],
)
def test_error_messages(run, options, message):
    result = run("detect", *options)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)


FLAT = [("--hier-thresh", ".5"), ("--leaves-only",), ("--tree-mode", "darknet")]


@pytest.mark.parametrize("options", [*FLAT, ("--under", "a")])
def test_detect_refuses_tree_options_with_flat_labels(run, options):
    result = run("detect", *options, model="flat")
    assert isinstance(result.exception, ConfigError)
    assert "these labels are flat (a, b)" in str(result.exception)


@pytest.mark.parametrize("options", FLAT)
def test_eval_refuses_tree_options_with_flat_labels(run, options):
    result = run("eval", "--dataset", "boxes.yaml", *options, model="flat")
    assert isinstance(result.exception, ConfigError)
    assert "these labels are flat (a, b)" in str(result.exception)


def scored(run, tmp_path, *options):
    result = run("eval", "--json", "scores.json", *options)
    assert result.exit_code == 0, result.output
    return json.loads((tmp_path / "scores.json").read_text())


def test_a_map_assigns_nodes_to_classes(run, tmp_path):
    (tmp_path / "coco.map").write_text("3\n6\n")
    scores = scored(run, tmp_path, "--dataset", "boxes.yaml", "--map", "coco.map", "--exact")
    assert [row["name"] for row in scores["classes"]] == ["dog"]
    assert scores["depth"]["boxes"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3\n", "a.map: 1 lines for the 2 labels of the data set"),
        ("3\n8\n", "a.map:2: node must be an integer, 0 to 7, not '8'"),
    ],
)
def test_a_map_that_does_not_fit(run, tmp_path, text, message):
    (tmp_path / "a.map").write_text(text)
    result = run("eval", "--dataset", "boxes.yaml", "--map", "a.map")
    assert isinstance(result.exception, DataError)
    assert message in str(result.exception)


@pytest.fixture
def tree_file(run, tmp_path):
    """The label tree of the model, as files."""
    from yolo9k.wordtree.files import write_tree

    write_tree(TREE, tmp_path / "mine")
    return "mine.tree"


def test_inner_labels_and_supervision(run, tmp_path, tree_file):
    (tmp_path / "tree.yaml").write_text((tmp_path / "boxes.yaml").read_text() + f"labels: {{tree: {tree_file}}}\n")
    (tmp_path / "boxed.map").write_text("0\n")
    scores = scored(run, tmp_path, "--dataset", "tree.yaml", "--inner", "--box-supervised", "boxed.map")
    supervision = {row["name"]: row["supervision"] for row in scores["classes"]}
    assert supervision == {"animal": "box", "dog": "image-level"}
    mapped = run("eval", "--dataset", "tree.yaml", "--map", "boxed.map")
    assert "--map: the data set has a label tree" in str(mapped.exception)
    flat = run("eval", "--dataset", "boxes.yaml", "--inner")
    assert "--inner: the labels of the data set are flat" in str(flat.exception)


def test_image_level_labels(run, tmp_path, tree_file):
    (tmp_path / "train" / "poodle").mkdir(parents=True)
    (tmp_path / "a.png").rename(tmp_path / "train" / "poodle" / "a.png")
    (tmp_path / "images.yaml").write_text(
        f"kind: folder\nroot: .\nsplits: {{val: [train]}}\nlabels: {{tree: {tree_file}}}\n"
    )
    scores = scored(run, tmp_path, "--dataset", "images.yaml")
    assert (scores["images"], [level["depth"] for level in scores["levels"]]) == (1, [0, 1, 2])
    refused = run("eval", "--dataset", "images.yaml", "--inner", "--tree-mode", "darknet")
    assert isinstance(refused.exception, ConfigError)
    assert "--inner, --tree-mode: only for data sets with boxes" in str(refused.exception)
