import json
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from yolo9k.config import DatasetConfig
from yolo9k.config.datasets import SplitSource
from yolo9k.datasets.autodetect import detect_dataset
from yolo9k.datasets.load import read_annotations
from yolo9k.datasets.readers import coco as reader
from yolo9k.datasets.readers.coco import CocoFile
from yolo9k.errors import DataError

CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]


def annotation(image_id=1, category_id=3, bbox=(10, 5, 20, 30), **more):
    return {"id": 9, "image_id": image_id, "category_id": category_id, "bbox": bbox and list(bbox), **more}


def write(root: Path, annotations, images=None, categories=CATEGORIES, name="annotations/instances_train.json"):
    images = images or [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}]
    (root / "train").mkdir(parents=True, exist_ok=True)
    for image in images:
        name_here = image["file_name"] if "/" not in image["file_name"] else "a.jpg"
        Image.new("RGB", (100, 50)).save(root / "train" / name_here)
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
    write(tmp_path, [annotation(), annotation(image_id=5), annotation(image_id="x")])
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
def test_a_bad_annotation_costs_one_object(tmp_path, bad, message):
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 50} for i in (1, 2)]
    write(tmp_path, [bad, annotation(), annotation(image_id=2)], images)
    annotations = read(tmp_path)
    assert [len(record.boxes) for record in annotations.records] == [1, 1]
    (issue,) = annotations.errors
    assert re.search(message, f"{issue.location}: {issue.message}")


@pytest.mark.parametrize(
    "segmentation",
    [
        [[10, 5, 30, 5, 30, 35, 10, 35]],
        [[10, 5, 30, 5, 30, 20], [10, 20, 30, 35, 10, 35]],
        {"size": [50, 100], "counts": [505, *[30, 20] * 19, 30, 3515]},
        {"size": [50, 100], "counts": "io0N2000000000000000000000000000000000000000fS4"},
    ],
)
@pytest.mark.parametrize("bbox", [None, []])
def test_an_outline_or_mask_gets_its_box(tmp_path, segmentation, bbox):
    write(tmp_path, [annotation(bbox=bbox, segmentation=segmentation)])
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        mask = np.zeros((50, 100), np.uint8, order="F")
        mask[5:35, 10:30] = 1
        segmentation["counts"] = coco_mask.encode(mask)["counts"].decode()
        write(tmp_path, [annotation(bbox=bbox, segmentation=segmentation)])
    annotations = read(tmp_path)
    assert annotations.errors == ()
    assert annotations.records[0].boxes.xyxy.tolist() == [[10, 5, 30, 35]]


@pytest.mark.parametrize("image_id", [1, 1.0, "1"])
@pytest.mark.parametrize("category_id", [3, 3.0, "3"])
def test_ids_are_what_they_mean(tmp_path, image_id, category_id):
    write(tmp_path, [annotation(image_id=image_id, category_id=category_id)])
    annotations = read(tmp_path)
    assert annotations.errors == ()
    assert annotations.records[0].boxes.label.tolist() == [0]


@pytest.mark.parametrize(
    ("value", "crowd"), [("no", False), ("1", True), (1.0, True), (True, True), (None, False), ("0", False)]
)
def test_flags_are_what_they_mean(tmp_path, value, crowd):
    write(tmp_path, [annotation(iscrowd=value)])
    assert read(tmp_path).records[0].boxes.ignore.tolist() == [crowd]


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (((3, "cat"), (3, "dog")), "category 2: the id 3 is already used by another category"),
        (((3, "cat"), (7, "cat")), "two categories are called 'cat'"),
    ],
)
def test_categories_that_occur_twice(tmp_path, categories, message):
    path = write(tmp_path, [annotation(), annotation(category_id=7)])
    content = json.loads(path.read_text())
    content["categories"] = [{"id": number, "name": name} for number, name in categories]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read(tmp_path, labels=())


def test_an_unused_category_with_the_name_of_another_is_left_out(tmp_path):
    path = write(tmp_path, [annotation(category_id=7)])
    path.write_text(path.read_text().replace('"cat"', '"dog"'))
    annotations = read(tmp_path, labels=())
    assert annotations.labels.names == ("dog",)
    assert annotations.records[0].boxes.label.tolist() == [0]


@pytest.mark.parametrize(
    "name",
    ["train\\a.jpg", "C:\\data\\train\\a.jpg", "/home/me/set/train/a.jpg", "../../upload/4/a.jpg", "./TRAIN/A.JPG",
     "https://host/data/train/a.jpg?x=1", "http://[", "images/1/1a2b3c4d-a.jpg"],
)  # fmt: skip
def test_file_names_of_other_machines(tmp_path, name):
    path = write(tmp_path, [annotation()])
    path.write_text(path.read_text().replace('"a.jpg"', json.dumps(name)))
    if name == "http://[":
        with pytest.raises(DataError, match=r"image 1: no such image: 'http://\['"):
            read(tmp_path)
        return
    annotations = read(tmp_path)
    assert annotations.records[0].path == tmp_path / "train" / "a.jpg"
    (warning,) = annotations.warnings
    assert warning.kind == "path from elsewhere"
    assert warning.message.startswith("1 of 1 paths were found below train/")


