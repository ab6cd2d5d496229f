import json
import os
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from yolo9k.cli.detection_output import DetectionOutput
from yolo9k.config import DatasetConfig, load_dataset_config
from yolo9k.config.datasets import SplitSource
from yolo9k.datasets.autodetect import detect_dataset, image_folder, open_dataset, open_image_dataset, to_yaml
from yolo9k.datasets.layouts.coco import find_coco
from yolo9k.datasets.layouts.layout import subfolders
from yolo9k.datasets.layouts.voc import find_voc
from yolo9k.datasets.load import read_annotations
from yolo9k.datasets.readers.coco import CocoFile
from yolo9k.errors import ConfigError, DataError
from yolo9k.io import write_text
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(path)


def voc(root: Path, stem: str, name="cat", images="JPEGImages", annotations="Annotations") -> None:
    image(root / images / f"{stem}.jpg")
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    (root / annotations).mkdir(parents=True, exist_ok=True)
    (root / annotations / f"{stem}.xml").write_text(
        f"<annotation><object><name>{name}</name>{box}</object></annotation>"
    )


def lists(root: Path, **stems: str) -> None:
    (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
    for name, text in stems.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text)


def coco(path: Path, file_name="a.jpg", names=((1, "cat"), (4, "dog")), category=1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = {"id": 1, "file_name": file_name, "width": 40, "height": 20}
    box = {"id": 1, "image_id": 1, "category_id": category, "bbox": [1, 1, 5, 5], "iscrowd": 0}
    categories = [{"id": number, "name": name} for number, name in names]
    path.write_text(json.dumps({"images": [image], "annotations": [box], "categories": categories}))


def yolo(root: Path, stem: str, images="images", labels="labels") -> None:
    image(root / images / f"{stem}.jpg")
    (root / labels).mkdir(parents=True, exist_ok=True)
    (root / labels / f"{stem}.txt").write_text("1 .5 .5 .2 .2\n")


def boxes(config: DatasetConfig, split: str) -> int:
    return sum(len(record.boxes) for record in read_annotations(config, split).records)


# --- VOC


def test_voc_with_lists(tmp_path):
    for stem in ("a", "b"):
        voc(tmp_path, stem)
    lists(tmp_path, train="a\n", val="b\n", trainval="a\nb\n", test="", other="a\n")
    config = detect_dataset(tmp_path)
    assert (config.kind, config.splits) == ("voc", {"train": ("train",), "val": ("val",)})
    assert (config.holdout, config.labels, config.name) == (0, ("cat",), tmp_path.name)
    assert boxes(config, "val") == 1


def test_voc_with_trainval_only(tmp_path):
    voc(tmp_path, "a")
    lists(tmp_path, trainval="a\n", val="a\n", test="a\n")
    config = detect_dataset(tmp_path)
    assert config.splits == {"train": ("trainval",), "test": ("test",)}
    assert config.holdout == 0  # one image cannot be divided


def test_voc_years_are_concatenated(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        voc(tmp_path / "VOCdevkit" / year, f"a{year}")
        lists(tmp_path / "VOCdevkit" / year, trainval=f"a{year}\n")
    config = detect_dataset(tmp_path)  # the folder above is looked through
    assert config.splits == {"train": ("VOCdevkit/VOC2007/trainval", "VOCdevkit/VOC2012/trainval")}


@pytest.mark.parametrize(
    ("images", "annotations"),
    [("JPEGImages", "Annotations"), ("images", "annotations"), (".", "."), ("images", "labels")],
)
def test_voc_without_lists(tmp_path, images, annotations):
    voc(tmp_path, "a", images=images, annotations=annotations)
    config = detect_dataset(tmp_path, holdout=0)
    assert (config.kind, config.splits) == ("voc", {"train": ("all",)})
    assert boxes(config, "train") == 1


def test_voc_split_by_folders(tmp_path):
    for folder in ("train", "valid", "test"):
        voc(tmp_path, folder, images=folder, annotations=folder)
    config = detect_dataset(tmp_path)
    assert config.splits == {"train": ("train/all",), "val": ("valid/all",), "test": ("test/all",)}
    assert boxes(config, "val") == 1


def test_voc_labels_in_the_order_of_a_names_file(tmp_path):
    voc(tmp_path, "a", "cat")
    voc(tmp_path, "b", "ant")
    assert detect_dataset(tmp_path).labels == ("ant", "cat")
    (tmp_path / "my.names").write_text("cat\nant\n")
    assert detect_dataset(tmp_path).labels == ("cat", "ant")


def test_a_class_list_beside_voc_with_equal_names_is_an_error(tmp_path):
    voc(tmp_path, "a")
    (tmp_path / "x.names").write_text("cat\ndog\ncat\n")
    with pytest.raises(DataError, match=r"x\.names: class 0 and class 2 are both called 'cat'"):
        detect_dataset(tmp_path)


# --- COCO


def test_coco_as_published(tmp_path):
    for split in ("train2017", "val2017"):
        coco(tmp_path / "annotations" / f"instances_{split}.json")
        coco(tmp_path / "annotations" / f"person_keypoints_{split}.json")
        image(tmp_path / split / "a.jpg")
    config = detect_dataset(tmp_path)
    assert config.kind == "coco"
    assert config.splits == {
        "train": ("annotations/instances_train2017.json",),
        "val": ("annotations/instances_val2017.json",),
    }
    assert config.labels == ("cat", "dog")


def test_coco_files_are_parsed_once_to_detect_them(tmp_path, monkeypatch):
    for split in ("train", "val"):
        image(tmp_path / "images" / f"{split}.jpg")
        coco(tmp_path / f"instances_{split}.json", f"{split}.jpg")
    opened = Counter[str]()
    parse = CocoFile.open
    monkeypatch.setattr(CocoFile, "open", lambda path: (opened.update([path.name]), parse(path))[1])
    config = detect_dataset(tmp_path)
    assert opened == {"instances_train.json": 1, "instances_val.json": 1}
    assert not read_annotations(config, "train").warnings
    assert opened == {"instances_train.json": 2, "instances_val.json": 1}
    coco(tmp_path / "instances_val.json", "val.jpg", names=((1, "cat"), (4, "dog"), (5, "emu")))
    assert detect_dataset(tmp_path).labels == ("cat", "dog", "emu")


def test_coco_as_roboflow_exports_it(tmp_path):
    for folder in ("train", "valid", "test"):
        names = ((0, "animals"), (1, "cat"), (2, "dog"))
        coco(tmp_path / folder / "_annotations.coco.json", names=names)
        image(tmp_path / folder / "a.jpg")
    config = detect_dataset(tmp_path)
    assert config.splits["val"] == ("valid/_annotations.coco.json",)
    assert config.labels == ("cat", "dog")  # number 0 is the group's name
    assert boxes(config, "test") == 1


def test_coco_with_one_file_and_images_elsewhere(tmp_path):
    coco(tmp_path / "labels.json", "sub/a.jpg")
    image(tmp_path / "photos" / "all" / "sub" / "a.jpg")
    config = detect_dataset(tmp_path, holdout=0)
    assert config.splits == {"train": (SplitSource(annotations="labels.json", images="photos/all"),)}
    assert boxes(config, "train") == 1


# --- YOLO


def test_yolo_as_roboflow_exports_it(tmp_path):
    for folder in ("train", "valid"):
        yolo(tmp_path / folder, folder)
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 2\nnames: ['cat', 'dog']\n"
    )
    config = detect_dataset(tmp_path)
    assert (config.kind, config.holdout, config.labels) == ("yolo", 0, ("cat", "dog"))
    assert config.splits == {"train": ("train/images",), "val": ("valid/images",), "test": ("test/images",)}
    assert boxes(config, "val") == 1
    with pytest.raises(DataError, match="test/images: no such image folder"):  # named, and never dropped
        read_annotations(config, "test")


def test_yolo_as_ultralytics_writes_it(tmp_path):
    for name in "abcdefghijkl":
        yolo(tmp_path, name, "images/train", "labels/train")
    (tmp_path / "my.yaml").write_text("path: ../datasets/my\ntrain: images/train\nnames: {0: cat, 1: dog}\n")
    config = detect_dataset(tmp_path)
    assert config.splits == {"train": ("images/train",)}
    assert boxes(config, "train") + boxes(config, "val") == 12


@pytest.mark.parametrize(("images", "holdout", "held"), [(2, 0.01, 1), (2, 0.9, 1), (6, 0.2, 1), (13, 0.2, 3)])
def test_few_images_are_held_out_by_count(tmp_path, images, holdout, held):
    for number in range(images):
        yolo(tmp_path, f"image{number}")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    config = detect_dataset(tmp_path, holdout=holdout)
    assert len(read_annotations(config, "val").records) == held
    assert len(read_annotations(config, "train").records) == images - held


def test_many_images_keep_the_fraction(tmp_path):
    for number in range(60):
        yolo(tmp_path, f"image{number}")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert detect_dataset(tmp_path).holdout == 0.2


@pytest.mark.parametrize(("images", "labels", "entry"), [("images", "labels", "images"), (".", ".", ".")])
def test_yolo_without_yaml(tmp_path, images, labels, entry):
    yolo(tmp_path, "a", images, labels)
    with pytest.raises(DataError, match=r"no class names: .*classes.txt"):
        detect_dataset(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    config = detect_dataset(tmp_path, holdout=0)
    assert (config.splits, config.labels) == ({"train": (entry,)}, ("cat", "dog"))
    assert boxes(config, "train") == 1


def test_yolo_folders_by_split(tmp_path):
    for split in ("train", "val"):
        yolo(tmp_path, split, f"images/{split}", f"labels/{split}")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    assert detect_dataset(tmp_path).splits == {"train": ("images/train",), "val": ("images/val",)}


def test_yolo_lists(tmp_path):
    yolo(tmp_path, "a")
    (tmp_path / "train.txt").write_text("images/a.jpg\n")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    assert detect_dataset(tmp_path).splits == {"train": ("train.txt",)}


# --- all


def test_unknown_formats(tmp_path):
    image(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="no annotated images in a known format"):
        detect_dataset(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        detect_dataset(tmp_path / "gone")


def test_the_kind_can_be_given(tmp_path):
    voc(tmp_path, "a", images="images")
    yolo(tmp_path, "a")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert detect_dataset(tmp_path).kind == "voc"
    assert detect_dataset(tmp_path, "yolo").kind == "yolo"


def test_written_config_reads_back(tmp_path):
    voc(tmp_path / "cells", "a", "no")  # a word that YAML reads as a boolean
    config = detect_dataset(tmp_path / "cells")
    text = to_yaml(config, {"train": "1 image"})
    assert "# train: 1 image" in text
    (tmp_path / "cells.yaml").write_text(text)
    assert load_dataset_config(tmp_path / "cells.yaml") == config


def test_written_config_keeps_image_folders(tmp_path):
    coco(tmp_path / "labels.json")
    image(tmp_path / "photos" / "a.jpg")
    config = detect_dataset(tmp_path)
    assert DatasetConfig(**yaml.safe_load(to_yaml(config, {}))).splits == config.splits


def test_root_is_relative_inside_the_data_folder(tmp_path, monkeypatch):
    voc(tmp_path / "cells", "a")
    assert detect_dataset(tmp_path / "cells").root == str(tmp_path / "cells")
    monkeypatch.setenv("YOLO9K_DATA", str(tmp_path))
    assert detect_dataset(tmp_path / "cells").root == "cells"


def test_open_dataset_takes_folders_files_and_names(tmp_path):
    voc(tmp_path / "cells", "a")
    config = open_dataset(str(tmp_path / "cells"))
    (tmp_path / "other.yaml").write_text(to_yaml(config, {}))
    assert open_dataset(str(tmp_path / "other.yaml")).name == "other"
    assert open_dataset("voc").name == "voc"
    with pytest.raises(ConfigError, match="no such data set"):
        open_dataset("vok")


@pytest.mark.parametrize(
    ("name", "kind", "labels"), [("bccd", "voc", 3), ("cards", "voc", 6), ("coco-mini", "coco", 80)]
)
def test_reference_data(shared, name, kind, labels):
    config = detect_dataset(shared("data", name))
    assert (config.kind, len(config.labels), config.holdout) == (kind, labels, 0)


# --- splits: nothing is trained on, or left out, without a word


@pytest.fixture
def notes(caplog):
    """What detection logs, as one text."""
    caplog.set_level("INFO", logger="yolo9k.datasets")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


def test_folders_of_other_names_are_not_used_beside_train(tmp_path, notes):
    for folder in ("train", "dev", "holdout", "query", "backup"):
        voc(tmp_path, folder, images=folder, annotations=folder)
    config = detect_dataset(tmp_path)
    assert config.splits == {"train": ("train/all",), "val": ("dev/all", "holdout/all")}
    expected = (
        "train: 1 image in train/all; val: 1 image in dev/all, 1 image in holdout/all; "
        "not used: 1 image in backup/all, 1 image in query/all"
    )
    assert expected in notes()


def test_folders_of_other_names_are_train_if_none_is_called_so(tmp_path, notes):
    for folder in ("cells", "zellen", "test"):
        voc(tmp_path, folder, images=folder, annotations=folder)
    assert detect_dataset(tmp_path, holdout=0).splits == {"train": ("cells/all", "zellen/all"), "test": ("test/all",)}
    assert "train: 1 image in cells/all, 1 image in zellen/all; test: 1 image in test/all" in notes()


def test_trainval_is_not_used_beside_train(tmp_path, notes):
    for split in ("train", "val", "trainval"):
        coco(tmp_path / "annotations" / f"{split}.json")
        image(tmp_path / "images" / "a.jpg")
    assert set(detect_dataset(tmp_path).splits) == {"train", "val"}
    assert "not used: 1 image in annotations/trainval.json" in notes()


def test_an_evaluation_folder_inside_the_training_images_is_not_train(tmp_path, notes):
    for folder in (".", "test"):
        yolo(tmp_path / folder, f"image-{folder}", images=".", labels=".")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    config = detect_dataset(tmp_path, holdout=0)
    assert config.splits == {"train": ("*",), "test": ("test",)}
    assert [record.path.name for record in read_annotations(config, "train").records] == ["image-..jpg"]
    assert "train: 1 image in .; test: 1 image in test" in notes()


def test_images_without_label_files_in_a_folder_of_their_own_are_counted(tmp_path, notes):
    yolo(tmp_path, "a")
    image(tmp_path / "backgrounds" / "b.jpg")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert detect_dataset(tmp_path, holdout=0).splits == {"train": ("images",)}
    assert "not used, since they have no label files: 1 image in backgrounds" in notes()


def test_held_out_images_are_counted(tmp_path, notes):
    for number in range(6):
        yolo(tmp_path, f"image{number}")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    detect_dataset(tmp_path)
    assert "val: 1 of the 6 train images, held out" in notes()


def test_a_list_of_images_is_a_data_set(tmp_path):
    yolo(tmp_path, "a")
    (tmp_path / "my_list.txt").write_text("images/a.jpg\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    config = open_dataset(str(tmp_path / "my_list.txt"))
    assert config.splits == {"train": ("my_list.txt",)}


def test_class_lists_of_several_folders_must_agree(tmp_path):
    for folder, names in (("train", "cat\ndog\n"), ("valid", "dog\ncat\n")):
        yolo(tmp_path, folder, images=folder, labels=folder)
        (tmp_path / folder / "classes.txt").write_text(names)
    with pytest.raises(DataError, match=r"train/classes.txt and .*valid/classes.txt: the class lists differ"):
        detect_dataset(tmp_path)


@pytest.mark.parametrize("second", ["b.names", "classes.txt", "labels/classes.txt"])
def test_class_lists_beside_each_other_must_agree(tmp_path, second):
    yolo(tmp_path, "a")
    (tmp_path / "a.names").write_text("cat\ndog\n")
    (tmp_path / second).write_text("cat\ndog\n\n")
    assert detect_dataset(tmp_path).classes == ("cat", "dog")
    (tmp_path / second).write_text("dog\ncat\n")
    with pytest.raises(DataError, match=rf"a\.names and .*{second}: the class lists differ"):
        detect_dataset(tmp_path)


@pytest.mark.parametrize("place", ["", "labels/"])
def test_a_class_list_may_continue_another(tmp_path, place):
    yolo(tmp_path, "a")
    (tmp_path / "obj.names").write_text("dog\nperson\n")
    (tmp_path / place / "classes.txt").write_text("dog\nperson\ncat\n")
    assert detect_dataset(tmp_path).classes == ("dog", "person", "cat")


@pytest.mark.parametrize("name", ["labels.txt", "predefined_classes.txt"])
def test_lists_of_a_tool_are_used_only_without_another(tmp_path, name, notes):
    yolo(tmp_path, "a")
    (tmp_path / name).write_text("__ignore__\ncat\n")
    assert detect_dataset(tmp_path).classes == ("__ignore__", "cat")
    (tmp_path / "classes.txt").write_text("dog\nperson\n")
    assert detect_dataset(tmp_path).classes == ("dog", "person")
    assert f"not used: {tmp_path / name}, since there is {tmp_path / 'classes.txt'}" in notes()


@pytest.mark.parametrize("kind", ["voc", "yolo"])
def test_links_to_the_root_of_the_file_system_are_not_followed(tmp_path, kind):
    yolo(tmp_path, "a")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    (tmp_path / "images" / "everything").symlink_to("/")
    (tmp_path / "everything").symlink_to("/")
    assert [path.name for path in subfolders(tmp_path)] == ["images", "labels"]
    if kind == "yolo":
        assert detect_dataset(tmp_path, kind, holdout=0).splits == {"train": ("images",)}
    else:
        with pytest.raises(DataError, match="no annotated images in a known format"):
            detect_dataset(tmp_path, kind)


@pytest.mark.parametrize("broken", ["nc: 3\n", "train: 5\n", "kpt_shape: [17]\n", "kpt_shape: [999999999999, 3]\n"])
def test_a_broken_data_yaml_is_an_error_and_not_passed_over(tmp_path, broken):
    yolo(tmp_path, "a", "train/images", "train/labels")
    text = "train: train/images\nval: train/images\nnames: [cat, dog]\n"
    (tmp_path / "data.yaml").write_text(text if "train" not in broken else text.replace("train: train/images\n", ""))
    with (tmp_path / "data.yaml").open("a") as file:
        file.write(broken)
    with pytest.raises(DataError, match=r"data\.yaml: "):
        detect_dataset(tmp_path)


@pytest.mark.parametrize(("name", "error"), [("data.yaml", DataError), ("mine.yaml", ConfigError)])
def test_a_data_yaml_that_is_no_yaml_is_a_data_error_also_if_it_is_named_itself(tmp_path, name, error):
    (tmp_path / name).write_text("names: [cat\n")
    with pytest.raises(error, match=rf"{name}:\d: not YAML"):
        open_dataset(str(tmp_path / name))


def test_an_image_list_without_images_is_reported(tmp_path, notes):
    for stem in ("a", "b"):
        voc(tmp_path, stem)
    lists(tmp_path, train="a -1\nb -1\n", val="a\nb\n")
    assert detect_dataset(tmp_path).splits == {"val": ("val",)}
    assert "the image list train names no image; it is not used" in notes()


def test_annotations_without_any_class_name_the_folder(tmp_path):
    voc(tmp_path, "a", name="")
    with pytest.raises(DataError, match=rf"{tmp_path}: no class: no annotation of its splits has the name of one"):
        detect_dataset(tmp_path)


@pytest.mark.parametrize("name", ["Annotations/b.xml", "b.json"])
def test_huge_files_are_not_read_to_recognise_a_format(tmp_path, name):
    voc(tmp_path, "a")
    with (tmp_path / name).open("wb") as file:
        file.truncate(3 << 30)  # sparse
    tracemalloc.start()
    assert find_voc(tmp_path).kind == "voc"
    assert find_coco(tmp_path) is None
    assert tracemalloc.get_traced_memory()[1] < 1 << 25
    tracemalloc.stop()


def test_folders_whose_name_is_no_text(tmp_path):
    root = tmp_path / os.fsdecode(b"caf\xe9\n")
    yolo(root, "a")
    (root / "classes.txt").write_text("cat\ndog\n")
    written = tmp_path / "set.yaml"
    write_text(written, to_yaml(detect_dataset(root), {}))
    assert read_annotations(load_dataset_config(str(written)), "train").labels.names == ("cat", "dog")


def test_the_label_files_that_detect_writes_are_read_back(tmp_path):
    image(tmp_path / "images" / "a.jpg")  # 40 x 20
    xyxy = np.array([[2, 3, 12, 13], [20, 1, 39, 19]], np.float32)
    detections = Detections(xyxy, np.array([0.9, 0.4], np.float32), np.array([1, 0]), ("cat", "dog"))
    source = tmp_path / "images" / "a.jpg"
    DetectionOutput([source], [detections], WordTree.flat(["cat", "dog"])).write_txt(
        {source: tmp_path / "labels" / "a.txt"}
    )
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    annotations = read_annotations(detect_dataset(tmp_path, holdout=0), "train")
    np.testing.assert_allclose(annotations.records[0].boxes.xyxy, xyxy, atol=1e-3)
    assert annotations.records[0].boxes.label.tolist() == [1, 0]
    assert [warning.message for warning in annotations.warnings] == ["2 lines have a score, which is not used"]


# --- images with labels


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("names", "kind", "splits"),
    [
        (["a/1.jpg", "b/1.jpg"], "folder", {"train": (".",)}),
        (["train/a/1.jpg", "val/a/1.jpg"], "folder", {"train": ("train",), "val": ("val",)}),
        (["a/1.jpg", "val/1.jpg"], "folder", {"train": (".",)}),  # a class that is called val
        (["x-1.tar", "x-0.tar"], "shards", {"train": ("x-0.tar", "x-1.tar")}),
        (["train-0.tar", "valid-0.tar"], "shards", {"train": ("train-0.tar",), "val": ("valid-0.tar",)}),
        (["train/0.tar", "test/0.tar"], "shards", {"train": ("train",), "test": ("test",)}),
        (["ILSVRC2012_img_train.tar", "train/a/1.jpg"], "folder", {"train": ("train",)}),  # unpacked already
    ],
)
def test_folders_with_image_level_labels(tmp_path, names, kind, splits):
    touch(tmp_path / "set", *names)
    config = open_image_dataset(str(tmp_path / "set"))
    assert (config.kind, config.splits, config.name) == (kind, splits, "set")


def test_open_image_dataset_by_name_and_by_path(zoo):
    assert open_image_dataset("example-shards").kind == "shards"
    assert open_image_dataset(str(zoo / "boxes.yaml")).has_boxes  # who reads it says what is wrong
    with pytest.raises(ConfigError, match=r"joint\.yaml: is a joint data set; use one of its sources"):
        open_image_dataset(str(zoo / "joint.yaml"))


@pytest.mark.parametrize(
    ("folders", "place"),
    [
        (("Annotations", "JPEGImages"), ""),
        (("annotations", "train2017"), ""),
        (("images/train", "labels/train"), ""),
        (("train/images", "train/labels"), "/train"),
    ],
)
def test_folders_with_boxes_are_not_class_folders(tmp_path, folders, place):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"{tmp_path}{place}: images with boxes, not class folders"):
        open_image_dataset(str(tmp_path))


def test_annotations_next_to_the_splits_are_allowed(tmp_path):
    for folder in ("annotations", "train/labels", "train/stamps"):
        (tmp_path / folder).mkdir(parents=True)
    assert open_image_dataset(str(tmp_path)).splits == {"train": ("train",)}


def test_the_root_of_the_file_system_is_no_data_set():
    for detect in (detect_dataset, image_folder):
        with pytest.raises(DataError, match=r"^/: is the root of the file system, not a data set"):
            detect(Path("/"))
