"""Cases in which data would be lost, or taken from another split, without a word."""

import json
from pathlib import Path

import pytest
from PIL import Image

from yolo9k.config import DatasetConfig
from yolo9k.datasets.autodetect import detect_dataset
from yolo9k.datasets.load import is_held_out, read_annotations
from yolo9k.errors import DataError

LINE = "0 .5 .5 .2 .2\n"


def yolo(root: Path, image: str, label: str = "", text: str = LINE) -> None:
    (root / image).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(root / image)
    if label:
        (root / label).parent.mkdir(parents=True, exist_ok=True)
        (root / label).write_text(text)


def coco(path: Path, categories, category: int, names=("a.jpg",), **annotation) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": i, "file_name": name, "width": 40, "height": 20} for i, name in enumerate(names, 1)]
    entry = {"id": 1, "image_id": 1, "category_id": category, "bbox": [1, 1, 5, 5], **annotation}
    listed = [{"id": number, "name": name} for number, name in categories]
    path.write_text(json.dumps({"images": images, "annotations": [entry], "categories": listed}))


def config(root: Path, *entries: str, kind="yolo", labels=("cat", "dog")) -> DatasetConfig:
    return DatasetConfig(kind=kind, root=str(root), splits={"train": entries}, labels=labels)


def test_absolute_paths_below_a_relative_root_have_their_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yolo(tmp_path, "set/images/train/a.jpg", "set/labels/train/a.txt")
    (tmp_path / "set" / "train.txt").write_text(f"{tmp_path}/set/images/train/a.jpg\n")
    monkeypatch.setenv("YOLO9K_DATA", ".")
    (record,) = read_annotations(config(Path("set"), "train.txt"), "train").records
    assert (record.path, len(record.boxes)) == (Path("set/images/train/a.jpg"), 1)


def test_folders_outside_the_root_that_a_config_names_have_their_labels(tmp_path):
    yolo(tmp_path, "far/images/train/a.jpg", "far/labels/train/a.txt")
    (tmp_path / "set").mkdir()
    (record,) = read_annotations(config(tmp_path / "set", str(tmp_path / "far/images/train")), "train").records
    assert len(record.boxes) == 1


def test_a_missing_image_is_not_replaced_by_its_namesake(tmp_path):
    yolo(tmp_path, "val/1.jpg", "val/1.txt")
    yolo(tmp_path, "train/2.jpg", "train/2.txt")
    for line in ("train/1.jpg", "/elsewhere/train/1.jpg"):
        (tmp_path / "train.txt").write_text(f"{line}\ntrain/2.jpg\n")
        with pytest.raises(DataError, match=r"train\.txt:1: no such image"):
            read_annotations(config(tmp_path, "train.txt"), "train")


def test_eval_coco_of_a_data_file_is_no_split(tmp_path):
    yolo(tmp_path, "obj/a.jpg", "obj/a.txt")
    yolo(tmp_path, "coco/b.jpg", "coco/b.txt")
    (tmp_path / "train.txt").write_text("obj/a.jpg\n")
    (tmp_path / "a.names").write_text("cat\n")
    (tmp_path / "a.data").write_text("train = train.txt\nvalid = train.txt\nnames = a.names\neval = coco\n")
    assert detect_dataset(tmp_path).splits == {"train": ("train.txt",), "val": ("train.txt",)}


def test_categories_of_all_files_are_labels(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg")
    coco(tmp_path / "train.json", ((1, "cat"), (2, "dog")), 2)
    coco(tmp_path / "val.json", ((1, "cat"), (2, "bird")), 2)
    detected = detect_dataset(tmp_path)
    assert set(detected.labels) == {"cat", "dog", "bird"}
    annotations = read_annotations(detected, "train")
    assert [annotations.labels.names[label] for label in annotations.records[0].boxes.label] == ["dog"]


def test_a_folder_whose_first_images_have_no_labels_is_used(tmp_path):
    for number in range(60):
        yolo(tmp_path, f"images/a{number:02}.jpg")
    yolo(tmp_path, "images/z.jpg", "labels/z.txt")
    (tmp_path / "classes.txt").write_text("cat\n")
    assert detect_dataset(tmp_path, holdout=0).splits == {"train": ("images",)}


def test_keypoints_of_a_data_yaml_without_splits(tmp_path):
    yolo(tmp_path, "images/a.jpg", "labels/a.txt", "0 .5 .5 .2 .2 .45 .55\n")
    (tmp_path / "data.yaml").write_text("names: [cat]\nkpt_shape: [1, 2]\n")
    for read in (detect_dataset(tmp_path, holdout=0), config(tmp_path, "images", labels=("cat",))):
        (record,) = read_annotations(read, "train").records
        assert record.boxes.xyxy.round(3).tolist() == [[16, 8, 24, 12]]


def test_an_empty_line_in_a_class_list_is_an_error(tmp_path):
    yolo(tmp_path, "images/a.jpg", "labels/a.txt")
    (tmp_path / "classes.txt").write_text("cat\n\ndog\n\n")
    with pytest.raises(DataError, match=r"classes\.txt:2: an empty line"):
        detect_dataset(tmp_path)


def test_words_inside_names_do_not_beat_the_split_of_the_folder(tmp_path):
    for split in ("train", "val"):
        for folder in ("dev_board", "test_tube"):
            yolo(tmp_path, f"images/{split}/{folder}/a.jpg", f"labels/{split}/{folder}/a.txt")
    (tmp_path / "classes.txt").write_text("cat\n")
    splits = detect_dataset(tmp_path).splits
    assert splits["train"] == ("images/train/dev_board", "images/train/test_tube")
    assert splits["val"] == ("images/val/dev_board", "images/val/test_tube")


def test_links_do_not_double_a_data_set(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg")
    coco(tmp_path / "train.json", ((1, "cat"),), 1)
    (tmp_path / "latest").symlink_to(tmp_path)
    assert detect_dataset(tmp_path, holdout=0).splits == {"train": ("train.json",)}


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [0, 5], "counts": [0]},
        {"size": [20, 40], "counts": [8589934592, 1]},
        {"size": [20, 40], "counts": "P"},
        {"size": [20, 40], "counts": ""},
    ],
)
def test_broken_masks_are_errors(tmp_path, segmentation):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg")
    coco(tmp_path / "train.json", ((1, "cat"),), 1, bbox=[], segmentation=segmentation)
    with pytest.raises(DataError, match=r"train\.json: annotation 1: "):
        read_annotations(config(tmp_path, "train.json", kind="coco", labels=()), "train")


def test_four_zeros_are_no_box_beside_an_outline(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg")
    coco(tmp_path / "train.json", ((1, "cat"),), 1, bbox=[0, 0, 0, 0], segmentation=[[2, 2, 8, 2, 8, 9]])
    (record,) = read_annotations(config(tmp_path, "train.json", kind="coco", labels=()), "train").records
    assert record.boxes.xyxy.tolist() == [[2, 2, 8, 9]]


def test_names_that_are_no_unicode_have_a_hash():
    assert is_held_out("\ud800.jpg", 0.999999)
    assert not is_held_out("\ud800.jpg", 0)


def test_a_stray_yaml_file_does_not_stop_detection(tmp_path):
    yolo(tmp_path, "images/a.jpg", "labels/a.txt")
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "other.yaml").write_text("--- a\n--- b\n")
    assert detect_dataset(tmp_path, holdout=0).splits == {"train": ("images",)}