@pytest.mark.parametrize("source", ["", "lvis_v1_train.json"])
def test_lvis_names_its_images_by_url(tmp_path, source):
    images = [
        {"id": i, "coco_url": f"http://images.cocodataset.org/{folder}/{i:012}.jpg", "width": 100, "height": 50}
        for i, folder in enumerate(("train2017", "val2017"), 1)
    ]
    content = {"images": images, "annotations": [annotation(1), annotation(2)], "categories": CATEGORIES}
    for name in ("train2017/000000000001.jpg", "val2017/000000000002.jpg"):
        (tmp_path / name).parent.mkdir()
        Image.new("RGB", (100, 50)).save(tmp_path / name)
    (tmp_path / "lvis_v1_train.json").write_text(json.dumps(content))
    config = detect_dataset(tmp_path / source, holdout=0)
    annotations = read_annotations(config, "train")
    assert [record.path.parent.name for record in annotations.records] == ["train2017", "val2017"]
    assert (annotations.errors, annotations.warnings) == ((), ())


def test_an_ambiguous_file_name_is_an_error(tmp_path):
    write(tmp_path, [annotation()], [{"id": 1, "file_name": "/elsewhere/a.jpg", "width": 100, "height": 50}])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.jpg").write_bytes((tmp_path / "train" / "a.jpg").read_bytes())
    with pytest.raises(DataError, match=r"image 1: '/elsewhere/a.jpg' could be other/a.jpg or train/a.jpg below"):
        read(tmp_path)


def test_nothing_outside_the_root_is_read(tmp_path):
    root = tmp_path / "set"
    outside = tmp_path / "secret.jpg"
    write(root, [annotation()], [{"id": 1, "file_name": str(outside), "width": 100, "height": 50}])
    outside.write_bytes((root / "train" / "a.jpg").read_bytes())
    with pytest.raises(DataError, match=r"secret.jpg is outside the root and is not used"):
        read(root)
    write(root, [annotation()], [{"id": 1, "file_name": "../../secret.jpg", "width": 100, "height": 50}])
    with pytest.raises(DataError, match="no such image"):
        read(root)


def test_infinite_and_negative_sizes_are_errors(tmp_path):
    path = write(tmp_path, [annotation(bbox=(1, 2, -3, 4)), annotation(bbox=(1, 2, 3, 4))])
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


def as_text(*annotations: str) -> str:
    return f'{{"images": [],\n"annotations": [{", ".join(annotations)}],\n"categories": []}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (as_text('{"id" 1}'), "Expecting ':' delimiter: line 2 column 23 (char 37)"),
        (as_text('{"id": 1, "unread": [1,, 2]}'), "Expecting value: line 2 column 40 (char 54)"),
        (as_text('{"segmentation": [[1, 2, 03]]}'), "line 2 column"),
        (as_text('{"id": "a\tb"}'), "Invalid control character at: line 2"),
        (as_text('{"unread": "\\x"}'), "Invalid \\escape: line 2"),
        (as_text() + "]", "Extra data: line 3 column 18"),
        ("\ufeff\ufeff" + as_text(), "Unexpected UTF-8 BOM"),
        (as_text('{"id": ' + "1" * 5000 + "}"), "Exceeds the limit"),
        (as_text('{"unread": ' + "[" * 200_000 + "]" * 200_000 + "}"), "recursion"),
    ],
)
def test_an_error_of_json_names_its_place(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}: not JSON: .*{re.escape(message)}"):
        CocoFile.open(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["cat", "Käse", "猫", "\\ud800"])
@pytest.mark.parametrize("value", ["1", "NaN", "-Infinity", "1e400", "1" * 400, "[" * 20 + "]" * 20, '1, "id": 2'])
def test_everything_that_json_accepts_is_read(tmp_path, encoding, name, value):
    text = f'{{"images": [], "annotations": [{{"id": {value}, "note": "{name}"}}], '
    (tmp_path / "a.json").write_text(text + f'"categories": [{{"id": 1, "name": "{name}"}}]}}', encoding)
    file = CocoFile.open(tmp_path / "a.json")
    expected = json.loads(f'{{"id": {value}}}')["id"]
    assert repr(file.annotations[0]["id"]) == repr(expected)
    assert file.categories == {1: json.loads(f'"{name}"')}


ODD_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["3", "1.0", 10**30, -0.0]),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=3), values, max_size=2),
    max_leaves=6,
)
ODD_ENTRIES = st.dictionaries(
    st.sampled_from(["id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "file_name", "width"]),
    ODD_VALUES,
)


@given(st.lists(ODD_ENTRIES, max_size=3), st.lists(ODD_ENTRIES, max_size=3), st.booleans())
def test_a_file_says_the_same_as_with_json(tmp_path_factory, images, annotations, is_ascii):
    """Of annotations also the box that is read, or the error of one that is refused."""
    path = tmp_path_factory.mktemp("coco") / "a.json"
    content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cat"}]}
    path.write_bytes(json.dumps(content, ensure_ascii=is_ascii).encode("utf-8", "replace"))
    fast = CocoFile.open(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_DECODER", msgspec.json.Decoder(int))
        slow = CocoFile.open(path)
    keys = {"id", "file_name", "width"}
    shown = [
        [{key: entry[key] for key in sorted(entry.keys() & keys)} for entry in file.images] for file in (fast, slow)
    ]
    assert repr(shown[0]) == repr(shown[1])
    assert list(map(box_or_error, [fast] * len(annotations), fast.annotations)) == list(
        map(box_or_error, [slow] * len(annotations), slow.annotations)
    )


def box_or_error(file: CocoFile, entry):
    try:
        return repr(reader.read_box(entry, file, {3: 0}))
    except DataError as error:
        return str(error)


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
