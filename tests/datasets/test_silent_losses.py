"""Cases in which data would be lost, or taken from another split, without a word."""

import json
import os
import unicodedata
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


@pytest.mark.parametrize("kind", ["yolo", "coco"])
@pytest.mark.parametrize(
    "folder", ["/home/dev/data", "/home/me/my_test_project", "C:\\\\test\\\\work\\\\imgs", "/x/test-set/y"]
)
def test_folders_of_the_other_machine_are_no_split(tmp_path, kind, folder):
    yolo(tmp_path, "train/a.jpg", "train/a.txt")
    if kind == "yolo":
        (tmp_path / "train.txt").write_text(f"{folder}/a.jpg\n")
    else:
        coco(tmp_path / "train.txt", [(1, "cat")], 1, names=(f"{folder}/a.jpg",))
    read = read_annotations(config(tmp_path, "train.txt", kind=kind, labels=("cat",)), "train")
    assert [(record.path.name, len(record.boxes)) for record in read.records] == [("a.jpg", 1)]
    assert [warning.kind for warning in read.warnings] == ["path from elsewhere"]


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("/x/train/a.jpg", "val/a.jpg"),
        ("/x/train/images/a.jpg", "valid/images/a.jpg"),
        ("/x/train_images/a.jpg", "val_images/a.jpg"),
        ("/x/images/train2017/a.jpg", "images/val2017/a.jpg"),
    ],
)
def test_a_refused_namesake_is_named(tmp_path, line, other):
    yolo(tmp_path, other)
    (tmp_path / "train.txt").write_text(f"{line}\n")
    with pytest.raises(DataError, match=rf"no such image: '{line}'; {other} is of another split"):
        read_annotations(config(tmp_path, "train.txt"), "train")


def test_the_split_in_a_path_decides_between_namesakes(tmp_path):
    for split in ("train", "val"):
        yolo(tmp_path, f"{split}/images/a.jpg", f"{split}/labels/a.txt")
    (tmp_path / "train.txt").write_text("/x/images/train/a.jpg\n")
    (record,) = read_annotations(config(tmp_path, "train.txt"), "train").records
    assert record.path == tmp_path / "train/images/a.jpg"


def test_a_file_of_other_numbers_beside_images_without_objects(tmp_path):
    yolo(tmp_path, "images/a.jpg", "labels/a.txt")
    for name in "bcde":
        yolo(tmp_path, f"images/{name}.jpg")
    (tmp_path / "calib.txt").write_text("1 2 3 4 5 6\n")
    read = read_annotations(config(tmp_path, "images"), "train")
    assert [len(record.boxes) for record in read.records] == [1, 0, 0, 0, 0]
    assert [warning.kind for warning in read.warnings] == ["no label file"]


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


@pytest.mark.parametrize("images", ["JPEGImages", "JPEGImages/{split}"])
def test_voc_annotations_of_a_split_find_the_image_of_their_own_name(tmp_path, images):
    for split in ("train", "val"):
        for stem, other in ((f"{split}1", f"{split}2"), (f"{split}2", f"{split}1")):
            yolo(tmp_path, f"{images.format(split=split)}/{stem}.jpg")
            box = "<object><name>cat</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
            xml = tmp_path / f"Annotations/{split}/{stem}.xml"
            xml.parent.mkdir(parents=True, exist_ok=True)
            xml.write_text(f"<annotation><filename>{other}.jpg</filename>{box}</object></annotation>")
    read = read_annotations(detect_dataset(tmp_path), "train")
    found = [(record.path.stem, record.id) for record in read.records]
    assert (found, read.warnings) == ([("train1", "train1"), ("train2", "train2")], ())


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("kind", ["yolo", "voc", "coco"])
def test_names_in_another_unicode_form(tmp_path, kind, form):
    written, stored = (
        unicodedata.normalize(each, "images/Müller é") for each in (form, {"NFC": "NFD"}.get(form, "NFC"))
    )
    label = unicodedata.normalize(form, "Müller é")
    yolo(tmp_path, f"{stored}.jpg", f"labels/{label}.txt" if kind == "yolo" else "")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    if kind == "voc":
        (tmp_path / "annotations").mkdir()
        box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        text = f"<annotation><filename>{label}.jpg</filename><object><name>cat</name>{box}</object></annotation>"
        (tmp_path / f"annotations/{label}.xml").write_text(text, encoding="utf-8")
    elif kind == "coco":
        coco(tmp_path / "a.json", [(1, "cat")], 1, names=(f"{written}.jpg",))
    (record,) = read_annotations(detect_dataset(tmp_path), "train").records
    assert len(record.boxes) == 1


