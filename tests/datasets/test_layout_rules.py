"""The rules of docs/datasets.md: nothing is lost silently, whatever the format."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from layouts import CLASSES, LAYOUTS, Box, Export, Item, coco_content, image_bytes, read_back, voc_xml

from yolo9k.config import DatasetConfig
from yolo9k.datasets.autodetect import detect_dataset
from yolo9k.datasets.load import read_annotations
from yolo9k.datasets.loader.dataset import FailedSample, TrainingDataset
from yolo9k.datasets.loader.sampler import SampleRequest
from yolo9k.errors import ConfigError, DataError
from yolo9k.samples import Sample

SIZE_WH = (48, 32)
BOXES: tuple[Box, ...] = (("nut", (6.0, 6.0, 26.0, 20.0)), ("bolt", (30.0, 10.0, 44.0, 30.0)))
OTHER: tuple[Box, ...] = (("шайба", (2.0, 2.0, 12.0, 9.0)),)


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Two images, not yet written, of which the first has two objects."""
    return Export(tmp_path / "set", [Item("train", "a.png", SIZE_WH, BOXES), Item("train", "b.png", SIZE_WH, OTHER)])


def write_yolo(export: Export) -> None:
    for item in export.items:
        export.image(item, f"images/{item.name}")
        export.yolo(item, f"labels/{item.stem}.txt")
    export.lines("classes.txt", CLASSES)


def write_voc(export: Export) -> None:
    for item in export.items:
        export.image(item, f"JPEGImages/{item.name}")
        export.voc(item, f"Annotations/{item.stem}.xml", base=1)


def write_coco(export: Export, **style: object) -> None:
    for item in export.items:
        export.image(item, f"images/{item.name}")
    export.coco("annotations.json", export.items, **style)


def change(path: Path, old: str, new: str, count: int = 1) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8")


