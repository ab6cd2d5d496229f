import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from yolo9k.boxes import iou
from yolo9k.config import DatasetConfig
from yolo9k.datasets.readers.records import Record
from yolo9k.datasets.tools.check import LengthStats, _near_pairs, check_dataset, count_by_kind, find_duplicate_boxes
from yolo9k.samples import BoxLabels


def image(path: Path, seed: int, size_wh=(40, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size_wh[1], size_wh[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def labels(path: Path, *lines: str) -> None:
    path.with_suffix(".txt").write_text("\n".join(lines))


@pytest.fixture
def data(tmp_path) -> DatasetConfig:
    for i, name in enumerate(("train/a", "train/b", "val/c")):
        image(tmp_path / f"{name}.png", i)
        labels(tmp_path / f"{name}.png", "0 .5 .5 .5 .5")
    splits = {"train": ("train",), "val": ("val",)}
    return DatasetConfig(kind="yolo", root=str(tmp_path), splits=splits, labels=("cat", "dog"))


def kinds(config: DatasetConfig) -> dict[str, int]:
    return count_by_kind(check_dataset(config).errors)


def test_boxes_of_an_excluded_class_are_not_counted(data, tmp_path):
    labels(tmp_path / "train/a.png", "0 .5 .5 .5 .5", "1 .5 .5 .2 .2")
    (tmp_path / "tree.txt").write_text("animal\n  dog\n  cat\nvehicle\n")
    over_tree = {"tree": str(tmp_path / "tree.txt"), "classes": ["cat", "sign"], "names": {"sign": ""}}
    train, _ = check_dataset(DatasetConfig.model_validate(data.model_dump() | {"labels": over_tree})).splits
    assert [(c.name, c.boxes) for c in train.classes if c.boxes] == [("cat", 2)]
    assert (train.boxes, train.ignored) == (3, 1)


@pytest.mark.parametrize("kind", ["no label file", "empty label file"])
def test_training_images_without_any_box_are_an_error(data, tmp_path, kind):
    for name in ("train/a.txt", "train/b.txt"):
        (tmp_path / name).unlink()
        if kind == "empty label file":
            (tmp_path / name).touch()
    expected = {"no label file": 1, "no box": 1} if kind == "no label file" else {"no box": 1}
    assert kinds(data) == expected


def test_a_valid_data_set(data):
    report = check_dataset(data)
    assert report.errors == report.warnings == ()
    train, val = report.splits
    assert (train.images, train.boxes, val.images) == (2, 2, 1)
    assert [(c.name, c.images, c.boxes) for c in train.classes] == [("cat", 2, 2), ("dog", 0, 0)]
    assert train.image_width == LengthStats(40, 40, 40)
    assert train.box_height == LengthStats(10, 10, 10)
    assert (train.small, train.medium, train.large) == (2, 0, 0)


def test_only_one_split(data):
    assert [split.name for split in check_dataset(data, ["val"]).splits] == ["val"]


def test_a_split_without_boxes(data, tmp_path):
    labels(tmp_path / "val" / "c.png")
    val = check_dataset(data).splits[1]
    assert (val.boxes, val.images_without_boxes, val.box_width) == (0, 1, None)


def test_duplicate_images(data, tmp_path):
    shutil.copy(tmp_path / "train" / "a.png", tmp_path / "train" / "a2.png")
    shutil.copy(tmp_path / "train" / "b.png", tmp_path / "val" / "b.png")
    assert kinds(data) == {"duplicate image": 1, "image in two splits": 1}


def test_one_split_under_two_names_is_no_duplicate(data):
    both = data.model_copy(update={"splits": data.splits | {"test": data.splits["val"]}})
    assert kinds(both) == {}


def test_a_truncated_image(data, tmp_path):
    path = tmp_path / "train" / "a.png"
    path.write_bytes(path.read_bytes()[:-200])
    assert kinds(data) == {"unreadable image": 1}


def test_a_size_that_differs_from_the_annotation(tmp_path):
    box = "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    for name, size_wh in (("a", (20, 40)), ("b", (40, 20))):
        image(tmp_path / f"{name}.png", 0, size_wh)
        size = "<size><width>40</width><height>20</height></size>"
        (tmp_path / f"{name}.xml").write_text(f"<annotation>{size}{box}</annotation>")
    config = DatasetConfig(kind="voc", root=str(tmp_path), splits={"train": ("all",)}, labels=("cat",))
    (issue,) = check_dataset(config).errors
    assert issue.kind == "wrong size"
    assert issue.message == "is 20x40, but annotated as 40x20"


def test_bad_boxes_bad_files_and_duplicates(data, tmp_path):
    labels(tmp_path / "train" / "a.png", "0 .5 .5 .5 .5", "0 .5 .5 .5 .5", "3 .5 .5 .1 .1", "0 .5 .5 0 .1")
    labels(tmp_path / "train" / "b.png", "0 .5 .5 x .5")
    assert kinds(data) == {
        "unknown class": 1,
        "zero area": 1,
        "unreadable annotation": 1,
        "duplicate box": 1,
    }


def test_nearly_equal_boxes_are_a_warning():
    boxes = BoxLabels.of([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10], [0, 0, 10, 10]], [0, 0, 1, 0], [0, 0, 0, 1])
    (issue,) = find_duplicate_boxes(Record(Path("a.jpg"), (20, 20), boxes, "a"), ("cat", "dog"))
    assert issue.kind == "near-duplicate box"
    assert issue.message == "cat [0.0, 0.0, 10.0, 10.0] and [0.0, 0.0, 10.0, 9.0], IoU 0.90"


def all_pairs(boxes: BoxLabels) -> list[tuple[int, int]]:
    """The reference: every pair compared."""
    overlap = np.triu(iou(boxes.xyxy[:, None], boxes.xyxy[None]), k=1)
    same_label = boxes.label[:, None] == boxes.label[None]
    return [(i, j) for i, j in np.argwhere((overlap > 0.8) & same_label).tolist()]


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(1, 40), st.integers(1, 3))
def test_near_duplicates_are_those_of_all_pairs(seed, count, spread, labels):
    rng = np.random.default_rng(seed)
    xy = rng.integers(0, spread, (count, 2)) * rng.choice([1, 0.25])
    xyxy = np.concatenate([xy, xy + rng.integers(1, 60, (count, 2))], axis=1)
    boxes = BoxLabels.of(xyxy, rng.integers(0, labels, count))
    assert sorted((i, j) for i, j, _ in _near_pairs(boxes)) == all_pairs(boxes)


@pytest.mark.parametrize("spread", [0, 1000])
def test_an_image_of_20_000_boxes_is_checked_within_bounds(spread):
    xy = np.random.default_rng(0).uniform(0, spread, (20_000, 2))
    record = Record(Path("a.jpg"), (1100, 1100), BoxLabels.of(np.hstack([xy, xy + 30]), np.zeros(20_000)), "a")
    tracemalloc.start()
    issues = list(find_duplicate_boxes(record, ("cat",)))
    assert tracemalloc.get_traced_memory()[1] < 400e6
    tracemalloc.stop()
    assert len(issues) == 1001
    different = 1 if spread == 0 else 20_000
    assert issues[-1].message == f"more than 1,000 such pairs; {different:,} of 20,000 boxes are different"


def warnings(config: DatasetConfig) -> dict[str, str]:
    return {issue.kind: issue.message for issue in check_dataset(config).warnings}


def test_images_without_a_label_file_are_a_warning(data, tmp_path):
    for i, name in enumerate("defghij"):
        image(tmp_path / "train" / f"{name}.png", 10 + i)
    labels(tmp_path / "train" / "e.png")  # an empty one: labelled, without objects
    message = "6 images (d.png, f.png, g.png, h.png, i.png, …) without a label file count as images without objects"
    assert warnings(data) == {"no label file": message}
    assert kinds(data) == {}


def voc(root: Path, *stems: str) -> None:
    for i, stem in enumerate(stems):
        image(root / "JPEGImages" / f"{stem}.png", i)
        (root / "Annotations").mkdir(exist_ok=True)
        size = "<size><width>40</width><height>20</height></size>"
        (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{size}</annotation>")


def test_images_without_an_annotation_are_a_warning_unless_a_list_excludes_them(tmp_path):
    voc(tmp_path, "a", "b")
    image(tmp_path / "JPEGImages" / "left.png", 5)
    everything = DatasetConfig(kind="voc", root=str(tmp_path), splits={"train": ("all",)}, labels=("cat",))
    assert warnings(everything) == {"not annotated": "1 images (left.png) without an annotation are skipped"}
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\nb\n")
    assert warnings(everything.model_copy(update={"splits": {"train": ("train",)}})) == {}


def test_an_image_with_a_bad_or_renamed_annotation_is_no_warning(tmp_path):
    voc(tmp_path, "a", "b")
    (tmp_path / "Annotations" / "a.xml").write_text("broken")
    (tmp_path / "JPEGImages" / "b.png").rename(tmp_path / "JPEGImages" / "other.png")
    xml = tmp_path / "Annotations" / "b.xml"
    xml.write_text(xml.read_text().replace("<annotation>", "<annotation><filename>other.png</filename>"))
    everything = DatasetConfig(kind="voc", root=str(tmp_path), splits={"train": ("all",)}, labels=("cat",))
    assert warnings(everything) == {"single image": warnings(everything)["single image"]}
    assert kinds(everything) == {"unreadable annotation": 1, "no box": 1}


def test_unreadable_images_are_not_duplicates(tmp_path):
    voc(tmp_path, "a", "b", "c")
    for name in ("a", "b"):
        (tmp_path / "JPEGImages" / f"{name}.png").write_text("this is text")
    everything = DatasetConfig(kind="voc", root=str(tmp_path), splits={"train": ("all",)}, labels=("cat",))
    assert kinds(everything) == {"unreadable image": 2, "no box": 1}


def test_val_equal_to_train_is_a_warning(data):
    same = data.model_copy(update={"splits": {"train": ("train",), "val": ("train",), "test": ("train",)}})
    same_images = [issue for issue in check_dataset(same).warnings if issue.kind == "same images"]
    assert sorted(issue.message.split()[0] for issue in same_images) == ["test", "val"]
    assert "has the same images as train" in same_images[0].message
    assert warnings(data.model_copy(update={"splits": {**data.splits, "test": ("val",)}})) == {}


def test_a_single_image_is_a_warning(data):
    one = data.model_copy(update={"splits": {"val": ("val",)}})
    assert warnings(one) == {"single image": "there is only one image: a detector will memorise it"}


def test_report_as_json_values(data):
    report = check_dataset(data).to_dict()
    assert report["labels"] == ("cat", "dog")
    assert report["splits"][0]["classes"][0] == {"name": "cat", "images": 2, "boxes": 2, "ignored": 0}
    assert report["error_counts"] == {}
    assert "annotations" not in report


def test_known_errors_of_the_reference_data(shared):
    splits = {name: (name,) for name in ("train", "val", "test")}
    cells, cards = (
        check_dataset(DatasetConfig(kind="voc", root=str(shared("data", name)), splits=splits))
        for name in ("bccd", "cards")
    )
    assert count_by_kind(cells.errors) == {"zero area": 2}
    assert count_by_kind(cells.warnings) == {"near-duplicate box": 8}
    assert cards.errors == cards.warnings == ()