@pytest.mark.parametrize("line", ['"C:\\set\\images\\a b.jpg"', "images/a%20b.jpg", "images/A B.JPG"])
def test_paths_in_quotes_url_encoding_and_another_case(tmp_path, line):
    yolo(tmp_path, "images/a b.jpg", "labels/a b.txt")
    (tmp_path / "train.txt").write_text(line)
    (record,) = read_annotations(config(tmp_path, "train.txt"), "train").records
    assert len(record.boxes) == 1


def test_relative_boxes_where_pixels_are_meant_are_an_error(tmp_path):
    yolo(tmp_path, "a.jpg")
    coco(tmp_path / "a.json", [(1, "cat")], 1, bbox=[0.1, 0.2, 0.5, 0.5])
    with pytest.raises(DataError, match=r"relative to the image size"):
        read_annotations(config(tmp_path, "a.json", kind="coco", labels=("cat",)), "train")


def test_categories_taken_in_order_are_a_warning(tmp_path):
    yolo(tmp_path, "a.jpg")
    coco(tmp_path / "a.json", [(1, "cat"), (2, "mutt")], 2)
    (warning,) = read_annotations(config(tmp_path, "a.json", kind="coco"), "train").warnings
    assert "'mutt' is label 'dog'" in warning.message


def test_labels_that_count_classes_from_one_are_a_warning(tmp_path):
    yolo(tmp_path, "images/a.jpg", "labels/a.txt", "1 .5 .5 .2 .2\n2 .5 .5 .1 .1\n")
    read = read_annotations(config(tmp_path, "images"), "train")
    assert [warning.kind for warning in read.warnings] == ["classes from 1"]


def test_lines_of_a_box_a_score_and_a_track_are_no_outlines(tmp_path):
    yolo(tmp_path, "images/a.jpg", "labels/a.txt", "0 .5 .5 .2 .2 .91 1\n0 .4 .5 .2 .3 .87 1\n")
    with pytest.raises(DataError, match=r"extra_columns: 2"):
        read_annotations(config(tmp_path, "images"), "train")


def test_tracks_are_an_error_among_others_if_files_are_skipped(tmp_path):
    yolo(tmp_path, "images/a.jpg", "labels/a.txt", "0 .5 .5 .2 .2 .91 1\n0 .4 .5 .2 .3 .87 4\n")
    yolo(tmp_path, "images/b.jpg", "labels/b.txt", "x\n")
    with pytest.raises(DataError, match=r"a\.txt:1: all long lines have 7 numbers"):
        read_annotations(config(tmp_path, "images"), "train")
    errors = read_annotations(config(tmp_path, "images"), "train", "skip").errors
    assert [Path(error.location).name for error in errors] == ["a.txt:2", "b.txt:1", "a.txt:1"]


def test_coco_files_of_other_splits_beside_instances_are_used(tmp_path):
    for name, file in (("a.jpg", "instances_train"), ("b.jpg", "custom_val"), ("c.jpg", "captions_extra")):
        yolo(tmp_path, f"images/{name}")
        coco(tmp_path / f"annotations/{file}.json", [(1, "cat")], 1, names=(name,))
    assert {split: len(parts) for split, parts in detect_dataset(tmp_path).splits.items()} == {"train": 1, "val": 1}


