import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo9k.config import DatasetConfig
from yolo9k.datasets.autodetect import detect_dataset
from yolo9k.datasets.load import read_annotations
from yolo9k.datasets.readers.data_yaml import DataYaml
from yolo9k.datasets.readers.label_files import LabelFinder
from yolo9k.errors import DataError


def add(root: Path, name: str, text: str | None = None, folder="train/images", labels="train/labels") -> Path:
    for place in (folder, labels):
        (root / place).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 50)).save(root / folder / f"{name}.jpg")
    if text is not None:
        (root / labels / f"{name}.txt").write_text(text)
    return root / folder / f"{name}.jpg"


def read(root: Path, entry="train/images", labels=("cat", "dog"), on_error="stop"):
    config = DatasetConfig(kind="yolo", root=str(root), splits={"train": (entry,)}, labels=labels)
    return read_annotations(config, "train", on_error)


def test_relative_centres_become_corners(tmp_path):
    add(tmp_path, "a", "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.1 0.2 0.2\n")
    (record,) = read(tmp_path).records
    np.testing.assert_allclose(record.boxes.xyxy, [[40, 15, 60, 35], [0, 0, 20, 10]], atol=1e-5)
    assert record.boxes.label.tolist() == [1, 0]
    assert (record.size_wh, record.id) == ((100, 50), "a")


def test_polygons_become_their_bounding_box(tmp_path):
    add(tmp_path, "a", "0 0.1 0.2 0.5 0.4 0.3 0.8\n")
    np.testing.assert_allclose(read(tmp_path).records[0].boxes.xyxy, [[10, 10, 50, 40]], atol=1e-5)


def test_an_image_without_a_label_file_has_no_boxes(tmp_path):
    add(tmp_path, "a")
    assert len(read(tmp_path).records[0].boxes) == 0


def test_label_file_is_in_labels_or_next_to_the_image(tmp_path):
    image = add(tmp_path / "images" / "set", "a", "0 .5 .5 1 1\n")
    beside = add(tmp_path, "b", "0 .5 .5 1 1\n", folder="flat", labels="flat")
    finder = LabelFinder(tmp_path)
    assert finder.find(image) == tmp_path / "images/set/train/labels/a.txt"
    assert finder.find(beside) == tmp_path / "flat" / "b.txt"


def test_an_image_list(tmp_path):
    add(tmp_path, "a", "0 .5 .5 1 1\n")
    absolute = add(tmp_path, "b")
    (tmp_path / "train.txt").write_text(f"./train/images/a.jpg\n{absolute}\n\n")
    assert [record.id for record in read(tmp_path, "train.txt").records] == ["a", "b"]


def test_a_listed_image_that_is_missing(tmp_path):
    add(tmp_path, "a")
    (tmp_path / "train.txt").write_text("train/images/a.jpg\ntrain/images/gone.jpg\n")
    with pytest.raises(DataError, match=r"train.txt:2: no such image: 'train/images/gone.jpg'"):
        read(tmp_path, "train.txt")
    annotations = read(tmp_path, "train.txt", on_error="skip")
    assert [issue.kind for issue in annotations.errors] == ["missing image"]


@pytest.mark.parametrize("line", ["2 .5 .5 .1 .1", "-1 .5 .5 .1 .1"])
def test_a_class_out_of_range_is_an_error(tmp_path, line):
    add(tmp_path, "a", f"{line}\n0 .5 .5 .1 .1\n")
    (issue,) = read(tmp_path).errors
    assert issue.kind == "unknown class"
    assert issue.location.endswith("a.txt:1")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 .5 .5 .1", "a.txt:1: must be `class cx cy w h` or .*, not 4 numbers"),
        ("0 .5 .5 .1 .1 9", "a.txt:1: the sixth number must be a score from 0 to 1, not 9"),
        ("0 .5 .5 .1 .1 .1 .1 .1", "a.txt:1: must be `class cx cy w h` or .*, not 8 numbers"),
        ("0 .5 .5 .1 .1 .2 2", "a.txt:1: 7 numbers are no outline: 2 is no coordinate from 0 to 1"),
        ("0 .5 x .1 .1", "a.txt:1: value 3 must be a number, not 'x'"),
        ("cat .5 .5 .1 .1", "a.txt:1: value 1 must be a number, not 'cat'"),
        ("0.5 .5 .5 .1 .1", "a.txt:1: the class must be an integer, not '0.5'"),
        ("nan .5 .5 .1 .1", "a.txt:1: the class must be an integer, not 'nan'"),
    ],
)
def test_an_invalid_line_costs_one_object(tmp_path, line, message):
    add(tmp_path, "a", f"{line}\n1 .5 .5 .2 .2\n")
    annotations = read(tmp_path)
    assert annotations.records[0].boxes.label.tolist() == [1]
    (issue,) = annotations.errors
    assert re.search(message, f"{issue.location}: {issue.message}")


def test_an_image_that_is_text(tmp_path):
    add(tmp_path, "a").write_text("text")
    with pytest.raises(DataError, match=r"a.jpg: not a readable image"):
        read(tmp_path)


