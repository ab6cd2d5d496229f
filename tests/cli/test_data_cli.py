import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from yolo9k.cli.data import app
from yolo9k.errors import ConfigError, DataError, MachineError, WeightsError


def run(*args: object):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def output(*args: object) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.exception or result.output
    return result.output


@pytest.fixture
def folder(tmp_path) -> Path:
    root = tmp_path / "pets"
    root.mkdir()
    for i in range(12):
        Image.new("RGB", (40, 20), (20 * i, 0, 0)).save(root / f"{i}.png")
        (root / f"{i}.txt").write_text("0 .5 .5 .5 .5\n")
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


def test_check_reports_a_folder(folder):
    text = output("check", folder)
    assert "0 errors" in text
    assert "dog" in text


def test_check_writes_json_and_plots(folder, tmp_path):
    (folder / "3.txt").write_text("7 .5 .5 .5 .5\n")
    text = output("check", folder, "--json", tmp_path / "report.json", "--plots", tmp_path / "plots")
    issue = f"unknown class: {folder / '3.txt'}:1: '7' is not one of the class names"
    assert f"1 errors: 1 unknown class\n  {issue}" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["error_counts"] == {"unknown class": 1}
    assert [split["name"] for split in report["splits"]] == ["train", "val"]
    assert len(list((tmp_path / "plots").iterdir())) == 3


def test_check_prints_only_json_to_standard_output(folder):
    result = run("check", folder, "--json", "-")
    assert json.loads(result.stdout)["labels"] == ["cat", "dog"]


def test_check_of_one_split(folder, tmp_path):
    output("check", folder, "--split", "val", "--json", tmp_path / "report.json")
    splits = json.loads((tmp_path / "report.json").read_text())["splits"]
    assert [split["name"] for split in splits] == ["val"]


def test_strict_check_fails_if_there_are_errors(folder):
    assert run("check", folder, "--strict").exit_code == 0
    (folder / "3.txt").write_text("0 .5 .5 0 0\n")
    error = run("check", folder, "--strict").exception
    assert isinstance(error, DataError)
    assert error.exit_code == 3
    assert "1 errors; first" in str(error)


@pytest.mark.parametrize("dataset", ["nowhere.yaml", "vok"])
def test_check_of_an_unknown_data_set(dataset):
    assert isinstance(run("check", dataset).exception, ConfigError)


