from pathlib import Path

import pytest
from PIL import Image

from yolo9k.config import DatasetConfig, dataset_names, load_dataset_config
from yolo9k.datasets.read import dataset_root, is_held_out, read_annotations, split_names
from yolo9k.errors import ConfigError, DataError


def flat(root: Path, count: int) -> DatasetConfig:
    (root / "pictures").mkdir(exist_ok=True)
    for i in range(count):
        Image.new("RGB", (8, 8)).save(root / "pictures" / f"{i}.png")
    splits = {"train": ("pictures",)}
    return DatasetConfig(kind="yolo", root=str(root), splits=splits, labels=("cat",), holdout=0.3)


def ids(config: DatasetConfig, split: str) -> set:
    return {record.id for record in read_annotations(config, split).records}


def test_holdout_divides_train_and_adding_moves_nothing(tmp_path):
    config = flat(tmp_path, 20)
    train, val = ids(config, "train"), ids(config, "val")
    assert not train & val
    assert len(train | val) == 20
    assert split_names(config) == ("train", "val")
    flat(tmp_path, 40)
    assert train <= ids(config, "train")
    assert val <= ids(config, "val")


def test_holdout_is_about_the_share_asked_for():
    assert 180 < sum(is_held_out(f"{i}.jpg", 0.2) for i in range(1000)) < 220


def test_holdout_that_leaves_nothing(tmp_path):
    config = flat(tmp_path, 1).model_copy(update={"holdout": 1e-9})
    with pytest.raises(DataError, match="so few pictures that holdout 1e-09 leaves none"):
        read_annotations(config, "val")


def test_unknown_split(tmp_path):
    config = flat(tmp_path, 1).model_copy(update={"holdout": 0.0})
    with pytest.raises(ConfigError, match=r"no split 'val'; it has train; `holdout: 0.2`"):
        read_annotations(config, "val")


def test_missing_root_says_where_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO9K_DATA", str(tmp_path))
    config = load_dataset_config("voc")
    with pytest.raises(DataError, match=r"VOCdevkit: no such folder .*\$YOLO9K_DATA.*yolo9k data download voc"):
        dataset_root(config)


def test_a_relative_root_begins_at_the_data_folder(tmp_path, monkeypatch):
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
    assert read_annotations(coco, "val").defects == ()
