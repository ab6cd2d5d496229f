from pathlib import Path

import pytest
from PIL import Image

from yolo9k.config import DatasetConfig, dataset_names, load_dataset_config
from yolo9k.config.datasets import TreeLabels
from yolo9k.datasets.load import (
    dataset_root,
    find_label_file,
    is_held_out,
    is_same_file,
    portable_path,
    read_annotations,
    read_images,
    split_names,
)
from yolo9k.datasets.readers.records import DatasetClass
from yolo9k.errors import ConfigError, DataError


def flat(root: Path, count: int) -> DatasetConfig:
    (root / "images").mkdir(exist_ok=True)
    for i in range(count):
        Image.new("RGB", (8, 8)).save(root / "images" / f"{i}.png")
    splits = {"train": ("images",)}
    return DatasetConfig(kind="yolo", root=str(root), splits=splits, labels=("cat",), holdout=0.3)


def ids(config: DatasetConfig, split: str) -> set:
    return {record.id for record in read_annotations(config, split).records}


def test_holdout_splits_train_and_new_images_move_no_others(tmp_path):
    config = flat(tmp_path, 20)
    train, val = ids(config, "train"), ids(config, "val")
    assert not train & val
    assert len(train | val) == 20
    assert split_names(config) == ("train", "val")
    flat(tmp_path, 40)
    assert train <= ids(config, "train")
    assert val <= ids(config, "val")


def test_holdout_is_about_the_requested_fraction():
    assert 180 < sum(is_held_out(f"{i}.jpg", 0.2) for i in range(1000)) < 220


def test_holdout_that_leaves_nothing(tmp_path):
    config = flat(tmp_path, 1).model_copy(update={"holdout": 1e-9})
    with pytest.raises(DataError, match="too few images for holdout 1e-09"):
        read_annotations(config, "val")


def test_unknown_split(tmp_path):
    config = flat(tmp_path, 1).model_copy(update={"holdout": 0.0})
    with pytest.raises(ConfigError, match=r"no split 'val'; it has train; `holdout: 0.2`"):
        read_annotations(config, "val")


