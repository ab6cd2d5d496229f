import json
from dataclasses import replace

import pytest
from PIL import Image

from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import read_annotations
from yolo9k.datasets.readers.records import Annotations, Record
from yolo9k.evaluation.coco import choose_category_ids, choose_image_ids, make_ground_truth, read_ground_truth
from yolo9k.metrics import coco_statistics
from yolo9k.samples import BoxLabels
from yolo9k.wordtree import WordTree


def test_ids_are_cocos_own_or_counted(annotations):
    records = annotations.records
    assert choose_image_ids(records) == [1, 2]
    assert choose_image_ids([replace(records[0], id=42), replace(records[1], id=7)]) == [42, 7]
    assert choose_image_ids([replace(record, id=42) for record in records]) == [1, 2]
    assert list(choose_category_ids(annotations.labels, None)) == [1, 2, 3]
    assert choose_category_ids(annotations.labels, (4, 5, 90)) == (4, 5, 90)


def test_ground_truth_of_records(annotations):
    ground_truth = make_ground_truth(annotations.records, annotations.labels, range(1, 4))
    assert [entry["iscrowd"] for entry in ground_truth["annotations"]] == [0, 0, 0, 1]
    assert ground_truth["annotations"][1]["bbox"] == [40, 20, 30, 30]
    assert [category["name"] for category in ground_truth["categories"]] == ["cat", "dog", "eel"]


@pytest.fixture
def content():
    return {
        "images": [{"id": 3}, {"id": 4}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "cow"}],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 1, "bbox": [0, 0, 4, 5], "area": 11.5, "iscrowd": 1},
            {"id": 2, "image_id": 3, "category_id": 1, "bbox": [0, 0, 4, 5]},
            {"id": 3, "image_id": 3, "category_id": 2, "bbox": [0, 0, 4, 5]},
            {"id": 4, "image_id": 4, "category_id": 1, "bbox": [0, 0, 4, 5]},
        ],
    }


def test_the_annotation_file_keeps_its_areas(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    config = DatasetConfig(kind="coco", root=str(tmp_path), splits={"val": ("a.json",), "both": ("a.json", "b")})
    record = Record(tmp_path / "3.jpg", (9, 9), BoxLabels.of([], []), 3)
    read = Annotations((record,), WordTree.flat(["cat"]), category_ids=(1,))
    ground_truth = read_ground_truth(config, "val", read)
    assert ground_truth["images"] == [{"id": 3}]
    assert ground_truth["categories"] == [{"id": 1, "name": "cat"}]
    assert [(entry["id"], entry["area"], entry["iscrowd"]) for entry in ground_truth["annotations"]] == [
        (1, 11.5, 1),
        (2, 20, 0),
    ]
    assert read_ground_truth(config, "both", read) is None
    held_out = DatasetConfig(kind="coco", root=str(tmp_path), splits={"train": ("a.json",)}, holdout=0.5)
    assert read_ground_truth(held_out, "val", read) == ground_truth
    assert read_ground_truth(config.model_copy(update={"kind": "voc"}), "val", read) is None
    assert read_ground_truth(config, "val", replace(read, category_ids=None)) is None  # over a tree


ODD = [
    {"bbox": ["1", "2", "3", "4"], "category_id": "1", "image_id": "3", "iscrowd": "0", "area": None},
    {"bbox": [1, 2, 3, 4], "category_id": 1.0, "image_id": 3.0, "iscrowd": True, "area": "11.5"},
    {"bbox": [], "segmentation": [[1, 2, 4, 2, 4, 6]], "category_id": 1, "image_id": 3, "area": [1]},
]
REFUSED = [
    {}, {"bbox": [1, 2, 3]}, {"bbox": "1234"}, {"bbox": [1, 2, 3, None]}, {"bbox": [1, 2, float("nan"), 4]},
    {"bbox": [1, 2, 10**400, 4]}, {"bbox": [1, 2, 3, 4], "iscrowd": [1]}, {"bbox": [1, 2, 3, 4], "category_id": [1]},
    {"bbox": [1, 2, 3, 4], "category_id": 9}, {"bbox": [1, 2, 3, 4], "image_id": {}},
    {"bbox": {}, "segmentation": {"size": 3}}, {"bbox": [1, 2, 3, 4], "image_id": None, "id": [7]},
]  # fmt: skip


def test_odd_annotations_are_read_as_the_reader_reads_them(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "3.png")
    content = {
        "images": [{"id": "3", "file_name": "3.png", "width": "9", "height": 9.0}],
        "categories": [{"id": "1", "name": "cat"}],
        "annotations": [*ODD, *({"category_id": 1, "image_id": 3, **entry} for entry in REFUSED)],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    config = DatasetConfig(kind="coco", root=str(tmp_path), splits={"val": ("a.json",)})
    read = read_annotations(config, "val", "skip")
    ground_truth = read_ground_truth(config, "val", read)
    assert len(ground_truth["annotations"]) == len(read.records[0].boxes) == len(ODD)
    assert [(box["bbox"], box["area"], box["iscrowd"]) for box in ground_truth["annotations"]] == [
        ([1, 2, 3, 4], 12, 0),
        ([1, 2, 3, 4], 11.5, 1),
        ([1, 2, 3, 4], 12, 0),
    ]
    assert coco_statistics(ground_truth, [])["AP"] == 0


@pytest.mark.parametrize("image", [{"id": "three"}, {"id": 3, "width": 18, "height": 18}])
def test_the_file_is_not_used_if_its_ids_or_sizes_are_not_those_of_the_records(tmp_path, content, image):
    content["images"] = [image]
    (tmp_path / "a.json").write_text(json.dumps(content))
    config = DatasetConfig(kind="coco", root=str(tmp_path), splits={"val": ("a.json",)})
    record = Record(tmp_path / "3.jpg", (9, 9), BoxLabels.of([], []), image["id"])
    assert read_ground_truth(config, "val", Annotations((record,), WordTree.flat(["cat"]), category_ids=(1,))) is None
