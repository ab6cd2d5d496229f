import json

import numpy as np
import pytest
import typer
import yaml
from PIL import Image
from toy_data import write_toy
from typer.testing import CliRunner

from yolo9k.cli.anchors import anchors
from yolo9k.config import load_config
from yolo9k.errors import ConfigError, MachineError

app = typer.Typer()
app.command()(anchors)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    config = write_toy(folder / "images", {"train": 12}, side_px=96)
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return str(path)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_prints_anchors_in_three_units_and_scores(dataset):
    result = run("--dataset", dataset, "-k", 2, "--size", 96)
    assert result.exit_code == 0, result.output
    for text in ("grid cells (32 px)", "pixels", "relative", "average IoU", "above IoU 0.5"):
        assert text in result.output


def test_only_json_goes_to_standard_output(dataset):
    result = run("--dataset", dataset, "-k", 2, "--size", "96x64", "--json", "-")
    numbers = json.loads(result.stdout)
    assert numbers["k"] == 2
    assert numbers["size_wh"] == [96, 64]
    cells = np.array(numbers["anchors"])
    assert np.allclose(cells * 32, numbers["pixels"], atol=0.02)
    assert np.allclose(cells * 32 / [96, 64], numbers["relative"], atol=1e-3)
    assert cells.prod(axis=1).tolist() == sorted(cells.prod(axis=1))
    assert 0.3 < numbers["average_iou"] < 1
    assert numbers["sweep"] == []


def test_sweep_writes_a_plot(dataset, tmp_path):
    result = run(
        "--dataset",
        dataset,
        "-k",
        2,
        "--sweep",
        "1-3",
        "--plot",
        tmp_path / "a.png",
        "--json",
        tmp_path / "a.json",
    )
    assert result.exit_code == 0, result.output
    assert Image.open(tmp_path / "a.png").width > 1000
    curve = json.loads((tmp_path / "a.json").read_text())["sweep"]
    assert [entry["k"] for entry in curve] == [1, 2, 3]
    assert curve[0]["average_iou"] < curve[2]["average_iou"]


def test_write_updates_the_config_and_warns_about_another_size(dataset, tmp_path):
    config = tmp_path / "my.yaml"
    config.write_text("# mine\nmodel:\n  anchors: auto  # cells\ndata: {size: 128}\n")
    result = run("--dataset", dataset, "-k", 2, "--size", 96, "--write", config)
    assert result.exit_code == 0, result.output
    assert "data.size 128x128" in result.output
    lines = config.read_text().splitlines()
    assert lines[0] == "# mine"
    assert lines[2].endswith("  # cells")
    assert len(yaml.safe_load(config.read_text())["model"]["anchors"]) == 2


SAME = [("anchors: auto", True), ("num_anchors: 2", False), ("num_anchors: 3", True), ("num_anchors: 3  # few", True)]


@pytest.mark.parametrize(("model", "changes"), SAME)
def test_write_updates_num_anchors_if_it_differs(dataset, tmp_path, model, changes):
    config = tmp_path / "my.yaml"
    config.write_text(f"model:\n  {model}\n")
    result = run("--dataset", dataset, "-k", 2, "--write", config)
    assert result.exit_code == 0, result.output
    assert ("wrote model.anchors and model.num_anchors of" in result.output) == changes
    written = load_config(config).model
    assert (len(written.anchors), written.num_anchors) == (2, 2)
    assert ("# few" in config.read_text()) == ("# few" in model)


def test_write_updates_an_inherited_num_anchors(dataset, tmp_path):
    config = tmp_path / "my.yaml"
    config.write_text("extends: small.yaml\n")
    assert run("--dataset", dataset, "-k", 5, "--write", config).exit_code == 0
    assert load_config(config, ["model.anchors=auto"]).model.num_anchors == 5
    assert config.read_text().startswith("extends: small.yaml\nmodel: {anchors: ")


def test_outputs_are_checked_before_the_work(tmp_path):
    for option in ("--json", "--plot", "--write"):
        result = run("--dataset", "not-looked-at", option, tmp_path)
        assert isinstance(result.exception, MachineError)
        assert str(result.exception) == f"{option} {tmp_path}: cannot be written: it is a folder, a file is needed"


def test_write_refuses_more_anchors_than_a_config_allows(dataset, tmp_path):
    config = tmp_path / "my.yaml"
    config.write_text("model: {anchors: auto}\n")
    result = run("--dataset", dataset, "-k", 40, "--write", config)
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception) == f"--write {config}: -k 40: must be at most 32, not 40"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--sweep", "9-1"], ConfigError, "--sweep 9-1: FIRST must be at least 1"),
        (["--sweep", "²"], ConfigError, "must be FIRST-LAST"),
        (["--sweep", "a"], ConfigError, "must be FIRST-LAST"),
        (["--size", "100"], ConfigError, "--size 100: width and height must be multiples of 32, not 100x100"),
        (["--plot", "a.doc"], ConfigError, "--plot a.doc: allowed are .png, .pdf, .svg, .jpg, not '.doc'"),
        (["--split", "none"], ConfigError, "none"),
        (["--write", "none.yaml"], ConfigError, "none.yaml: no such file"),
    ],
)
def test_error_messages(dataset, arguments, error, message):
    result = run("--dataset", dataset, *arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_as_many_anchors_as_sizes(dataset, caplog):
    result = run("--dataset", dataset, "-k", 100)
    assert result.exit_code == 0, result.output
    assert "instead of 100" in caplog.text


def test_a_joint_data_set_uses_the_boxes_of_its_sources(zoo):
    result = run("--dataset", zoo / "joint.yaml", "-k", 2, "--size", 64)
    assert result.exit_code == 0, result.output
    assert "8 boxes: average IoU 1.0000" in result.output
