import pytest
import yaml
from typer.testing import CliRunner

from yolo9k.cli.config import app
from yolo9k.config import Config, config_names, dataset_names, load_config
from yolo9k.config.catalogue import find
from yolo9k.errors import ConfigError


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# my run :smile: [bold]\ntrain: {lr: 0.01}  # high\n")
    return path


def test_list_names_everything():
    result = run("list")
    assert result.exit_code == 0
    for name in config_names() + dataset_names():
        assert name in result.stdout


def test_every_shipped_file_starts_with_a_description():
    files = [find(name) for name in config_names()] + [find(name, dataset=True) for name in dataset_names()]
    assert [path.name for path in files if not path.read_text(encoding="utf-8").startswith("# ")] == []


def test_show_reads_back_to_the_same_config(mine, tmp_path):
    result = run("show", mine, "--set", "train.momentum=0.5")
    shown = tmp_path / "shown.yaml"
    shown.write_text(result.stdout)
    assert load_config(shown) == load_config(mine, ["train.momentum=0.5"])


def test_show_without_a_name_is_all_defaults():
    assert Config.model_validate(yaml.safe_load(run("show").stdout)) == Config()


def test_show_raw_is_the_file(mine):
    assert run("show", mine, "--raw").stdout == mine.read_text()


def test_show_a_data_set():
    assert yaml.safe_load(run("show", "example-yolo").stdout)["kind"] == "yolo"


def test_check(mine):
    result = run("check", mine)
    assert result.exit_code == 0
    assert "ok (config)" in result.stdout
    for name in ("example-voc", "yolo9000"):
        assert "ok (data set)" in run("check", find(name, dataset=True)).stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: {lrr: 1}", "train.lrr: unknown key; did you mean train.lr?"),
        ("kind: voc\nroot: x\n", "splits"),
        ("data: {dataset: nowhere}", "nowhere: no such data set"),
        ("train: [", "not YAML"),
    ],
)
def test_check_error_messages(tmp_path, content, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(content)
    result = run("check", path)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nothing-like-it"], "nothing-like-it: no such config"),
        (["show", "example-voc", "--set", "root=x"], "--set: only for training configs"),
    ],
)
def test_show_error_messages(arguments, message):
    result = run(*arguments)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
