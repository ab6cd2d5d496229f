import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import read_annotations
from yolo9k.errors import DataError

SIZE = "<size><width>100</width><height>50</height><depth>3</depth></size>"


def item(name="cat", corners=(11, 11, 21, 31), extra=""):
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<object><name>{name}</name>{extra}<bndbox>{sides}</bndbox></object>"


def add(root: Path, stem: str, content: str = "", size: str = SIZE, images: str = "JPEGImages") -> Path:
    for folder in ("Annotations", images, "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    path = root / "Annotations" / f"{stem}.xml"
    path.write_text(f"<annotation>{size}{content}</annotation>")
    Image.new("RGB", (100, 50)).save(root / images / f"{stem}.jpg")
    return path


def split(root: Path, name: str, text: str) -> None:
    (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text)


def config(root: Path, *entries: str, labels=("cat", "dog")) -> DatasetConfig:
    return DatasetConfig(kind="voc", root=str(root), splits={"train": entries or ("all",)}, labels=labels)


def read(root: Path, *entries: str, on_error="stop", labels=("cat", "dog")):
    return read_annotations(config(root, *entries, labels=labels), "train", on_error)


def test_one_is_subtracted_from_all_four_corners(tmp_path):
    add(tmp_path, "a", item(corners=(1, 11, 100, 50)) + item("dog"))
    (record,) = read(tmp_path).records
    np.testing.assert_array_equal(record.boxes.xyxy, [[0, 10, 99, 49], [10, 10, 20, 30]])
    assert record.boxes.label.tolist() == [0, 1]
    assert record.size_wh == (100, 50)
    assert record.id == "a"
    assert record.path == tmp_path / "JPEGImages" / "a.jpg"


def test_difficult_is_ignored(tmp_path):
    add(tmp_path, "a", item() + item(extra="<difficult>1</difficult>"))
    assert read(tmp_path).records[0].boxes.ignore.tolist() == [False, True]


def test_parts_of_an_object_are_not_objects(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    add(tmp_path, "a", item(extra=part))
    assert read(tmp_path).records[0].boxes.xyxy.tolist() == [[10, 10, 20, 30]]


@pytest.mark.parametrize("size", ["", "<size><width>0</width><height>0</height></size>"])
def test_a_missing_size_is_read_from_the_image(tmp_path, size):
    add(tmp_path, "a", item(), size=size)
    assert read(tmp_path).records[0].size_wh == (100, 50)


def test_unreadable_images_are_found_though_their_size_is_annotated(tmp_path):
    for stem in ("a", "b"):
        add(tmp_path, stem, item())
    image = tmp_path / "JPEGImages" / "a.jpg"
    image.write_text("no image")
    with pytest.raises(DataError, match=re.escape(f"{image}: not a readable image")):
        read(tmp_path)
    image.unlink()
    os.mkfifo(image)
    annotations = read(tmp_path, on_error="skip")
    assert [record.id for record in annotations.records] == ["b"]
    assert [issue.kind for issue in annotations.errors] == ["unreadable image"]


def test_exchanged_corners_are_read_in_order(tmp_path):
    path = add(tmp_path, "a", item(corners=(30, 40, 11, 6)) + item(corners=(1, 40, 11, 6)) + item())
    annotations = read(tmp_path)
    np.testing.assert_array_equal(annotations.records[0].boxes.xyxy[0], [10, 5, 29, 39])
    assert not annotations.errors
    message = f"2 boxes have their min and max exchanged and are read in order; first: {path}: object 1"
    assert [warning.message for warning in annotations.warnings] == [message]


def test_several_folders_are_concatenated_in_order(tmp_path):
    for year, stem in (("VOC2012", "b"), ("VOC2007", "a")):
        add(tmp_path / year, stem, item())
        split(tmp_path / year, "trainval", f"{stem}\n")
    read_ids = [record.id for record in read(tmp_path, "VOC2012/trainval", "VOC2007/trainval").records]
    assert read_ids == ["b", "a"]


def test_lists_of_one_class_exclude_images_without_it(tmp_path):
    for stem in ("a", "b", "c d"):
        add(tmp_path, stem, item())
    split(tmp_path, "cat_train", "a  1\nb -1\nc d\n\n")
    assert [record.id for record in read(tmp_path, "cat_train").records] == ["a", "c d"]


def test_without_labels_in_the_config_names_of_all_splits_are_sorted(tmp_path):
    add(tmp_path, "a", item("zebra"))
    add(tmp_path, "b", item("ant"))
    split(tmp_path, "train", "a\n")
    split(tmp_path, "test", "b\n")
    both = DatasetConfig(kind="voc", root=str(tmp_path), splits={"train": ("train",), "test": ("test",)})
    annotations = read_annotations(both, "train")
    assert annotations.labels.names == ("ant", "zebra")
    assert annotations.records[0].boxes.label.tolist() == [1]


def test_images_next_to_the_annotations(tmp_path):
    add(tmp_path, "a", item(), images="Annotations")
    (tmp_path / "Annotations").rename(tmp_path / "flat")
    assert read(tmp_path, "flat/all").records[0].path == tmp_path / "flat" / "a.jpg"


def test_invalid_boxes_are_errors_with_their_location(tmp_path):
    path = add(tmp_path, "a", item() + item(corners=(5, 5, 5, 5)) + item("cow"))
    annotations = read(tmp_path)
    assert len(annotations.records[0].boxes) == 1
    assert [(d.kind, d.location) for d in annotations.errors] == [
        ("zero area", f"{path}: object 2"),
        ("unknown class", f"{path}: object 3"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (item(corners=(1, 2, "abc", 4)), r"a.xml: object 1: xmax must be a number, not 'abc'"),
        ("<object><name>cat</name></object>", r"a.xml: object 1: has no bndbox"),
        ("<object><bndbox/></object>", r"a.xml: object 1: has no name"),
        (item(extra="<difficult>x</difficult>"), r"a.xml: object 1: difficult must be 0 or 1, not 'x'"),
        ("<object/>", r"a.xml: object 1: has no name"),
    ],
)
def test_a_bad_object_costs_one_object(tmp_path, content, message):
    add(tmp_path, "a", content + item())
    annotations = read(tmp_path)
    assert len(annotations.records[0].boxes) == 1
    (issue,) = annotations.errors
    assert issue.kind == "unreadable annotation"
    assert re.search(message, f"{issue.location}: {issue.message}")


@pytest.mark.parametrize("text", ["Unspecified", "", "0", "0.0", "no", "False"])
def test_not_difficult_in_other_words(tmp_path, text):
    add(tmp_path, "a", item(extra=f"<difficult>{text}</difficult>"))
    assert read(tmp_path).records[0].boxes.ignore.tolist() == [False]


def test_an_outline_gets_its_box(tmp_path):
    points = "<x1>11</x1><y1>12</y1><x2>31</x2><y2>12</y2><x3>20</x3><y3>25</y3>"
    add(tmp_path, "a", f"<object><name>cat</name><polygon>{points}</polygon></object>")
    assert read(tmp_path).records[0].boxes.xyxy.tolist() == [[10, 11, 30, 24]]


def test_a_bad_file_stops_or_is_skipped(tmp_path):
    add(tmp_path, "a", "<object>")
    add(tmp_path, "b", item())
    with pytest.raises(DataError, match=r"a.xml:1: not XML"):
        read(tmp_path)
    annotations = read(tmp_path, on_error="skip")
    assert [record.id for record in annotations.records] == ["b"]
    assert [issue.kind for issue in annotations.errors] == ["unreadable annotation"]


def test_entities_are_refused(tmp_path):
    path = add(tmp_path, "a")
    path.write_text('<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>')
    with pytest.raises(DataError, match=r"a.xml: declares XML entities"):
        read(tmp_path)


def test_missing_image_and_missing_annotation(tmp_path):
    add(tmp_path, "a", item())
    add(tmp_path, "b", item())
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    split(tmp_path, "train", "a\nb\nc\n")
    with pytest.raises(DataError, match=r"a.xml: no image 'a'"):
        read(tmp_path, "train")
    errors = read(tmp_path, "train", on_error="skip").errors
    assert [issue.kind for issue in errors] == ["missing image", "missing annotation"]


def test_a_missing_image_error_lists_the_names_tried(tmp_path):
    path = add(tmp_path, "a", item(), size=f"<filename>cat.jpg</filename>{SIZE}")
    (tmp_path / "JPEGImages" / "a.jpg").unlink()
    expected = f"{path}: no image 'cat.jpg' (its filename) or 'a' below {tmp_path}"
    with pytest.raises(DataError) as raised:
        read(tmp_path)
    assert str(raised.value).startswith(expected)


def remove_image(root: Path, stem: str) -> None:
    (root / "JPEGImages" / f"{stem}.jpg").unlink()


@pytest.mark.parametrize("masks", ["SegmentationClass", "SegmentationObject", "SegmentationClassPNG"])
def test_a_mask_does_not_replace_a_missing_image(tmp_path, masks):
    add(tmp_path, "a", item())
    (tmp_path / masks).mkdir()
    (tmp_path / "JPEGImages" / "a.jpg").rename(tmp_path / masks / "a.png")
    with pytest.raises(DataError, match=r"a.xml: no image 'a'"):
        read(tmp_path)


def test_a_namesake_in_another_voc_folder_does_not_replace_a_missing_image(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        for stem in ("a", "b"):
            add(tmp_path / year, stem, item(), size=f"<filename>{stem}.jpg</filename>{SIZE}")
    remove_image(tmp_path / "VOC2007", "a")
    annotations = read(tmp_path, "VOC2007/all", "VOC2012/all", on_error="skip")
    assert [issue.kind for issue in annotations.errors] == ["missing image"]
    names = [record.path.relative_to(tmp_path).as_posix() for record in annotations.records]
    assert names == [f"VOC{name}.jpg" for name in ("2007/JPEGImages/b", "2012/JPEGImages/a", "2012/JPEGImages/b")]


def test_the_filename_comes_before_an_image_of_the_same_name_elsewhere(tmp_path):
    path = add(tmp_path / "x", "ann_0", item(), size=f"<filename>img_0.jpg</filename>{SIZE}")
    path.rename(tmp_path / "ann_0.xml")
    (tmp_path / "preview").mkdir()
    image = tmp_path / "x" / "JPEGImages" / "ann_0.jpg"
    (tmp_path / "preview" / "ann_0.png").write_bytes(image.read_bytes())
    image.rename(tmp_path / "img_0.jpg")
    assert [record.path for record in read(tmp_path).records] == [tmp_path / "img_0.jpg"]


def test_images_found_by_their_name_elsewhere_are_counted(tmp_path):
    for stem in ("a", "b"):
        add(tmp_path, stem, item())
    (tmp_path / "JPEGImages" / "day").mkdir()
    (tmp_path / "JPEGImages" / "a.jpg").rename(tmp_path / "JPEGImages" / "day" / "a.jpg")
    annotations = read(tmp_path)
    assert [record.path.name for record in annotations.records] == ["a.jpg", "b.jpg"]
    message = "1 of 2 paths were found below JPEGImages/day/; first: Annotations/a is JPEGImages/day/a.jpg"
    assert [warning.message for warning in annotations.warnings] == [message]


def test_a_missing_list_error_lists_the_existing_ones(tmp_path):
    add(tmp_path, "a", item())
    split(tmp_path, "train", "a\n")
    with pytest.raises(DataError, match=r"tset.txt: no such split; allowed are train, all"):
        read(tmp_path, "tset")


def test_blood_cells(shared):
    root = shared("data", "bccd")
    splits = {"train": ("train",), "val": ("val",), "test": ("test",)}
    cells = DatasetConfig(kind="voc", root=str(root), splits=splits)
    found = {split: read_annotations(cells, split) for split in splits}
    assert {split: len(a.records) for split, a in found.items()} == {"train": 205, "val": 87, "test": 72}
    boxes = {split: sum(len(r.boxes) for r in a.records) for split, a in found.items()}
    assert boxes == {"train": 2804, "val": 1137, "test": 945}
    assert [d.kind for a in found.values() for d in a.errors] == ["zero area", "zero area"]
