from pathlib import Path

import pytest

from yolo9k.datasets.readers import label_files
from yolo9k.datasets.readers.label_files import LabelFinder
from yolo9k.io import visible_files


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a.jpg", "labels/a.txt"),
        ("Images/a.jpg", "Labels/a.txt"),
        ("images/a.jpg", "LABELS/a.TXT"),
        ("train/JPEGImages/a.jpg", "train/labels/a.txt"),
        ("img/a.jpg", "txt/a.txt"),
        ("images/train/x/a.jpg", "labels/train/x/a.txt"),
        ("images/train/x/a.jpg", "labels/a.txt"),
        ("train_images/a.jpg", "train_labels/a.txt"),
        ("images_train/a.jpg", "labels_train/a.txt"),
        ("trainImages/a.jpg", "trainLabels/a.txt"),
        ("images/a.jpg", "labels_yolo/a.txt"),
        ("images/train/a.jpg", "YOLO_Labels/train/a.txt"),
        ("img/a.jpg", "ann/a.txt"),
        ("train/a.jpg", "labels/train/a.txt"),
        ("photos2020/a.jpg", "labels/a.txt"),
        ("a.jpg", "labels/a.txt"),
        ("images/a.jpg", "images/labels/a.txt"),
        ("set/a.jpg", "set/a.txt"),
        ("images/a.b.jpg", "labels/a.b.txt"),
        ("images/a.jpg", "labels/a.jpg.txt"),
        ("images/IMG_1.JPG", "labels/img_1.txt"),
    ],
)
def test_layouts(tmp_path, image, label):
    touch(tmp_path, image, label)
    assert LabelFinder(tmp_path).find(tmp_path / image) == tmp_path / label


def test_the_nearest_folder_and_the_same_case_win(tmp_path):
    touch(tmp_path, "images/images/a.jpg", "images/labels/a.txt", "labels/images/a.txt", "labels/a.txt")
    assert LabelFinder(tmp_path).find(tmp_path / "images/images/a.jpg") == tmp_path / "images/labels/a.txt"
    touch(tmp_path, "x/Images/A.jpg", "x/Labels/A.txt", "x/images/a.jpg", "x/labels/a.txt")
    assert LabelFinder(tmp_path).find(tmp_path / "x/Images/A.jpg") == tmp_path / "x/Labels/A.txt"


@pytest.mark.parametrize("label", ["valid_labels/a.txt", "notes/a.txt", "labels/b.txt", ".labels/a.txt"])
def test_labels_of_others(tmp_path, label):
    touch(tmp_path, "train_images/a.jpg", label)
    assert LabelFinder(tmp_path).find(tmp_path / "train_images/a.jpg") is None


def test_folders_beside_the_images_do_not_take_their_labels(tmp_path):
    touch(tmp_path, "images/a.jpg", "previews/a.jpg", "labels/a.txt")
    finder = LabelFinder(tmp_path)
    assert finder.find(tmp_path / "images/a.jpg") == tmp_path / "labels/a.txt"
    assert finder.find(tmp_path / "previews/a.jpg") is None


def test_orphans_are_files_of_boxes_without_an_image(tmp_path):
    touch(tmp_path, "images/a.jpg", "labels/a.txt", "labels/b.txt", "notes.txt")
    (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .1 .1\n")
    (tmp_path / "labels" / "b.txt").write_text("0 .5 .5 .1 .1\n")
    (tmp_path / "notes.txt").write_text("five words that are no numbers\n")
    assert list(LabelFinder(tmp_path).orphans()) == [tmp_path / "labels" / "b.txt"]


@pytest.mark.parametrize(
    ("name", "line", "is_label"),
    [
        ("calib.txt", "1 2 3 4 5 6", False),
        ("calib.txt", "0.5 0.5 0.5 0.5 0.5", False),
        ("old/x.txt", "0 .5 .5 .1 .1", True),
        ("old/x.txt", "2 .1 .1 .9 .1 .9 .9", True),
        ("old/a.txt", "0 320 240 20 20", True),
        ("old/a.txt", "five words that are none", False),
    ],
)
def test_other_files_of_numbers_are_no_label_files(tmp_path, name, line, is_label):
    touch(tmp_path, "images/a.jpg", name)
    (tmp_path / name).write_text(f"{line}\n")
    assert list(LabelFinder(tmp_path).orphans()) == ([tmp_path / name] if is_label else [])


def test_label_files_of_other_splits_in_a_shared_folder_need_no_search(tmp_path, monkeypatch):
    touch(tmp_path, "JPEGImages/a.jpg", "JPEGImages/b.jpg", "labels/a.txt", "labels/b.txt")
    for name in "ab":
        (tmp_path / "labels" / f"{name}.txt").write_text("0 .5 .5 .1 .1\n")
    searched = []
    monkeypatch.setattr(label_files, "visible_files", lambda root: searched.append(root) or visible_files(root))
    assert LabelFinder(tmp_path).orphans_beside([tmp_path / "JPEGImages" / "a.jpg"]) == []
    assert not searched
    (tmp_path / "labels" / "c.txt").write_text("0 .5 .5 .1 .1\n")
    assert LabelFinder(tmp_path).orphans_beside([tmp_path / "JPEGImages" / "a.jpg"]) == [tmp_path / "labels" / "c.txt"]
    assert searched == [tmp_path]


def test_no_image_is_asked_whether_it_is_a_folder(tmp_path, monkeypatch):
    touch(tmp_path, *(f"images/{number}.jpg" for number in range(50)), "labels/1.txt", "runs/detect/labels/1.txt")
    asked, stat = [], Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **how: asked.append(path) or stat(path, **how))
    LabelFinder(tmp_path).find(tmp_path / "images" / "1.jpg")
    assert not [path for path in asked if path.suffix == ".jpg"]