def test_images_with_yolo_labels_beside_a_few_voc_files_are_an_error(tmp_path):
    for stem in "abc":
        yolo(tmp_path, f"{stem}.jpg", f"{stem}.txt")
    (tmp_path / "a.txt").unlink()
    box = "<object><name>cat</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    (tmp_path / "a.xml").write_text(f"<annotation><filename>a.jpg</filename>{box}</annotation>")
    with pytest.raises(DataError, match=r"2 of 3 images have no XML file, .*b\.txt"):
        read_annotations(config(tmp_path, "all", kind="voc", labels=()), "train")


def test_a_data_yaml_in_a_folder_below_its_data(tmp_path):
    for split in ("train", "val"):
        yolo(tmp_path, f"{split}/images/{split}.jpg", f"{split}/labels/{split}.txt")
    (tmp_path / "cfg").mkdir()
    (tmp_path / "cfg" / "my.yaml").write_text("path: ../\ntrain: train/images\nval: val/images\nnames: [cat]\n")
    read = read_annotations(detect_dataset(tmp_path / "cfg" / "my.yaml"), "val").records
    assert [(record.path.name, len(record.boxes)) for record in read] == [("val.jpg", 1)]


@pytest.mark.parametrize(("name", "text"), [
    ("my.yaml", "path: {0}\ntrain: images\nnames: [cat]\n"),
    ("my.yaml", "path: ../../../data\ntrain: images\nnames: [cat]\n"),
    ("obj.data", "classes = 1\ntrain = {0}/images\n"),
])  # fmt: skip
def test_data_that_exist_outside_the_root_are_not_called_missing(tmp_path, name, text):
    yolo(tmp_path, "data/images/a.jpg", "data/labels/a.txt")
    file = tmp_path / "work/project/cfg" / name
    file.parent.mkdir(parents=True)
    file.write_text(text.format(tmp_path / "data"))
    with pytest.raises(DataError, match=rf"{name}: train: .*images, outside {file.parent}, .* config .* `root`"):
        detect_dataset(file)


def test_each_coco_split_has_its_own_image_folder(tmp_path):
    for split in ("train", "validation"):
        yolo(tmp_path, f"{split}/data/1.jpg")
        coco(tmp_path / split / "labels.json", [(1, "cat")], 1, names=("1.jpg",))
    found = detect_dataset(tmp_path)
    paths = {split: read_annotations(found, split).records[0].path for split in ("train", "val")}
    assert paths == {"train": tmp_path / "train/data/1.jpg", "val": tmp_path / "validation/data/1.jpg"}


@pytest.mark.parametrize("inner", ["", "proj-1"])
def test_a_data_yaml_from_windows_in_an_unpacked_folder(tmp_path, inner):
    for split in ("Train", "Valid"):
        yolo(tmp_path / inner, f"{split}/Images/{split}.jpg", f"{split}/Labels/{split}.txt")
    text = "train: D:\\x\\train\\images\nval: proj-1\\valid\\images\nnames: [cat]\n"
    (tmp_path / inner / "data.yaml").write_text(text)
    (record,) = read_annotations(detect_dataset(tmp_path), "val").records
    assert (record.path.name, len(record.boxes)) == ("Valid.jpg", 1)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("7 .5 .5 .2 .2\n", r"1 unknown class; first: .*a\.txt:1: '7' is not one of the class names"),
        ("0 20 10 8 4\n", r"1 unreadable annotation; first: .*must be fractions .* not 20; are these pixels\?"),
        ("0 .5 .5 0 0\n0 1.4 1.4 .1 .1\n", r"1 zero area, 1 outside; first: .*a\.txt:1: "),
    ],
)
def test_a_split_without_a_usable_box_says_why(tmp_path, line, why):
    yolo(tmp_path, "images/a.jpg", "labels/a.txt", line)
    yolo(tmp_path, "images/b.jpg", "labels/b.txt", "")
    for on_error in ("stop", "skip"):
        with pytest.raises(DataError, match=rf"no usable box in split 'train': {why}"):
            read_annotations(config(tmp_path, "images"), "train", on_error)


