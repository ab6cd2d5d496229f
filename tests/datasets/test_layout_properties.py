"""Random small data sets, written in every layout that is read, come back: images, boxes, class names and splits."""

import json
import tempfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import Box, Export, Item, coco_content, read_back, voc_xml

from yolo9k.datasets.autodetect import detect_dataset

SIZES = ((48, 32), (24, 40), (16, 16))
FOLDERS = ("", "line 1", "линия/2", "night", "no")
RESERVED = frozenset('/\\<>:"|?*#%')  # of file systems, shells and URLs; `[`, `]`, `{`, `~` and `!` stay
UNQUOTED = ("no", "007", "1e3", "12:30", "~", "true", "2020-01-01", "null", "0x10")  # other values in YAML 1.1
QUOTED = ("- a", "a: b", "#1", "cat's", '"q"')

characters = st.characters(
    exclude_categories=("Cc", "Cs", "Cn", "Co", "Zl", "Zp"), exclude_characters=RESERVED | {"\ufeff"}
)


def is_plain(text: str) -> bool:
    """Return whether text is the same on all file systems and after stripping, and is not hidden."""
    return text == text.strip() and unicodedata.normalize("NFC", text) == text and text[:1] not in ("", ".", "#", "@")


texts = st.text(characters, min_size=1, max_size=8).filter(is_plain)
stems = st.sampled_from(("a", "b", "007", "no", "img [1]", "{x}", "~a", "a.b", "ü")) | texts.filter(
    lambda text: not text.endswith(".")
)
class_names = st.lists(st.sampled_from(UNQUOTED + QUOTED) | texts, min_size=1, max_size=3, unique=True)


@st.composite
def boxes(draw: st.DrawFn, classes: tuple[str, ...], size_wh: tuple[int, int]) -> Box:
    """Return a box of at least two pixels; corners are halves of pixels, which all formats can write."""
    corners = []
    for side in size_wh:
        low = draw(st.integers(0, 2 * (side - 2)))
        corners.append((low / 2, draw(st.integers(low + 4, 2 * side)) / 2))
    (x1, x2), (y1, y2) = corners
    return draw(st.sampled_from(classes)), (x1, y1, x2, y2)


@st.composite
def data_sets(draw: st.DrawFn) -> tuple[tuple[str, ...], list[Item]]:
    """Return class names and images; every split has an image, `train` an image with a box of each class."""
    classes = tuple(draw(class_names))
    splits = ["train", "val", *draw(st.lists(st.sampled_from(("train", "val", "test")), max_size=3))]
    items: list[Item] = []
    for split in splits:
        size_wh = draw(st.sampled_from(SIZES))
        found = draw(st.lists(boxes(classes, size_wh), max_size=3))
        name = f"{draw(st.sampled_from(FOLDERS))}/{draw(stems)}".lstrip("/")
        if any(name.casefold() == item.stem.casefold() for item in items if item.split == split):
            name = f"{name} {len(items)}"
        items.append(Item(split, f"{name}{draw(st.sampled_from(('.jpg', '.png')))}", size_wh, tuple(found)))
    width, height = items[0].size_wh
    everything = tuple((name, (1.0, 1.0, width - 2.0, height - 2.0)) for name in classes)
    items[0] = Item("train", items[0].name, items[0].size_wh, everything)
    return classes, items


# --- layouts: `split` is part of each path, so that names of two splits may be equal


def is_background(export: Export, split: str) -> bool:
    """Return whether a split has no box at all: then empty label files say so."""
    return not any(item.boxes for item in export.split(split))


def yolo_images_labels(export: Export) -> None:
    """`images/SPLIT` and `labels/SPLIT`, with a data.yaml."""
    for item in export.items:
        export.image(item, f"images/{item.split}/{item.name}")
        if item.boxes or is_background(export, item.split):
            export.yolo(item, f"labels/{item.split}/{item.stem}.txt")
    splits = {item.split: f"images/{item.split}" for item in export.items}
    export.yaml("data.yaml", splits | {"names": dict(enumerate(export.classes))})


def yolo_split_folders(export: Export) -> None:
    """`SPLIT/images` and `SPLIT/labels`, with a data.yaml whose names are quoted only where YAML needs it."""
    folders = {item.split: item.split.replace("val", "valid") for item in export.items}
    for item in export.items:
        export.image(item, f"{folders[item.split]}/images/{item.name}")
        export.yolo(item, f"{folders[item.split]}/labels/{item.stem}.txt")
    splits = [f"{split}: ../{folder}/images" for split, folder in folders.items()]
    quoted = (
        name if name in UNQUOTED or name.isalnum() else json.dumps(name, ensure_ascii=False) for name in export.classes
    )
    export.lines("data.yaml", [*splits, "names:", *(f"- {name}" for name in quoted)])