def test_a_missing_root_has_a_hint(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO9K_DATA", str(tmp_path))
    config = load_dataset_config("voc")
    with pytest.raises(DataError, match=r"VOCdevkit: no such folder .*\$YOLO9K_DATA.*yolo9k data download voc"):
        dataset_root(config)


def test_a_root_is_relative_to_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO9K_DATA", str(tmp_path))
    (tmp_path / "cells").mkdir()
    config = DatasetConfig(kind="voc", root="cells", splits={"train": ("train",)})
    assert dataset_root(config) == tmp_path / "cells"


@pytest.mark.parametrize("name", ["voc", "coco", "example-voc", "example-coco", "example-yolo"])
def test_shipped_configs_load(name):
    assert name in dataset_names()
    assert load_dataset_config(name).labels


def test_shipped_labels():
    voc, coco = load_dataset_config("voc").labels, load_dataset_config("coco").labels
    assert (len(voc), voc[0], voc[-1]) == (20, "aeroplane", "tvmonitor")
    assert (len(coco), coco[0], coco[-1]) == (80, "person", "toothbrush")


def test_shipped_coco_labels_are_the_categories_in_order(shared):
    root = shared("data", "coco-mini")
    coco = load_dataset_config("coco").model_copy(update={"root": str(root)})
    unnamed = coco.model_copy(update={"labels": ()})
    assert read_annotations(unnamed, "val").labels.names == coco.labels
    assert read_annotations(coco, "val").errors == ()


# --- labels over a tree


def test_the_classes_of_a_flat_data_set_are_its_labels(tmp_path):
    read = read_annotations(flat(tmp_path, 20), "train")
    assert read.classes == (DatasetClass("cat", 0),)


@pytest.mark.parametrize("form", ["coco", "yolo", "voc"])
def test_every_kind_with_boxes_maps_to_a_tree(zoo, form, shared):
    root = {"coco": "coco-mini", "voc": "bccd"}.get(form)
    if form == "coco":
        splits, classes = {"val": ("annotations/instances_val2017.json",)}, ()
    elif form == "voc":
        splits, classes = {"val": ("val",)}, ()
    else:
        splits, classes = {"val": ("val",)}, ("hound", "car")
    config = DatasetConfig(
        kind=form, root=str(shared("data", root) if root else zoo / "boxes"), splits=splits, labels=classes
    )
    plain = read_annotations(config, "val")
    tree = zoo / "all.txt"
    tree.write_text("thing\n" + "".join(f"  {name} [id of {name}] ({name} here)\n" for name in plain.labels.names))
    over = read_annotations(config.model_copy(update={"labels": TreeLabels(tree=str(tree), classes=classes)}), "val")
    assert [own.name for own in over.classes] == list(plain.labels.names)
    assert [over.labels.names[own.node] for own in over.classes] == list(plain.labels.names)
    for record, same in zip(over.records, plain.records, strict=True):
        assert record.path == same.path
        assert [over.labels.names[n] for n in record.boxes.label] == [plain.labels.names[n] for n in same.boxes.label]
        assert (record.boxes.ignore == same.boxes.ignore).all()
    if form == "coco":  # COCO's own numbers are not unmapped
        assert [own.category_id for own in over.classes] == list(plain.category_ids)
        assert over.category_ids is None


def test_label_files_are_found_here_and_in_the_data_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("YOLO9K_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "a.tree").write_text("x -1\n")
    assert find_label_file("a.tree") == tmp_path / "data" / "a.tree"
    assert portable_path("a.tree") == "a.tree"  # found from any folder
    assert not is_same_file("a.tree", __file__)
    assert is_same_file("a.tree", str(tmp_path / "data" / "a.tree"))
    (tmp_path / "here" / "a.tree").write_text("y -1\n")
    assert find_label_file("a.tree") == Path("a.tree")
    assert portable_path("a.tree") == str((tmp_path / "here" / "a.tree").resolve())
    assert portable_path("") == ""
    with pytest.raises(
        DataError, match=r"^b\.tree: no such file in the current folder or in \$YOLO9K_DATA \(now .*data\)$"
    ):
        find_label_file("b.tree")


# --- image folders


def images(zoo, **changes) -> DatasetConfig:
    config = DatasetConfig(kind="folder", root=str(zoo), splits={"train": ("kinds",)}, name="kinds")
    return config.model_copy(update=changes)


def test_classes_from_folder_names_a_list_and_a_tree(zoo):
    read = read_images(images(zoo), "train")
    assert read.labels.names == ("car", "poodle", "terrier")
    assert [read.records[i].image_label for i in range(6)] == [0, 1, 1, 1, 2, 2]
    listed = read_images(images(zoo, labels=("terrier", "wolf", "car")), "train")
    assert [listed.records[i].image_label for i in range(3)] == [2, 0, 0]
    assert [d.kind for d in listed.errors] == ["unknown class"]
    over = read_images(images(zoo, labels=TreeLabels(tree=str(zoo / "zoo.txt"))), "train")
    assert [over.labels.names[over.records[i].image_label] for i in (0, 1, 4)] == ["car", "poodle", "terrier"]
    assert [own.name for own in over.classes] == ["car", "poodle", "terrier"]


def test_a_fraction_of_an_image_folder_is_held_out(tmp_path):
    for number in range(40):
        (tmp_path / "kinds" / f"c{number % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "kinds" / f"c{number % 3}" / f"{number}.jpg").touch()
    config = images(tmp_path, holdout=0.3)
    parts = [
        {read.records[i].source for i in range(len(read.records))}
        for read in (read_images(config, split) for split in ("train", "val"))
    ]
    assert not parts[0] & parts[1]
    assert len(parts[0] | parts[1]) == 40
    assert len(parts[1]) == sum(is_held_out(f"kinds/c{n % 3}/{n}.jpg", 0.3) for n in range(40)) > 3


def test_each_kind_has_its_own_reader(zoo):
    with pytest.raises(ConfigError, match=r"data set kinds: its images have no boxes; .*use: images"):
        read_annotations(images(zoo), "train")
    with pytest.raises(ConfigError, match=r"data set boxes: image-level labels need kind folder or shards, not yolo"):
        read_images(load_dataset_config(zoo / "boxes.yaml"), "train")
    with pytest.raises(ConfigError, match=r"data set kinds: no split 'val'; it has train"):
        read_images(images(zoo), "val")
    (zoo / "none" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="no labelled image in split 'train'"):
        read_images(images(zoo, splits={"train": ("none",)}), "train")