def test_missing_data(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO9K_DATA", str(tmp_path))
    error = run("check", "coco").exception
    assert isinstance(error, DataError)
    assert "yolo9k data download coco" in str(error)


def test_make_config_writes_a_file_that_check_accepts(folder, tmp_path):
    target = tmp_path / "new" / "pets.yaml"
    text = output("make", "config", folder, "-o", target, "--holdout", 0.4)
    assert f"wrote {target}" in text
    assert f"next: yolo9k data check {target}" in text
    assert "val: 5 images, 5 boxes (held out of train)" in text
    assert "0 errors" in output("check", target)


def test_make_config_of_one_image_has_no_val(folder, tmp_path):
    for path in folder.iterdir():
        if path.stem not in ("0", "classes"):
            path.unlink()
    text = output("make", "config", folder, "-o", tmp_path / "one.yaml")
    assert "  train: 1 image, 1 box\n  no val split: training keeps the last weights;" in text
    assert "1 single image" in output("check", tmp_path / "one.yaml")


def test_outputs_are_checked_before_the_work(folder, tmp_path):
    (tmp_path / "file").write_text("kept")
    for arguments, place in (
        (("check", "vok", "--json", tmp_path), "--json"),
        (("check", "vok", "--plots", tmp_path / "file"), "--plots"),
        (("check", "vok", "--augmented", 1, "--plots", tmp_path / "file"), "--plots"),
        (("make", "config", tmp_path / "gone", "-o", tmp_path / "file" / "a.yaml"), "-o"),
    ):
        error = run(*arguments).exception
        assert isinstance(error, MachineError)
        assert str(error).startswith(f"{place} {arguments[-1]}: cannot be written: ")
    assert (tmp_path / "file").read_text() == "kept"


def test_make_config_overwrites_only_if_requested(folder, tmp_path):
    target = tmp_path / "pets.yaml"
    target.write_text("mine")
    error = run("make", "config", folder, "-o", target).exception
    assert isinstance(error, ConfigError)
    assert target.read_text() == "mine"
    output("make", "config", folder, "-o", target, "--overwrite")
    assert "kind: yolo" in target.read_text()


def test_make_config_error_messages(folder, tmp_path):
    wrong_kind = run("make", "config", folder, "-o", tmp_path / "a.yaml", "--kind", "csv").exception
    assert isinstance(wrong_kind, ConfigError)
    assert "must be one of voc, coco, yolo" in str(wrong_kind)
    (tmp_path / "file").write_text("")
    unwritable = run("make", "config", folder, "-o", tmp_path / "file" / "a.yaml").exception
    assert isinstance(unwritable, MachineError)


def test_list_shows_which_data_sets_are_on_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO9K_DATA", str(tmp_path))
    (tmp_path / "coco").mkdir()
    output("list", "--json", tmp_path / "list.json")
    rows = {row["name"]: row["here"] for row in json.loads((tmp_path / "list.json").read_text())["datasets"]}
    assert rows["coco"]
    assert not rows["voc"]
    assert "yolo9k data download voc" in output("list")


def test_download_of_an_unknown_data_set():
    error = run("download", "imagenet").exception
    assert isinstance(error, ConfigError)
    assert "allowed are voc, coco" in str(error)


def test_download_that_fails_exits_with_4(tmp_path, monkeypatch):
    def fail(*_args: object) -> None:
        raise WeightsError("a.tar could not be fetched")

    monkeypatch.setattr("yolo9k.datasets.tools.download.fetch", fail)
    assert run("download", "voc", "--root", tmp_path).exception.exit_code == 4


def test_download_prints_the_next_command(tmp_path, monkeypatch):
    monkeypatch.setattr("yolo9k.datasets.tools.download.download", lambda *_args: [tmp_path / "VOCdevkit"])
    text = output("download", "voc", "--root", tmp_path)
    assert f"next: YOLO9K_DATA={tmp_path} yolo9k data check voc" in text


def test_augmented_images_of_a_folder(folder, tmp_path):
    text = output("check", folder, "--augmented", 3, "--plots", tmp_path / "plots")
    assert f"wrote {tmp_path / 'plots' / 'augmented.png'}" in text
    with Image.open(tmp_path / "plots" / "augmented.png") as image:
        assert min(image.size) > 600


def test_augmented_images_of_a_config(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output("make", "config", folder, "-o", "pets.yaml")
    Path("train.yaml").write_text("data: {dataset: pets.yaml, size: 64x32, augment: {geometry: none}}\n")
    assert f"wrote {Path('plots/augmented.png')}" in output("check", "--augmented", 1, "--config", "train.yaml")
    with Image.open("plots/augmented.png") as image:
        assert image.getpixel((180, 40)) == (255, 255, 255)  # the cell is white above a 64x32 image


def test_a_data_set_is_required():
    for arguments in (("check",), ("check", "--augmented", 1)):
        error = run(*arguments).exception
        assert isinstance(error, ConfigError)
        assert "no data set given" in str(error)


def test_with_a_label_tree_only_labels_with_boxes_are_listed(zoo):
    (zoo / "boxes.yaml").write_text(
        f"kind: yolo\nroot: {zoo / 'boxes'}\nsplits: {{train: [train], val: [val]}}\n"
        f"labels: {{tree: {zoo / 'zoo.txt'}, classes: [hound, car]}}\n"
    )
    listed = output("check", zoo / "boxes.yaml").partition("Classes")[2]
    assert [line.split() for line in listed.splitlines()[2:4]] == [
        ["dog", "4", "4", "2", "2"],
        ["car", "4", "4", "2", "2"],
    ]
    assert "terrier" not in listed


def test_the_sources_of_a_joint_data_set_are_checked_one_by_one(zoo):
    error = run("check", zoo / "joint.yaml").exception
    assert isinstance(error, ConfigError)
    assert "joint: is a joint data set; use one of its sources: boxes, " in str(error)


def test_augmented_images_of_a_joint_data_set(zoo, tmp_path):
    output("check", zoo / "joint.yaml", "--augmented", 4, "--plots", tmp_path / "plots")
    with Image.open(tmp_path / "plots" / "augmented.png") as image:
        assert image.size[0] > 300


def test_list_contains_joint_data_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO9K_DATA", str(tmp_path))
    (tmp_path / "coco").mkdir()
    for is_here in (False, True):
        output("list", "--json", tmp_path / "list.json")
        rows = {row["name"]: row for row in json.loads((tmp_path / "list.json").read_text())["datasets"]}
        assert (rows["yolo9000"]["kind"], rows["yolo9000"]["here"]) == ("joint", is_here)
        (tmp_path / "imagenet").mkdir(exist_ok=True)