@pytest.mark.parametrize("names", ["[cat, dog]", "{0: cat, 1: dog}"])
def test_names_from_data_yaml(tmp_path, names):
    add(tmp_path, "a", "1 .5 .5 .1 .1\n")
    (tmp_path / "data.yaml").write_text(f"train: ../train/images\nval: valid/images\nnames: {names}\n")
    assert read(tmp_path, labels=()).labels.names == ("cat", "dog")
    found = DataYaml.open(tmp_path / "data.yaml")
    assert found.splits["train"] == (tmp_path / "train/images",)  # Roboflow's ../ does not exist
    assert found.missing == {"val": f"valid/images does not exist, also not by its tail below {tmp_path}"}


def test_names_from_classes_txt(tmp_path):
    add(tmp_path, "a", "1 .5 .5 .1 .1\n")
    with pytest.raises(DataError, match=r"no class names: add labels to the config, or names to data.yaml"):
        read(tmp_path, labels=())
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert read(tmp_path, labels=()).labels.names == ("cat", "dog")


def test_names_of_a_wrong_type(tmp_path):
    (tmp_path / "data.yaml").write_text("names: cat\n")
    with pytest.raises(DataError, match="names must be a list, or a mapping"):
        DataYaml.open(tmp_path / "data.yaml")
    (tmp_path / "data.yaml").write_text("names: [cat, ' ']\n")
    with pytest.raises(DataError, match=r"data\.yaml: the name of class 1 is empty"):
        DataYaml.open(tmp_path / "data.yaml")


def test_label_files_without_an_image_are_a_warning(tmp_path):
    add(tmp_path, "a", "0 .5 .5 1 1\n")
    add(tmp_path, "b", "0 .5 .5 1 1\n", folder="val/images")
    (tmp_path / "train/labels/b.txt").rename(tmp_path / "train/labels/flat.txt")
    (tmp_path / "train/labels/classes.txt").write_text("cat\ndog\n")
    (warning,) = read(tmp_path).warnings
    orphan = tmp_path / "train/labels/flat.txt"
    assert (warning.kind, warning.message) == ("no image", f"1 label files are of no image; first: {orphan}")


def test_label_files_of_another_split_are_of_an_image(tmp_path):
    add(tmp_path, "a", "0 .5 .5 1 1\n", folder="images/train", labels="labels")
    add(tmp_path, "b", "0 .5 .5 1 1\n", folder="images/val", labels="labels")
    assert read(tmp_path, "images/train").warnings == ()


def test_a_split_without_any_label_file_is_an_error_if_another_has_some(tmp_path):
    add(tmp_path, "a", "0 .5 .5 1 1\n")
    unlabelled = add(tmp_path, "b", folder="val/images", labels="val/labels")
    splits = {"train": ("train/images",), "val": ("val/images",), "test": ("gone",)}
    both = DatasetConfig(kind="yolo", root=str(tmp_path), splits=splits, labels=("cat", "dog"))
    label_file = tmp_path / "train/labels/a.txt"
    with pytest.raises(DataError, match=f"has a label file, for example {unlabelled}.* have, for example {label_file}"):
        read_annotations(both, "val")
    assert [issue.kind for issue in read_annotations(both, "val", "skip").errors] == ["no label file"]
    (tmp_path / "val/labels/b.txt").touch()
    assert read_annotations(both, "val").errors == ()


def test_repeated_lines_of_a_list_are_counted_once(tmp_path):
    add(tmp_path, "a", "0 .5 .5 1 1\n")
    (tmp_path / "train.txt").write_text("C:\\x\\images\\a.jpg\n" * 3 + "train/images/a.jpg\n")
    annotations = read(tmp_path, "train.txt")
    assert len(annotations.records) == 1
    moved, repeated = (warning.message for warning in annotations.warnings)
    assert moved.startswith("1 of 2 paths were found below train/images/")
    assert repeated == "3 of 4 lines repeat an image, which is used once"


@pytest.mark.parametrize("name", ["classes.txt", "data.yaml", "obj.data"])
def test_a_class_name_that_occurs_twice_names_the_file(tmp_path, name):
    add(tmp_path, "a", "0 .5 .5 1 1\n")
    (tmp_path / "train.txt").write_text("train/images/a.jpg\n")
    named = tmp_path / ("obj.names" if name == "obj.data" else name)
    named.write_text("names: [cat, dog, cat]\ntrain: train\n" if name == "data.yaml" else "cat\ndog\ncat\n")
    if name == "obj.data":
        (tmp_path / name).write_text("train = train.txt\nnames = obj.names\n")
    with pytest.raises(DataError, match=f"{named}: class 0 and class 2 are both called 'cat'"):
        detect_dataset(tmp_path)


def test_a_tree_in_a_data_file_is_said_to_be_unused(tmp_path, caplog):
    add(tmp_path, "a", "0 .5 .5 1 1\n")
    (tmp_path / "train.txt").write_text("train/images/a.jpg\n")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    (tmp_path / "obj.data").write_text("train = train.txt\nnames = obj.names\ntree = 9k.tree\n")
    detect_dataset(tmp_path)
    assert "obj.data: tree is not used" in caplog.text
