import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo9k.config import DatasetConfig
from yolo9k.config.datasets import SplitSource
from yolo9k.datasets.load import read_annotations
from yolo9k.errors import DataError

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def annotation(image_id=1, category_id=3, bbox=(10, 5, 20, 30), **more):
    return {"id": 9, "image_id": image_id, "category_id": category_id, "bbox": list(bbox), **more}


def write(root: Path, annotations, images=None, categories=CATEGORIES, name="annotations/instances_train.json"):
    images = images or [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}]
    (root / "train").mkdir(exist_ok=True)
    for image in images:
        Image.new("RGB", (100, 50)).save(root / "train" / image["file_name"])
    path = root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def read(root: Path, entry="annotations/instances_train.json", labels=(), on_error="stop"):
    config = DatasetConfig(kind="coco", root=str(root), splits={"train": (entry,)}, labels=labels)
    return read_annotations(config, "train", on_error)


def test_boxes_labels_and_crowds(tmp_path):
    write(tmp_path, [annotation(), annotation(category_id=7, iscrowd=1)])
    annotations = read(tmp_path)
    (record,) = annotations.records
    np.testing.assert_array_equal(record.boxes.xyxy, [[10, 5, 30, 35], [10, 5, 30, 35]])
    assert record.boxes.label.tolist() == [0, 1]
    assert record.boxes.ignore.tolist() == [False, True]
    assert record.id == 1
    assert annotations.labels.names == ("cat", "dog")  # by category id
    assert annotations.category_ids == (3, 7)


def test_images_without_boxes_are_kept(tmp_path):
    write(tmp_path, [])
    assert len(read(tmp_path).records[0].boxes) == 0


def test_a_missing_size_is_read_from_the_image(tmp_path):
    write(tmp_path, [annotation()], images=[{"id": 1, "file_name": "a.jpg"}])
    assert read(tmp_path).records[0].size_wh == (100, 50)


def test_labels_select_categories_by_name(tmp_path):
    write(tmp_path, [annotation(category_id=7), annotation()])
    annotations = read(tmp_path, labels=("dog",))
    assert annotations.records[0].boxes.label.tolist() == [0]
    assert annotations.category_ids == (7,)
    assert [issue.kind for issue in annotations.errors] == ["unknown class"]


def test_categories_with_other_names_are_taken_in_order(tmp_path):
    write(tmp_path, [annotation(category_id=7)])
    annotations = read(tmp_path, labels=("cat", "hound"))
    assert annotations.records[0].boxes.label.tolist() == [1]


def test_names_that_contradict_the_order(tmp_path):
    write(tmp_path, [annotation()])
    with pytest.raises(DataError, match="category 'cat' is label 1 by name, but 0 by order"):
        read(tmp_path, labels=("hound", "cat"))


@pytest.mark.parametrize("folder", ["train", "images/train", "images", "annotations"])
def test_image_folder_is_guessed(tmp_path, folder):
    write(tmp_path, [annotation()])
    if folder != "train":
        (tmp_path / folder).parent.mkdir(exist_ok=True)
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / "train" / "a.jpg").rename(tmp_path / folder / "a.jpg")
    assert read(tmp_path).records[0].path == tmp_path / folder / "a.jpg"


def test_image_folder_in_the_config(tmp_path):
    write(tmp_path, [annotation()])
    (tmp_path / "train").rename(tmp_path / "photos")
    source = SplitSource(annotations="annotations/instances_train.json", images="photos")
    assert read(tmp_path, source).records[0].path == tmp_path / "photos" / "a.jpg"


def test_annotations_without_an_image_are_errors(tmp_path):
    write(tmp_path, [annotation(image_id=5), annotation(image_id="x")])
    assert [d.kind for d in read(tmp_path).errors] == ["unknown image", "unknown image"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (annotation(bbox=(1, 2, "abc", 4)), "annotation 9: width must be a number, not 'abc'"),
        (
            annotation(bbox=(1, 2, 3)),
            r"annotation 9: bbox must be \[left, top, width, height\], not \[1, 2, 3\]",
        ),
        (annotation(category_id="cat"), "annotation 9: category_id must be an integer, not 'cat'"),
    ],
)
def test_a_bad_annotation_stops_or_skips_its_image(tmp_path, bad, message):
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 50} for i in (1, 2)]
    write(tmp_path, [bad, annotation(image_id=2)], images)
    with pytest.raises(DataError, match=message):
        read(tmp_path)
    assert [record.id for record in read(tmp_path, on_error="skip").records] == [2]


def test_infinite_and_negative_sizes_are_errors(tmp_path):
    path = write(tmp_path, [annotation(bbox=(1, 2, -3, 4))])
    assert [d.kind for d in read(tmp_path).errors] == ["zero area"]
    path.write_text(path.read_text().replace("-3", "NaN"))
    assert [d.kind for d in read(tmp_path).errors] == ["not finite"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "instances_train.json: not JSON"),
        ("[]", "not a COCO annotation file: 'images' must be a list of objects"),
        ('{"images": [1]}', "'images' must be a list of objects"),
    ],
)
def test_not_a_coco_file(tmp_path, text, message):
    write(tmp_path, []).write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_two_images_with_one_id(tmp_path):
    image = {"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}
    write(tmp_path, [], [image, image])
    with pytest.raises(DataError, match="image 2: the id 1 is already used by another image"):
        read(tmp_path)


def test_coco_mini(shared):
    root = shared("data", "coco-mini")
    splits = {name: (f"annotations/instances_{name}2017.json",) for name in ("train", "val")}
    config = DatasetConfig(kind="coco", root=str(root), splits=splits)
    train, val = (read_annotations(config, split) for split in splits)
    assert (len(train.records), len(val.records)) == (131, 143)
    assert sum(len(r.boxes) for r in train.records) == 1206
    assert sum(len(r.boxes) for r in val.records) == 1331
    assert sum(int(r.boxes.ignore.sum()) for a in (train, val) for r in a.records) == 30
    assert [r.id for r in val.records if not len(r.boxes)] == [58636, 226111]
    assert (len(train.labels), train.category_ids[0], train.category_ids[-1]) == (80, 1, 90)
    assert train.errors == val.errors == ()