def test_a_coco_file_that_is_none_is_no_missing_split(tmp_path, caplog):
    yolo(tmp_path, "train/a.jpg")
    coco(tmp_path / "annotations/train.json", [(1, "cat")], 1)
    (tmp_path / "annotations/val.json").write_text("[]")
    detect_dataset(tmp_path)
    assert "not used, since they are no COCO files: val.json" in caplog.text
    (tmp_path / "annotations/val.json").rename(tmp_path / "annotations/instances_val.json")
    with pytest.raises(DataError, match=r"instances_val\.json: not a COCO annotation file"):
        detect_dataset(tmp_path)
    (tmp_path / "annotations/instances_val.json").unlink()
    os.mkfifo(tmp_path / "annotations/instances_val.json")
    with pytest.raises(DataError, match=r"instances_val\.json: is a named pipe"):
        detect_dataset(tmp_path)


@pytest.mark.parametrize(("text", "is_broken"), [("{}", False), ("[1]", False), ("{", True), ('{"images": 1}', True)])
def test_instances_of_no_split_may_be_other_json(tmp_path, text, is_broken):
    yolo(tmp_path, "images/train/a.jpg", "labels/train/a.txt")
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [cat]\n")
    (tmp_path / "instances_stats.json").write_text(text)
    if is_broken:
        with pytest.raises(DataError, match=r"instances_stats\.json: not "):
            detect_dataset(tmp_path)
    else:
        assert detect_dataset(tmp_path).kind == "yolo"


def test_images_with_yolo_labels_beside_a_few_of_a_coco_file_are_an_error(tmp_path):
    for stem in "abc":
        yolo(tmp_path, f"images/{stem}.jpg", f"labels/{stem}.txt")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat]\n")
    coco(tmp_path / "old.json", [(1, "cat")], 1)
    with pytest.raises(
        DataError, match=r": 2 of 3 images are in no COCO file such as old\.json, .*b\.txt; use files of"
    ):
        detect_dataset(tmp_path)
    assert detect_dataset(tmp_path, "yolo").kind == "yolo"
    for named in (detect_dataset(tmp_path / "old.json"), detect_dataset(tmp_path, "coco")):  # a subset, on purpose
        assert read_annotations(named, "train").warnings[0].message.startswith("2 images beside those listed")
    coco(tmp_path / "val.json", [(1, "cat")], 1, names=("a.jpg", "b.jpg"))
    assert detect_dataset(tmp_path).kind == "coco"


def test_the_results_of_a_tool_are_not_trained_on(tmp_path, caplog):
    caplog.set_level("INFO")
    for folder in ("", "runs/detect/exp/"):
        yolo(tmp_path, f"{folder}images/a.jpg", f"{folder}labels/a.txt")
        yolo(tmp_path, f"{folder}b.jpg", f"{folder}labels/b.txt")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    dataset = detect_dataset(tmp_path, holdout=0)
    assert "not used: the results of a YOLO tool in runs" in caplog.text
    paths = [record.path for record in read_annotations(dataset, "train").records]
    assert paths == [tmp_path / "b.jpg", tmp_path / "images/a.jpg"]


def test_an_image_folder_of_a_config_that_is_missing_is_an_error(tmp_path):
    yolo(tmp_path, "train/a.jpg")
    coco(tmp_path / "train.json", [(1, "cat")], 1)
    source = {"annotations": "train.json", "images": "gone"}
    lost = DatasetConfig.model_validate({"kind": "coco", "root": str(tmp_path), "splits": {"train": [source]}})
    with pytest.raises(DataError, match="gone: no such image folder"):
        read_annotations(lost, "train")
