"""A training from which nothing can be learnt says so before its first step."""

import json
import logging

import pytest

from yolo9k.config import load_classifier_config, load_config
from yolo9k.datasets.autodetect import open_dataset
from yolo9k.errors import DataError
from yolo9k.resolve import with_dataset
from yolo9k.training.tasks.classification import ClassificationTask
from yolo9k.training.tasks.detection import DetectionTask

TINY = "model={name: yolov2-tiny, width: 0.1, anchors: [[1, 1]]}", "data.size=64"


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING)
    return lambda: [record.getMessage() for record in caplog.records]


def detection(dataset):
    return DetectionTask(with_dataset(load_config(None, TINY), open_dataset(str(dataset))))


def write_coco(zoo, **crowds):
    """A COCO data set of the images of `boxes`, one box each; `crowds`: whether those of a split are crowds."""
    for split, crowd in crowds.items():
        images = [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(2)]
        boxes = [
            {"id": i + 1, "image_id": i, "category_id": 1, "bbox": [4, 4, 30, 30], "area": 900, "iscrowd": crowd}
            for i in range(2)
        ]
        content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "hound"}]}
        (zoo / f"{split}.json").write_text(json.dumps(content))
    splits = ", ".join(f"{split}: [{{annotations: {split}.json, images: boxes/{split}}}]" for split in crowds)
    (zoo / "coco.yaml").write_text(f"kind: coco\nroot: {zoo}\nsplits: {{{splits}}}\n")
    return zoo / "coco.yaml"


def test_only_ignored_boxes(zoo):
    message = r"no box in 2 training images but 2 that are ignored \(difficult, crowd, or of classes that the mapping"
    with pytest.raises(DataError, match=message):
        detection(write_coco(zoo, train=1, val=0))


def test_only_boxes_of_excluded_classes(zoo):
    for path in (zoo / "boxes").rglob("*.txt"):
        path.write_text("1 .3 .4 .4 .5\n")
    (zoo / "boxes.yaml").write_text(
        f"kind: yolo\nroot: {zoo / 'boxes'}\nsplits: {{train: [train]}}\n"
        f"labels: {{tree: {zoo / 'zoo.txt'}, classes: [hound, spoon], on_unknown: skip}}\n"
    )
    with pytest.raises(DataError, match="no box in 4 training images but 4 that are ignored"):
        detection(zoo / "boxes.yaml")


def test_only_ignored_boxes_to_validate(zoo, warnings):
    detection(write_coco(zoo, train=0, val=1))
    *_, warning = warnings()
    assert warning.startswith("no box in 2 validation images but 2 that are ignored")
    assert warning.endswith(": every score is 0, and best.pt is that of the first evaluation")


def test_a_source_without_boxes(zoo, warnings):
    detection(zoo / "joint.yaml")
    assert warnings() == []
    for path in (zoo / "boxes" / "val").glob("*.txt"):
        path.write_text("")
    (zoo / "joint.yaml").write_text(
        f"labels: {{tree: {zoo / 'zoo.txt'}}}\nsources:\n- {{dataset: boxes.yaml, use: boxes}}\n"
        "- {dataset: boxes.yaml, use: boxes, split: val}\n"
    )
    detection(zoo / "joint.yaml")
    expected = "no box in 2 images: nothing but background is learnt from this source"
    assert any(warning.endswith(expected) for warning in warnings())


@pytest.mark.parametrize("left", [1, 2])
def test_a_classifier_of_one_class(zoo, warnings, left):
    for path in list((zoo / "kinds").iterdir())[left:]:
        for image in path.iterdir():
            image.unlink()
    (kept, *_) = [path.name for path in (zoo / "kinds").iterdir() if any(path.iterdir())]
    (zoo / "kinds.yaml").write_text(
        f"kind: folder\nroot: {zoo}\nsplits: {{train: [kinds]}}\nlabels: {{tree: {zoo / 'zoo.txt'}}}\n"
    )
    settings = "model={name: tiny, width: 0.1}", "train.eval_every=0", f"data.dataset={zoo / 'kinds.yaml'}"
    ClassificationTask(load_classifier_config(None, settings))
    expected = [f"every training image has one class, {kept}: there is nothing to tell apart"] if left == 1 else []
    assert [warning for warning in warnings() if "tell apart" in warning] == expected
