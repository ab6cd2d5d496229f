import pytest
from typer.testing import CliRunner

from yolo9k.cli.data import app
from yolo9k.config import load_dataset_config
from yolo9k.datasets.load import read_images
from yolo9k.errors import ConfigError, DataError, MachineError


def run(*args: object):
    return CliRunner().invoke(app, ["make", "shards", *(str(arg) for arg in args)])


def test_a_folder_becomes_shards(zoo):
    result = run(zoo / "kinds", "-o", zoo / "out", "--resize", 32)
    assert result.exit_code == 0, result.exception
    assert "train: 6 images of 3 classes in 1 tar files, " in result.output
    assert f"wrote {zoo / 'out' / 'shards.yaml'}" in result.output
    assert len(read_images(load_dataset_config(str(zoo / "out" / "shards.yaml")), "train").records) == 6


def test_unreadable_images_are_reported(zoo):
    (zoo / "kinds" / "car" / "0.png").write_text("text")
    result = run(zoo / "kinds", "-o", zoo / "out", "--resize", 32, "--max-images", 6)
    assert "warning: 1 images could not be read; packed unchanged" in result.stderr


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        (("{}/boxes.yaml", "-o", "{}/out"), ConfigError, "image-level labels need kind folder or shards, not yolo"),
        (("{}/joint.yaml", "-o", "{}/out"), ConfigError, "is a joint data set; use one of its sources"),
        (("{}/none", "-o", "{}/out"), ConfigError, "none"),
        (("{}/empty", "-o", "{}/out"), DataError, "no labelled image in split 'train'"),
        (("{}/kinds", "-o", "{}/out", "--split", "val"), ConfigError, "no split 'val'; it has train"),
        (("{}/kinds", "-o", "{}/zoo.txt"), MachineError, "it is a file, a folder is needed"),
    ],
)
def test_error_messages(zoo, args, error, message):
    (zoo / "empty").mkdir()
    result = run(*(arg.format(zoo) for arg in args))
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert not (zoo / "out").exists()


def test_a_second_call_writes_nothing(zoo):
    run(zoo / "kinds", "-o", zoo / "out")
    result = run(zoo / "kinds", "-o", zoo / "out")
    assert isinstance(result.exception, ConfigError)