def yolo_lists(export: Export) -> None:
    """Image lists, with label files beside the images, and a class list."""
    paths: dict[str, list[str]] = {}
    for item in export.items:
        export.image(item, f"photos/{item.split}/{item.name}")
        if item.boxes or is_background(export, item.split):
            export.yolo(item, f"photos/{item.split}/{item.stem}.txt")
        paths.setdefault(item.split, []).append(f"photos/{item.split}/{item.name}")
    for split, lines in paths.items():
        export.lines(f"{split}.txt", lines)
    export.lines("classes.txt", export.classes)


def darknet(export: Export) -> None:
    """Darknet's obj.data, with lists of paths from another machine."""
    paths: dict[str, list[str]] = {}
    for item in export.items:
        export.image(item, f"obj/{item.split}/{item.name}")
        export.yolo(item, f"obj/{item.split}/{item.stem}.txt")
        paths.setdefault(item.split, []).append(f"D:\\data\\obj\\{item.split}\\" + item.name.replace("/", "\\"))
    keys = {"train": "train", "val": "valid", "test": "test"}
    for split, lines in paths.items():
        export.lines(f"{split}.txt", lines)
    export.lines("obj.names", export.classes)
    lists = [f"{keys[split]} = data/{split}.txt" for split in paths]
    export.lines("obj.data", [f"classes = {len(export.classes)}", *lists, "names = data/obj.names", "backup = backup"])


def voc_lists(export: Export) -> None:
    """The devkit's folders and lists, with sub-folders as CVAT writes them."""
    stems: dict[str, list[str]] = {}
    for item in export.items:
        export.image(item, f"JPEGImages/{item.split}/{item.name}")
        xml = voc_xml(item, filename=f"{item.split}/{item.name}", base=1)
        export.text(f"Annotations/{item.split}/{item.stem}.xml", xml)
        stems.setdefault(item.split, []).append(f"{item.split}/{item.stem}")
    for split, lines in stems.items():
        export.lines(f"ImageSets/Main/{split}.txt", lines)


def voc_beside(export: Export) -> None:
    """A folder for each split, with the annotations beside the images."""
    for item in export.items:
        export.image(item, f"{item.split}/{item.name}")
        filename = item.name.rpartition("/")[2]
        export.text(f"{item.split}/{item.stem}.xml", voc_xml(item, filename=filename, base=1))


def coco_annotations(export: Export) -> None:
    """`annotations/instances_SPLIT.json` and `SPLIT`, as published."""
    for split in dict.fromkeys(item.split for item in export.items):
        for item in export.split(split):
            export.image(item, f"{split}/{item.name}")
        content = coco_content(export.split(split), classes=export.classes)
        export.text(f"annotations/instances_{split}.json", json.dumps(content))


def coco_beside(export: Export) -> None:
    """A JSON file beside the images of each split; category ids begin at 0, the text is not ASCII."""
    for split in dict.fromkeys(item.split for item in export.items):
        for item in export.split(split):
            export.image(item, f"{split}/{item.name}")
        content = coco_content(export.split(split), classes=export.classes, first_category=0, first_image=0)
        export.text(f"{split}/_annotations.coco.json", json.dumps(content, ensure_ascii=False))


def coco_one_images_folder(export: Export) -> None:
    """JSON files beside one folder of images, with Windows paths."""
    for split in dict.fromkeys(item.split for item in export.items):
        for item in export.split(split):
            export.image(item, f"images/{split}/{item.name}")
        content = coco_content(
            export.split(split),
            classes=export.classes,
            file_name=lambda item: f"images\\{item.split}\\" + item.name.replace("/", "\\"),
        )
        export.text(f"{split}.json", json.dumps(content))


YOLO = (yolo_images_labels, yolo_split_folders, yolo_lists, darknet)
VOC = (voc_lists, voc_beside)
COCO = (coco_annotations, coco_beside, coco_one_images_folder)


@pytest.mark.parametrize("write", [*YOLO, *VOC, *COCO], ids=lambda write: write.__name__)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(data=data_sets())
def test_a_data_set_comes_back(write: Callable[[Export], None], data: tuple[tuple[str, ...], list[Item]]):
    classes, items = data
    with tempfile.TemporaryDirectory() as folder:
        export = Export(Path(folder) / "data", items, classes)
        write(export)
        config = detect_dataset(export.root, holdout=0)
        assert read_back(config, export.root) == export.expected
    if write in VOC:
        assert sorted(config.labels) == sorted(classes)
    else:
        assert tuple(config.labels) == classes