def change_json(path: Path, edit: Callable[[dict], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def detected(export: Export) -> DatasetConfig:
    return detect_dataset(export.root, holdout=0)


def boxes_by_image(config: DatasetConfig, split: str = "train") -> dict[str, list[Box]]:
    """Return the boxes of each image, by file name, and ignore issues."""
    annotations = read_annotations(config, split)
    names = annotations.labels.names
    return {
        record.path.name: sorted(
            (names[label], tuple(round(side, 1) for side in xyxy))
            for label, xyxy in zip(record.boxes.label.tolist(), record.boxes.xyxy.tolist(), strict=True)
        )
        for record in annotations.records
    }


def warnings_of(config: DatasetConfig) -> str:
    return "\n".join(warning.message for warning in read_annotations(config, "train").warnings)


# --- one bad object costs one object


def spoil_yolo(root: Path) -> str:
    change(root / "labels" / "a.txt", "0 ", "0 x")
    return "a.txt:1"


def spoil_voc(root: Path) -> str:
    change(root / "Annotations" / "a.xml", "<xmin>7.0</xmin>", "")
    return "a.xml"


def spoil_coco(root: Path) -> str:
    change_json(root / "annotations.json", lambda content: content["annotations"][0].update(bbox=[]))
    return "annotations.json"


@pytest.mark.parametrize(
    ("write", "spoil"), [(write_yolo, spoil_yolo), (write_voc, spoil_voc), (write_coco, spoil_coco)]
)
def test_one_bad_object_costs_one_object(export, write, spoil):
    write(export)
    place = spoil(export.root)
    config = detected(export)
    assert boxes_by_image(config) == {"a.png": [BOXES[1]], "b.png": list(OTHER)}
    (error,) = read_annotations(config, "train").errors
    assert place in error.location


@pytest.mark.parametrize("text", ["Unspecified", "", "False", "no", "0.0"])
def test_voc_flags_mean_what_they_say(export, text):
    write_voc(export)
    change(export.root / "Annotations" / "a.xml", "<difficult>0", f"<difficult>{text}", count=2)
    assert read_back(detected(export), export.root) == export.expected
    assert not any(record.boxes.ignore.any() for record in read_annotations(detected(export), "train").records)


# --- ids and flags in other types


@pytest.mark.parametrize("write", [float, str])
def test_coco_ids_may_be_text_or_decimals(export, write):
    write_coco(export)

    def retype(content):
        for entry in content["images"] + content["annotations"] + content["categories"]:
            entry |= {key: write(entry[key]) for key in ("id", "image_id", "category_id", "iscrowd") if key in entry}

    change_json(export.root / "annotations.json", retype)
    assert read_back(detected(export), export.root) == export.expected
    assert not any(record.boxes.ignore.any() for record in read_annotations(detected(export), "train").records)


@pytest.mark.parametrize("crowd", [True, 1.0, "1", "true"])
def test_coco_crowds_are_crowds(export, crowd):
    write_coco(export)
    change_json(export.root / "annotations.json", lambda content: content["annotations"][0].update(iscrowd=crowd))
    ignored = [record.boxes.ignore.sum() for record in read_annotations(detected(export), "train").records]
    assert ignored == [1, 0]


# --- outlines get their box


def outline(box: Box) -> list[float]:
    x1, y1, x2, y2 = box[1]
    return [x1, (y1 + y2) / 2, (x1 + x2) / 2, y1, x2, (y1 + y2) / 2, (x1 + x2) / 2, y2]  # a rhombus


def run_lengths(box: Box) -> dict[str, object]:
    """Return COCO's uncompressed run lengths of a filled box, column by column."""
    (x1, y1, x2, y2), (width, height) = map(int, box[1]), SIZE_WH
    counts = [x1 * height + y1]
    for _ in range(x2 - x1 - 1):
        counts += [y2 - y1, height - (y2 - y1)]
    counts += [y2 - y1, (width - x2) * height + height - y2]
    return {"size": [height, width], "counts": counts}


@pytest.mark.parametrize("shape", [lambda box: [outline(box)], run_lengths], ids=["polygon", "run lengths"])
@pytest.mark.parametrize("missing", [lambda entry: entry.pop("bbox"), lambda entry: entry.update(bbox=[])])
def test_coco_outlines_get_their_box(export, shape, missing):
    write_coco(export)
    boxes = [*BOXES, *OTHER]

    def replace_boxes(content):
        for entry, box in zip(content["annotations"], boxes, strict=True):
            missing(entry)
            entry["segmentation"] = shape(box)

    change_json(export.root / "annotations.json", replace_boxes)
    assert read_back(detected(export), export.root) == export.expected


def test_yolo_outlines_get_their_box(export):
    write_yolo(export)
    for item in export.items:
        scale = (1 / SIZE_WH[0], 1 / SIZE_WH[1]) * 4
        rows = [
            (CLASSES.index(box[0]), *(a * b for a, b in zip(outline(box), scale, strict=True))) for box in item.boxes
        ]
        export.lines(f"labels/{item.stem}.txt", [" ".join(f"{value:.6g}" for value in row) for row in rows])
    assert read_back(detected(export), export.root) == export.expected


def test_voc_outlines_get_their_box(export):
    write_voc(export)
    for item in export.items:
        export.text(f"Annotations/{item.stem}.xml", voc_xml(item, base=1, polygons=True))
    assert read_back(detected(export), export.root) == export.expected


# --- the format is not guessed from a count of columns


@pytest.mark.parametrize(("shape", "points"), [("[4, 2]", " .2 .3 .4 .5 .6 .7 .1 .9"), ("[2, 3]", " .2 .3 2 .4 .5 1")])
def test_key_points_are_not_outlines(export, shape, points):
    write_yolo(export)
    for item in export.items:
        label = export.root / "labels" / f"{item.stem}.txt"
        export.lines(f"labels/{label.name}", [line + points for line in label.read_text().splitlines()])
    (export.root / "classes.txt").unlink()
    export.text("data.yaml", f"train: images\nkpt_shape: {shape}\nnames: [{', '.join(CLASSES)}]\n")
    assert read_back(detected(export), export.root) == export.expected


@pytest.mark.parametrize("more", ["17", "-1", "0.1 0.2 17", "x"])
def test_a_row_of_another_length_is_an_error(export, more):
    write_yolo(export)
    change(export.root / "labels" / "a.txt", "\n", f" {more}\n")
    (error,) = read_annotations(detected(export), "train").errors
    assert "a.txt:1" in error.location


def test_scores_are_not_used_and_counted(export):
    write_yolo(export)
    for path in (export.root / "labels").iterdir():
        change(path, "\n", " 0.98765\n", count=2)
    assert read_back(detected(export), export.root) == export.expected
    assert "3 lines" in warnings_of(detected(export))


# --- annotations that are not found are no empty images


@pytest.mark.parametrize("folder", ["labels_my-project-name_2024-01-31-10-00-00", "old labels"])
@pytest.mark.parametrize("is_named", [True, False])
def test_label_files_in_a_folder_of_another_name_are_an_error(export, folder, is_named):
    write_yolo(export)
    (export.root / "labels").rename(export.root / folder)
    if is_named:
        export.text("data.yaml", f"train: images\nnames: [{', '.join(CLASSES)}]\n")
    with pytest.raises(DataError, match=rf"images.*{folder}|{folder}.*images"):
        read_annotations(detected(export), "train")


@pytest.mark.parametrize("row", [row for row in LAYOUTS.values() if not row.reads_empty], ids=lambda row: row.name)
def test_images_that_are_not_annotated_are_counted(tmp_path, row):
    assert "1 image" in warnings_of(detected(row.write(tmp_path / "set")))


def test_images_without_label_files_are_counted(tmp_path):
    assert "1 image" in warnings_of(detected(LAYOUTS["labelImg YOLO"].write(tmp_path / "set")))


def test_one_flat_labels_folder_of_nested_images(export):
    for item in export.items:
        export.image(item, f"images/{item.stem}/day 1/{item.name}")
        export.yolo(item, f"labels/{item.stem}.txt")
    export.lines("classes.txt", CLASSES)
    assert read_back(detected(export), export.root) == export.expected


@pytest.mark.parametrize(
    ("images", "labels"),
    [("img", "txt"), ("imgs", "labels"), ("JPEGImages", "labels"), ("IMAGES", "LABELS"), ("Images", "Labels")],
)
def test_label_folders_beside_image_folders(export, images, labels):
    for item in export.items:
        export.image(item, f"{images}/{item.name}")
        export.yolo(item, f"{labels}/{item.stem}.txt")
    export.lines("classes.txt", CLASSES)
    assert read_back(detected(export), export.root) == export.expected


# --- splits


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_that_is_named_and_missing_is_an_error(tmp_path, split):
    export = LAYOUTS["ultralytics, folders"].write(tmp_path / "set")
    (export.root / "images" / split).rename(export.root / "images" / "elsewhere")
    with pytest.raises((DataError, ConfigError), match=f"images/{split}"):
        read_annotations(detect_dataset(export.root), split)


@pytest.mark.parametrize("folder", ["eval", "dev", "holdout", "valid_set", "Validation", "TEST", "test-2"])
@pytest.mark.parametrize("row", ["Roboflow Darknet", "Roboflow VOC", "Roboflow COCO"])
def test_what_looks_like_evaluation_data_is_not_trained_on(tmp_path, folder, row):
    export = LAYOUTS[row].write(tmp_path / "set")
    shutil.rmtree(export.root / "test")
    (export.root / "valid").rename(export.root / folder)
    export.lines("classes.txt", CLASSES)
    config = detect_dataset(export.root, holdout=0)
    assert set(read_back(config, export.root)["train"]) == set(export.expected["train"])


def test_a_missing_test_split_is_a_warning(tmp_path, caplog):
    export = LAYOUTS["Roboflow YOLO"].write(tmp_path / "set")
    shutil.rmtree(export.root / "test")
    config = detect_dataset(export.root)
    assert "test/images" in caplog.text
    assert len(read_annotations(config, "val").records) == 2
    with pytest.raises((DataError, ConfigError), match="test"):
        read_annotations(config, "test")


@pytest.mark.parametrize("row", ["Roboflow YOLO", "ultralytics, folders"])
def test_a_split_is_not_taken_from_the_data_set_beside(tmp_path, row):
    export = LAYOUTS[row].write(tmp_path / "sets" / "parts")
    for beside in (tmp_path / "sets", tmp_path / "datasets" / "parts"):  # `../train/images`, `../datasets/parts`
        LAYOUTS[row].write(beside)
    assert read_back(detect_dataset(export.root), export.root) == export.expected


# --- which image


@pytest.mark.parametrize(
    ("row", "count"),
    [
        ("CVAT YOLO 1.1", 6),
        ("CVAT Ultralytics YOLO 1.0", 4),
        ("Label Studio COCO, from Windows", 5),
        ("Label Studio COCO, local storage", 5),
        ("Darknet obj.data, other machine", 4),
        ("Darknet obj.data, from Windows", 4),
    ],
)
def test_paths_from_elsewhere_are_counted(tmp_path, row, count):
    assert f"{count} of {count} paths" in warnings_of(detected(LAYOUTS[row].write(tmp_path / "set")))


def test_voc_images_of_one_stem_are_told_apart_by_filename(export):
    write_voc(export)
    for item in export.items:  # a preview, or a mask
        export.bytes(f"JPEGImages/{item.stem}.jpg", image_bytes("another", ".jpg", SIZE_WH))
    assert read_back(detected(export), export.root) == export.expected


def test_a_path_that_fits_two_images_is_an_error(export):
    for folder in ("one", "two"):
        for item in export.items:
            export.image(item, f"{folder}/{item.name}")
            export.yolo(item, f"{folder}/{item.stem}.txt")
    export.lines("train.txt", ["/home/me/a.png", "/home/me/b.png"])
    export.lines("classes.txt", CLASSES)
    with pytest.raises(DataError, match=r"a\.png"):
        read_annotations(detected(export), "train")


@pytest.mark.parametrize("name", ["../secret.png", "{outside}/secret.png"])
@pytest.mark.parametrize("kind", ["yolo", "coco"])
def test_no_image_is_read_outside_the_root(export, kind, name):
    outside = export.root.parent
    outside.joinpath("secret.png").write_bytes(image_bytes("secret", ".png", SIZE_WH))
    outside.joinpath("secret.txt").write_text("0 .5 .5 .5 .5\n")
    name = name.replace("{outside}", outside.as_posix())
    write_yolo(export)
    config = DatasetConfig(kind="yolo", root=str(export.root), splits={"train": ("list.txt",)}, labels=CLASSES)
    if kind == "yolo":
        export.lines("list.txt", ["images/a.png", name])
    else:
        content = coco_content(export.items, file_name=lambda item: item.name if item.stem == "a" else name)
        export.text("annotations.json", json.dumps(content))
        config = DatasetConfig(kind="coco", root=str(export.root), splits={"train": ("annotations.json",)})
    with pytest.raises(DataError, match=r"secret\.png"):
        read_annotations(config, "train")


# --- the annotated size is compared with the image


class AsRead:
    """A transform that returns the sample as it was read."""

    num_samples = 1

    def __call__(self, samples: Sequence[Sample], size_wh: tuple[int, int], rng: np.random.Generator) -> Sample:
        return samples[0]


def training_boxes(export: Export) -> dict[str, list[Box]] | None:
    """Return the boxes that training gets for each image, by file name; `None` if the data set is refused."""
    try:
        annotations = read_annotations(detected(export), "train")
    except DataError:
        return None
    if annotations.errors:
        return None
    names, found = annotations.labels.names, {}
    dataset = TrainingDataset([annotations.records], AsRead(), seed=0)
    for index in range(len(dataset)):
        sample = dataset[SampleRequest(index, step=0, position=0, size_wh=SIZE_WH)]
        if isinstance(sample, FailedSample):
            return None
        boxes = zip(sample.boxes.label.tolist(), sample.boxes.xyxy.tolist(), strict=True)
        rounded = sorted((names[label], tuple(round(side, 1) for side in xyxy)) for label, xyxy in boxes)
        found[Path(sample.name).name] = rounded
    return found


def resize_images(export: Export, size_wh: tuple[int, int]) -> None:
    """Replace all images by ones of another size, as a tool does that resizes them after annotation."""
    for path in export.root.rglob("*.png"):
        path.write_bytes(image_bytes(path.name, ".png", size_wh))


@pytest.mark.parametrize("write", [write_voc, write_coco])
def test_boxes_follow_images_that_were_resized_after_annotation(export, write):
    write(export)
    resize_images(export, (SIZE_WH[0] // 2, SIZE_WH[1] // 2))
    halves = {
        item.name: sorted((name, tuple(side / 2 for side in xyxy)) for name, xyxy in item.boxes)
        for item in export.items
    }
    assert training_boxes(export) in (halves, None)


@pytest.mark.parametrize("write", [write_voc, write_coco])
@pytest.mark.parametrize("size_wh", [(48, 16), (17, 32)])
def test_an_image_of_another_aspect_is_an_error(export, write, size_wh):
    write(export)
    resize_images(export, size_wh)
    assert training_boxes(export) is None


@pytest.mark.parametrize("write", [write_yolo, write_voc, write_coco])
def test_an_image_of_the_annotated_size_is_trained_on(export, write):
    write(export)
    assert training_boxes(export) == {item.name: sorted(item.boxes) for item in export.items}
