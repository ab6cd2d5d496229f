import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo9k.config import DatasetConfig
from yolo9k.datasets.check import Spread, check_dataset, counts, find_duplicate_boxes
from yolo9k.datasets.records import Record
from yolo9k.samples import BoxLabels


def picture(path: Path, seed: int, size_wh=(40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size_wh[1], size_wh[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def labels(path: Path, *lines: str) -> None:
    path.with_suffix(".txt").write_text("\n".join(lines))


@pytest.fixture
def data(tmp_path) -> DatasetConfig:
    for i, name in enumerate(("train/a", "train/b", "val/c")):
        picture(tmp_path / f"{name}.png", i)
        labels(tmp_path / f"{name}.png", "0 .5 .5 .5 .5")
    splits = {"train": ("train",), "val": ("val",)}
    return DatasetConfig(kind="yolo", root=str(tmp_path), splits=splits, labels=("cat", "dog"))


def kinds(config: DatasetConfig) -> dict[str, int]:
    return counts(check_dataset(config).defects)


def test_a_sound_data_set(data):
    report = check_dataset(data)
    assert report.defects == report.remarks == ()
    train, val = report.splits
    assert (train.images, train.boxes, val.images) == (2, 2, 1)
    assert [(c.name, c.images, c.boxes) for c in train.classes] == [("cat", 2, 2), ("dog", 0, 0)]
    assert train.picture_width == Spread(40, 40, 40)
    assert train.box_height == Spread(10, 10, 10)
    assert (train.small, train.medium, train.large) == (2, 0, 0)


def test_only_one_split(data):
    assert [split.name for split in check_dataset(data, ["val"]).splits] == ["val"]


def test_a_split_without_boxes(data, tmp_path):
    labels(tmp_path / "val" / "c.png")
    val = check_dataset(data).splits[1]
    assert (val.boxes, val.images_without_boxes, val.box_width) == (0, 1, None)


def test_duplicate_pictures(data, tmp_path):
    shutil.copy(tmp_path / "train" / "a.png", tmp_path / "train" / "a2.png")
    shutil.copy(tmp_path / "train" / "b.png", tmp_path / "val" / "b.png")
    assert kinds(data) == {"duplicate picture": 1, "picture in two splits": 1}


def test_a_split_of_two_names_is_no_duplicate(data):
    both = data.model_copy(update={"splits": data.splits | {"test": data.splits["val"]}})
    assert kinds(both) == {}


def test_a_picture_that_is_cut_off(data, tmp_path):
    path = tmp_path / "train" / "a.png"
    path.write_bytes(path.read_bytes()[:-200])
    assert kinds(data) == {"unreadable picture": 1}


def test_a_size_that_differs_from_the_annotation(tmp_path):
    picture(tmp_path / "a.png", 0, (20, 40))
    (tmp_path / "a.xml").write_text("<annotation><size><width>40</width><height>20</height></size></annotation>")
    config = DatasetConfig(kind="voc", root=str(tmp_path), splits={"train": ("all",)}, labels=("cat",))
    (defect,) = check_dataset(config).defects
    assert defect.kind == "wrong size"
    assert defect.message == "is 20x40, turned as its EXIF data say, but annotated as 40x20"


def test_bad_boxes_files_and_twins(data, tmp_path):
    labels(tmp_path / "train" / "a.png", "0 .5 .5 .5 .5", "0 .5 .5 .5 .5", "3 .5 .5 .1 .1", "0 .5 .5 0 .1")
    labels(tmp_path / "train" / "b.png", "0 .5 .5 x .5")
    assert kinds(data) == {
        "unknown class": 1,
        "zero area": 1,
        "unreadable annotation": 1,
        "duplicate box": 1,
    }


def test_boxes_that_are_nearly_equal_are_remarks():
    boxes = BoxLabels.of([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [0, 0, 10, 10]], [0, 0, 1, 0], [0, 0, 0, 1])
    (found,) = find_duplicate_boxes(Record(Path("a.jpg"), (20, 20), boxes, "a"), ("cat", "dog"))
    assert found.kind == "near-duplicate box"
    assert found.message == "cat [0.0, 0.0, 10.0, 10.0] and [0.0, 0.0, 10.0, 9.0], IoU 0.90"


def test_report_as_plain_values(data):
    plain = check_dataset(data).to_dict()
    assert plain["labels"] == ("cat", "dog")
    assert plain["splits"][0]["classes"][0] == {"name": "cat", "images": 2, "boxes": 2, "ignored": 0}
    assert plain["defect_counts"] == {}
    assert "annotations" not in plain


def test_known_defects_of_the_reference_data(shared):
    splits = {name: (name,) for name in ("train", "val", "test")}
    cells, cards = (
        check_dataset(DatasetConfig(kind="voc", root=str(shared("data", name)), splits=splits))
        for name in ("bccd", "cards")
    )
    assert counts(cells.defects) == {"zero area": 2}
    assert counts(cells.remarks) == {"near-duplicate box": 8}
    assert cards.defects == cards.remarks == ()
