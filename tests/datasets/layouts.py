"""Write small data sets exactly as annotation tools export them: names, folders, fields, path styles and quirks.

A builder writes through an `Export`, which remembers the images and boxes that a reader must find. Where a layout is
taken from is named at each builder: the tool's source code, its documentation, or an issue about it.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import yaml
from PIL import Image

from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import read_annotations, split_names

Corners = tuple[float, float, float, float]
Box = tuple[str, Corners]  # class name, xyxy in pixels counted from 0
Images = dict[str, list[Box]]  # by path below the root

CLASSES = ("nut", "bolt", "шайба")  # not in the order of the alphabet
PIL_FORMATS = {".jpg": "JPEG", ".png": "PNG"}
OTHER_MACHINE = "/home/somebody/projects"


@dataclass(frozen=True)
class Item:
    """An image of a data set: its split, file name (with folders, without split), size and boxes."""

    split: str
    name: str
    size_wh: tuple[int, int]
    boxes: tuple[Box, ...]

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def suffix(self) -> str:
        return f".{self.name.rpartition('.')[2]}"

    def renamed(self, name: str) -> "Item":
        return replace(self, name=name)


ITEMS = (
    Item("train", "a.jpg", (48, 32), (("bolt", (6, 6, 26, 20)), ("nut", (30, 10, 44, 30)))),
    Item("train", "b.png", (64, 40), (("шайба", (10, 4, 50, 36)),)),
    Item("train", "c.jpg", (40, 56), ()),
    Item("val", "d.jpg", (48, 32), (("nut", (4, 8, 20, 24)),)),
    Item("val", "e.png", (64, 40), (("bolt", (2, 2, 30, 30)), ("bolt", (34, 8, 60, 38)))),
    Item("test", "f.jpg", (40, 56), (("шайба", (8, 10, 32, 50)), ("nut", (2, 2, 12, 9)))),
)


@cache
def image_bytes(seed: str, suffix: str, size_wh: tuple[int, int]) -> bytes:
    """Return an image file; each distinct image is encoded once per session."""
    rng = np.random.default_rng(list(seed.encode("utf-8")))
    pixels = rng.integers(0, 256, (size_wh[1] // 8, size_wh[0] // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(size_wh).save(file, PIL_FORMATS[suffix.lower()])
    return file.getvalue()


@dataclass
class Export:
    """A data set that is written below `root`; `expected`: the images of each split that a reader must find."""

    root: Path
    items: Sequence[Item]
    classes: tuple[str, ...] = CLASSES
    shift: float = 0.0  # added to all corners by the reader
    reads_empty: bool = True  # whether an image without objects is part of the data set
    expected: dict[str, Images] = field(default_factory=dict)

    def split(self, *splits: str) -> list[Item]:
        return [item for item in self.items if item.split in splits]

    def image(self, item: Item, path: str) -> None:
        """Write the image of `item` to `path`, relative to the root."""
        self.bytes(path, image_bytes(item.name, item.suffix, item.size_wh))
        if item.boxes or self.reads_empty:
            boxes = [(name, tuple(side + self.shift for side in xyxy)) for name, xyxy in item.boxes]
            self.expected.setdefault(item.split, {})[path] = sorted(boxes)

    def bytes(self, path: str, content: bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def text(self, path: str, text: str) -> None:
        self.bytes(path, text.encode("utf-8"))

    def lines(self, path: str, lines: Sequence[str]) -> None:
        self.text(path, "".join(f"{line}\n" for line in lines))

    def yaml(self, path: str, content: Mapping[str, Any], sort_keys: bool = False) -> None:
        self.text(path, yaml.safe_dump(content, sort_keys=sort_keys, allow_unicode=True))

    def yolo(self, item: Item, path: str) -> None:
        """Write a YOLO label file with six decimals, as most tools do."""
        lines = []
        for name, (x1, y1, x2, y2) in item.boxes:
            w, h = item.size_wh
            values = ((x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h)
            lines.append(f"{self.classes.index(name)} {' '.join(f'{value:.6f}' for value in values)}")
        self.lines(path, lines)

    def voc(self, item: Item, path: str, **style: Any) -> None:
        self.text(path, voc_xml(item, **style))

    def coco(self, path: str, items: Sequence[Item], **style: Any) -> None:
        content = coco_content(items, **style)
        self.text(path, json.dumps(content, ensure_ascii=style.get("ascii", False)))


def voc_xml(
    item: Item,
    filename: str | None = None,
    *,
    head: str = "",
    declaration: str = "",
    difficult: str = "<difficult>0</difficult>",
    number: Callable[[float], str] = str,
    base: int = 0,
    sized: bool = True,
    polygons: bool = False,
) -> str:
    """Return a VOC annotation. `base`: what the tool counts pixels from; `polygons`: no `bndbox`, but an outline."""
    width, height = item.size_wh
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>" if sized else ""
    lines = [f"{declaration}<annotation>", head, f"<filename>{escape(filename or item.name)}</filename>", size]
    for name, xyxy in item.boxes:
        x1, y1, x2, y2 = (number(side + base) for side in xyxy)
        box = f"<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
        outline = "".join(
            f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate(((x1, y1), (x2, y1), (x2, y2), (x1, y2)), 1)
        )
        shape = f"<polygon>{outline}</polygon>" if polygons else box
        lines.append(
            f"<object><name>{escape(name)}</name><pose>Unspecified</pose><truncated>0</truncated>{difficult}{shape}"
            "</object>"
        )
    return "\n".join([*lines, "</annotation>", ""])


def coco_content(
    items: Sequence[Item],
    *,
    file_name: Callable[[Item], str] = lambda item: item.name,
    classes: Sequence[str] = CLASSES,
    first_category: int = 1,
    first_image: int = 1,
    extra_categories: Sequence[Mapping[str, Any]] = (),
    **_: Any,
) -> dict[str, Any]:
    """Return the content of a COCO file."""
    images, annotations = [], []
    for image_id, item in enumerate(items, first_image):
        width, height = item.size_wh
        images.append({"id": image_id, "width": width, "height": height, "file_name": file_name(item)})
        for name, (x1, y1, x2, y2) in item.boxes:
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0, "segmentation": []}
            category = first_category + list(classes).index(name)
            annotations.append({"id": len(annotations) + 1, "image_id": image_id, "category_id": category, **box})
    categories = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(classes, first_category)]
    info = {"description": "", "url": "", "version": "1.0"}
    categories = [*extra_categories, *categories]
    return {"info": info, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


# --- the table of layouts


@dataclass(frozen=True)
class Layout:
    """A row of the table: a tool's export. `opens`: a file of it that can be named instead of the folder."""

    name: str
    kind: str
    build: Callable[[Export], None]
    splits: tuple[str, ...] = ("train",)
    shift: float = 0.0
    reads_empty: bool = True
    opens: str = ""

    def write(self, root: Path) -> Export:
        """Write the export below `root`; images of splits that the tool does not write are in `train`."""
        items = [item if item.split in self.splits else replace(item, split="train") for item in ITEMS]
        export = Export(root, items, shift=self.shift, reads_empty=self.reads_empty)
        self.build(export)
        return export


LAYOUTS: dict[str, Layout] = {}
SPLITS = ("train", "val", "test")
ROBOFLOW = {"train": "train", "val": "valid", "test": "test"}


def layout(name: str, kind: str, **row: Any) -> Callable[[Callable[[Export], None]], Callable[[Export], None]]:
    """Register a builder as a row of the table."""

    def register(build: Callable[[Export], None]) -> Callable[[Export], None]:
        LAYOUTS[name] = Layout(name, kind, build, **row)
        return build

    return register


# --- Roboflow: https://roboflow.com/formats, and
# https://openvinotoolkit.github.io/datumaro/stable/docs/data-formats/formats/roboflow.html


def roboflow_items(export: Export) -> Iterator[tuple[str, Item]]:
    """Yield (folder, item) with the file names that Roboflow gives: `a_jpg.rf.HASH.jpg`."""
    export.text("README.roboflow.txt", "parts - v1\n==========\nProvided by a Roboflow user\n")
    export.text("README.dataset.txt", "# parts > 2024-01-01 1:00am\nhttps://universe.roboflow.com/x/parts\n")
    for item in export.items:
        yield ROBOFLOW[item.split], item.renamed(f"{item.name.replace('.', '_')}.rf.5e009a9ec5fbf7a8.jpg")


@layout("Roboflow YOLO", "yolo", splits=SPLITS, opens="data.yaml")
def roboflow_yolo(export: Export) -> None:
    for folder, item in roboflow_items(export):
        export.image(item, f"{folder}/images/{item.name}")
        export.yolo(item, f"{folder}/labels/{item.stem}.txt")
    names = ", ".join(f"'{name}'" for name in CLASSES)
    export.text(
        "data.yaml",
        f"train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\nnames: [{names}]\n\n"
        "roboflow:\n  workspace: x\n  project: parts\n  version: 1\n  license: CC BY 4.0\n",
    )


@layout("Roboflow COCO", "coco", splits=SPLITS)
def roboflow_coco(export: Export) -> None:
    items: dict[str, list[Item]] = {}
    for folder, item in roboflow_items(export):
        export.image(item, f"{folder}/{item.name}")
        items.setdefault(folder, []).append(item)
    group = {"id": 0, "name": "parts", "supercategory": "none"}  # has the id 0 and no objects
    for folder, part in items.items():
        export.coco(f"{folder}/_annotations.coco.json", part, extra_categories=[group], first_image=0, ascii=True)


@layout("Roboflow VOC", "voc", splits=SPLITS, shift=-1)
def roboflow_voc(export: Export) -> None:
    for folder, item in roboflow_items(export):
        export.image(item, f"{folder}/{item.name}")
        head = f"<folder></folder><path>{item.name}</path><source><database>roboflow.com</database></source>"
        export.voc(item, f"{folder}/{item.stem}.xml", head=head)


@layout("Roboflow Darknet", "yolo", splits=SPLITS)
def roboflow_darknet(export: Export) -> None:
    for folder, item in roboflow_items(export):
        export.image(item, f"{folder}/{item.name}")
        export.yolo(item, f"{folder}/{item.stem}.txt")
        export.lines(f"{folder}/_darknet.labels", CLASSES)


# --- CVAT: https://github.com/cvat-ai/datumaro, plugins/yolo_format/converter.py;
# https://docs.cvat.ai/docs/dataset_management/formats


def cvat_yolo(export: Export, names: Mapping[str, str]) -> None:
    """Lists, and the paths in `obj.data`, begin with `data/`: the folder one is to unpack the archive into."""
    lists: dict[str, list[str]] = {}
    for item in export.items:
        subset = names[item.split]
        export.image(item, f"obj_{subset}_data/{item.name}")
        export.yolo(item, f"obj_{subset}_data/{item.stem}.txt")
        lists.setdefault(subset, []).append(f"data/obj_{subset}_data/{item.name}")
    for subset, paths in lists.items():
        export.lines(f"{subset}.txt", paths)
    export.lines("obj.names", CLASSES)
    subsets = [f"{subset} = data/{subset}.txt" for subset in lists]
    export.lines("obj.data", ["classes = 3", *subsets, "names = data/obj.names", "backup = backup/"])


@layout("CVAT YOLO 1.1", "yolo", opens="obj.data")
def cvat_yolo_task(export: Export) -> None:
    export.items = [item.renamed(f"frame_{i:06}.PNG") for i, item in enumerate(export.items)]  # frames of a video
    cvat_yolo(export, {"train": "train"})


@layout("CVAT YOLO 1.1, subsets", "yolo", splits=SPLITS, opens="obj.data")
def cvat_yolo_project(export: Export) -> None:
    cvat_yolo(export, {"train": "Train", "val": "Validation", "test": "Test"})  # the names in its menu


@layout("CVAT Ultralytics YOLO 1.0", "yolo", splits=("train", "val"), opens="data.yaml")
def cvat_ultralytics(export: Export) -> None:
    lists: dict[str, list[str]] = {}
    for item in export.items:
        export.image(item, f"images/{item.split}/{item.name}")
        if item.boxes:
            export.yolo(item, f"labels/{item.split}/{item.stem}.txt")
        lists.setdefault(item.split, []).append(f"data/images/{item.split}/{item.name}")
    for subset, paths in lists.items():
        export.lines(f"{subset}.txt", paths)
    content = {"path": ".", "names": dict(enumerate(CLASSES)), "train": "train.txt", "val": "val.txt"}
    export.yaml("data.yaml", content, sort_keys=True)


@layout("CVAT COCO 1.0", "coco", opens="annotations/instances_default.json")
def cvat_coco(export: Export) -> None:
    for item in export.items:
        export.image(item, f"images/{item.name}")
    export.coco("annotations/instances_default.json", export.items, ascii=True)


@layout("CVAT COCO 1.0, subsets", "coco", splits=SPLITS)
def cvat_coco_project(export: Export) -> None:
    export.items = [item.renamed(f"line 1/{item.name}") for item in export.items]
    for split, subset in (("train", "Train"), ("val", "Validation"), ("test", "Test")):
        for item in export.split(split):
            export.image(item, f"images/{subset}/{item.name}")
        export.coco(f"annotations/instances_{subset}.json", export.split(split), ascii=True)


def cvat_voc(export: Export) -> None:
    """Corners have decimals; attributes follow the box; lists name the images with their folders."""
    for item in export.items:
        export.image(item, f"JPEGImages/{item.name}")
        head = "<folder></folder><source><database>Unknown</database></source>"
        export.voc(item, f"Annotations/{item.stem}.xml", head=head, number=lambda side: f"{side:.1f}")
    export.lines("ImageSets/Main/default.txt", [item.stem for item in export.items])
    colours = [f"{name}:{i},{i},0::" for i, name in enumerate(sorted(CLASSES), 1)]
    export.lines("labelmap.txt", ["# label:color_rgb:parts:actions", "background:0,0,0::", *colours])


@layout("CVAT PASCAL VOC 1.1", "voc", shift=-1)
def cvat_voc_task(export: Export) -> None:
    cvat_voc(export)


@layout("CVAT PASCAL VOC 1.1, sub-folders", "voc", shift=-1)
def cvat_voc_folders(export: Export) -> None:
    export.items = [item.renamed(f"line {i % 2}/shift {i // 2}/1{item.suffix}") for i, item in enumerate(export.items)]
    cvat_voc(export)


# --- Label Studio: https://github.com/HumanSignal/label-studio-converter, converter.py


def label_studio_items(export: Export) -> list[Item]:
    """Return the items with the prefix of an upload."""
    return [item.renamed(f"1a2b3c{i:02}-{item.name}") for i, item in enumerate(export.items)]


@layout("Label Studio YOLO", "yolo")
def label_studio_yolo(export: Export) -> None:
    for item in label_studio_items(export):
        export.image(item, f"images/{item.name}")
        if item.boxes:
            export.yolo(item, f"labels/{item.stem}.txt")
    export.lines("classes.txt", CLASSES)
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    notes = {"categories": categories, "info": {"year": 2024, "version": "1.0", "contributor": "Label Studio"}}
    export.text("notes.json", json.dumps(notes, indent=2))


def label_studio_coco(export: Export, file_name: Callable[[Item], str]) -> None:
    """Images without annotations are exported, but not listed; ids begin at 0."""
    items = label_studio_items(export)
    for item in items:
        export.image(item, f"images/{item.name}")
    listed = [item for item in items if item.boxes]
    export.coco("result.json", listed, file_name=file_name, first_category=0, first_image=0, ascii=True)


@layout("Label Studio COCO", "coco", reads_empty=False, opens="result.json")
def label_studio_coco_linux(export: Export) -> None:
    label_studio_coco(export, lambda item: f"images/{item.name}")


@layout("Label Studio COCO, from Windows", "coco", reads_empty=False, opens="result.json")
def label_studio_coco_windows(export: Export) -> None:
    label_studio_coco(export, lambda item: f"images\\{item.name}")  # label-studio-converter issue 139


@layout("Label Studio COCO, local storage", "coco", reads_empty=False, opens="result.json")
def label_studio_coco_storage(export: Export) -> None:
    label_studio_coco(export, lambda item: f"../../label-studio/data/media/upload/4/{item.name}")  # issue 7294


@layout("Label Studio VOC", "voc", shift=-1, reads_empty=False)
def label_studio_voc(export: Export) -> None:
    declaration = '<?xml version="1.0" encoding="utf-8"?>\n'
    for item in label_studio_items(export):
        export.image(item, f"images/{item.name}")
        head = "<folder>images</folder><source><database>MyDatabase</database><image>flickr</image></source>"
        if item.boxes:  # the file name lacks its suffix
            export.voc(item, f"Annotations/{item.stem}.xml", filename=item.stem, head=head, declaration=declaration)


# --- labelImg: https://github.com/HumanSignal/labelImg, libs/pascal_voc_io.py and libs/yolo_io.py


@layout("labelImg VOC", "voc", shift=-1, reads_empty=False)
def labelimg_voc(export: Export) -> None:
    for item in export.items:
        export.image(item, item.name)
        head = f"<folder>parts</folder><path>C:\\Users\\me\\parts\\{item.name}</path>"
        if item.boxes:
            export.voc(item, f"{item.stem}.xml", head=head)


@layout("labelImg YOLO", "yolo")
def labelimg_yolo(export: Export) -> None:
    for item in export.items:
        export.image(item, item.name)
        if item.boxes:
            export.yolo(item, f"{item.stem}.txt")
    export.lines("classes.txt", CLASSES)


# --- LabelMe: https://github.com/wkentaro/labelme, examples/; https://github.com/fcakyon/labelme2coco;
# https://github.com/rooneysh/Labelme2YOLO


@layout("labelme2coco (labelme)", "coco", opens="annotations.json")
def labelme_coco(export: Export) -> None:
    export.items = [item.renamed(f"{item.stem}.jpg") for item in export.items]
    background = {"id": 0, "name": "_background_", "supercategory": None}
    for item in export.items:
        export.image(item, f"JPEGImages/{item.name}")
        export.bytes(f"Visualization/{item.name}", image_bytes(f"drawn {item.name}", ".jpg", item.size_wh))
    export.coco(
        "annotations.json",
        export.items,
        file_name=lambda item: f"JPEGImages/{item.name}",
        first_image=0,
        extra_categories=[background],
        ascii=True,
    )


def labelme_json(item: Item) -> str:
    """Return an annotation as LabelMe itself writes it, which is not read."""
    shapes = [
        {"label": name, "points": [list(xyxy[:2]), list(xyxy[2:])], "group_id": None, "shape_type": "rectangle"}
        for name, xyxy in item.boxes
    ]
    width, height = item.size_wh
    content = {"version": "5.1.1", "flags": {}, "shapes": shapes, "imagePath": item.name, "imageData": None}
    return json.dumps(content | {"imageHeight": height, "imageWidth": width})


@layout("labelme2coco (fcakyon)", "coco", opens="dataset.json")
def labelme2coco(export: Export) -> None:
    for item in export.items:  # beside LabelMe's own files
        export.image(item, item.name)
        export.text(f"{item.stem}.json", labelme_json(item))
    export.coco("dataset.json", export.items, first_category=0)


@layout("labelme2voc", "voc", shift=-1)
def labelme_voc(export: Export) -> None:
    export.items = [item.renamed(f"{item.stem}.jpg") for item in export.items]
    head = "<folder/><database/><annotation/><image/>"
    for item in export.items:
        export.image(item, f"JPEGImages/{item.name}")
        export.bytes(f"AnnotationsVisualization/{item.name}", image_bytes(f"drawn {item.name}", ".jpg", item.size_wh))
        xml = voc_xml(item, head=head, difficult="<difficult/>", number=lambda side: f"{side:.3f}")
        export.text(f"Annotations/{item.stem}.xml", xml)
    export.text("class_names.txt", "\n".join(["_background_", *CLASSES]))


@layout("labelme2yolo", "yolo", splits=("train", "val"), opens="dataset.yaml")
def labelme2yolo(export: Export) -> None:
    for item in export.items:
        image = item.renamed(f"{item.stem}.png")
        export.image(image, f"images/{item.split}/{image.name}")
        export.yolo(item, f"labels/{item.split}/{item.stem}.txt")
    folder = export.root.as_posix()
    names = ", ".join(f"'{name}'" for name in CLASSES)
    export.text(
        "dataset.yaml",
        f"train: {folder}/images/train/\nval: {folder}/images/val/\n\nnc: 3\n\nnames: [{names}]",
    )


# --- make-sense: https://github.com/SkalskiP/make-sense, src/logic/export; it exports labels without images.
# Its YOLO files come without class names (issue 330): `classes.txt` is the user's


@layout("make-sense YOLO", "yolo")
def make_sense_yolo(export: Export) -> None:
    for item in export.items:
        export.image(item, item.name)
        if item.boxes:
            export.yolo(item, f"{item.stem}.txt")
    export.lines("classes.txt", CLASSES)


@layout("make-sense VOC", "voc", shift=-1, reads_empty=False)
def make_sense_voc(export: Export) -> None:
    for item in export.items:
        export.image(item, item.name)
        head = f"<folder>my-project-name</folder><path>/my-project-name/{item.name}</path>"
        if item.boxes:
            export.voc(item, f"{item.stem}.xml", head=head, difficult="<difficult>Unspecified</difficult>")


@layout("make-sense COCO", "coco", reads_empty=False, opens="labels_my-project-name_2024-01-31-10-00-00.json")
def make_sense_coco(export: Export) -> None:
    for item in export.items:
        export.image(item, item.name)
    listed = [item for item in export.items if item.boxes]
    export.coco("labels_my-project-name_2024-01-31-10-00-00.json", listed)


# --- RectLabel: https://github.com/ryouchinsa/Rectlabel-support, images_test/, sample/; issues 78 and 163


@layout("RectLabel VOC", "voc", shift=-1)
def rectlabel_voc(export: Export) -> None:
    for item in export.items:
        export.image(item, item.name)
        head = "<folder>parts</folder>"
        export.voc(item, f"annotations/{item.stem}.xml", head=head, polygons=item.name == "b.png")


@layout("RectLabel YOLO", "yolo", splits=SPLITS)
def rectlabel_yolo(export: Export) -> None:
    for item in export.items:
        export.image(item, f"images/{item.name}")
        export.yolo(item, f"labels/{item.stem}.txt")
    for split in SPLITS:
        export.lines(f"{split}.txt", [f"{export.root.as_posix()}/images/{item.name}" for item in export.split(split)])
    export.lines("objects.names", CLASSES)


@layout("RectLabel YOLO, annotations folder", "yolo")
def rectlabel_yolo_annotations(export: Export) -> None:
    for item in export.items:
        export.image(item, f"images/{item.name}")
        export.yolo(item, f"annotations/{item.stem}.txt")
    export.lines("objects.names", CLASSES)


@layout("RectLabel COCO", "coco", opens="annotations.json")
def rectlabel_coco(export: Export) -> None:
    for item in export.items:
        export.image(item, f"images/{item.name}")
    export.coco("annotations.json", export.items)


# --- Darknet: https://github.com/AlexeyAB/darknet, README "How to train (to detect your custom objects)";
# https://github.com/pjreddie/darknet, scripts/voc_label.py


def darknet_objects(export: Export, line: Callable[[str], str]) -> None:
    for item in export.items:
        export.image(item, f"data/obj/{item.name}")
        export.yolo(item, f"data/obj/{item.stem}.txt")
    for split, name in (("train", "train"), ("val", "test")):  # the validation list is called test.txt
        export.lines(f"data/{name}.txt", [line(f"data/obj/{item.name}") for item in export.split(split)])
    export.lines("data/obj.names", CLASSES)
    export.text(
        "data/obj.data",
        "classes= 3\ntrain  = data/train.txt\nvalid  = data/test.txt\nnames = data/obj.names\nbackup = backup/\n",
    )


@layout("Darknet obj.data", "yolo", splits=("train", "val"), opens="data/obj.data")
def darknet(export: Export) -> None:
    darknet_objects(export, str)


@layout("Darknet obj.data, other machine", "yolo", splits=("train", "val"), opens="data/obj.data")
def darknet_other_machine(export: Export) -> None:
    darknet_objects(export, lambda path: f"{OTHER_MACHINE}/darknet/build/darknet/x64/{path}")


@layout("Darknet obj.data, from Windows", "yolo", splits=("train", "val"), opens="data/obj.data")
def darknet_windows(export: Export) -> None:
    darknet_objects(export, lambda path: "C:\\darknet\\build\\darknet\\x64\\" + path.replace("/", "\\"))


@layout("Darknet checkout", "yolo", splits=("train", "val"), opens="data/obj.data")
def darknet_checkout(export: Export) -> None:
    darknet_objects(export, str)
    export.text("cfg/yolo-obj.cfg", "[net]\nwidth=416\nheight=416\n")
    export.text("backup/partial.txt", "")


@layout("Darknet VOC", "voc", splits=SPLITS)
def darknet_voc(export: Export) -> None:
    """The devkit, with the label files and lists that voc_label.py writes."""
    year = "VOCdevkit/VOC2007"
    for item in export.items:
        export.voc(item, f"{year}/Annotations/{item.stem}.xml", base=1)
    for split in SPLITS:
        export.lines(f"{year}/ImageSets/Main/{split}.txt", [item.stem for item in export.split(split)])
    darknet_voc_labels(export)


@layout("Darknet VOC, labels only", "yolo", splits=SPLITS)
def darknet_voc_labels(export: Export) -> None:
    """Without the XML files: the label files of voc_label.py, and its lists of absolute paths."""
    year = "VOCdevkit/VOC2007"
    for item in export.items:
        export.image(item, f"{year}/JPEGImages/{item.name}")
        export.yolo(item, f"{year}/labels/{item.stem}.txt")
    for split in SPLITS:
        paths = [f"{export.root.as_posix()}/{year}/JPEGImages/{item.name}" for item in export.split(split)]
        export.lines(f"2007_{split}.txt", paths)
    export.lines("voc.names", CLASSES)


# --- ultralytics: https://docs.ultralytics.com/datasets/detect


@layout("ultralytics, folders", "yolo", splits=SPLITS, opens="data.yaml")
def ultralytics(export: Export) -> None:
    for item in export.items:
        export.image(item, f"images/{item.split}/{item.name}")
        if item.boxes:
            export.yolo(item, f"labels/{item.split}/{item.stem}.txt")
    folders = {split: f"images/{split}" for split in SPLITS}
    export.yaml("data.yaml", {"path": "../datasets/parts", **folders, "names": dict(enumerate(CLASSES))})


@layout("ultralytics, lists of folders", "yolo", splits=SPLITS, opens="data.yaml")
def ultralytics_folders(export: Export) -> None:
    for i, item in enumerate(export.items):
        folder = f"{item.split}{i % 2}"
        export.image(item, f"{folder}/images/{item.name}")
        export.yolo(item, f"{folder}/labels/{item.stem}.txt")
    folders = {"train": ["train0/images", "train1/images"], "val": ["val0/images", "val1/images"]}
    content = {"path": export.root.as_posix(), **folders, "test": "test1/images", "nc": 3, "names": list(CLASSES)}
    export.yaml("data.yaml", content)


@layout("ultralytics, image lists", "yolo", splits=SPLITS, opens="parts.yaml")
def ultralytics_lists(export: Export) -> None:
    for item in export.items:
        export.image(item, f"images/{item.name}")
        if item.boxes:
            export.yolo(item, f"labels/{item.stem}.txt")
    for split in SPLITS:  # as coco.yaml: lists with a dot in front
        export.lines(f"{split}.txt", [f"./images/{item.name}" for item in export.split(split)])
    lists = {split: f"{split}.txt" for split in SPLITS}
    content = {"path": f"{OTHER_MACHINE}/parts", **lists, "nc": 3, "names": dict(enumerate(CLASSES))}
    export.yaml("parts.yaml", content)


# --- FiftyOne: https://github.com/voxel51/fiftyone, utils/yolo.py, utils/coco.py, utils/voc.py


@layout("FiftyOne YOLOv5Dataset", "yolo", splits=("train", "val"), opens="dataset.yaml")
def fiftyone_yolov5(export: Export) -> None:
    for item in export.items:
        export.image(item, f"images/{item.split}/{item.name}")
        export.yolo(item, f"labels/{item.split}/{item.stem}.txt")
    content = {"names": list(CLASSES), "nc": 3, "train": "./images/train/", "val": "./images/val/"}
    export.yaml("dataset.yaml", content, sort_keys=True)


@layout("FiftyOne YOLOv4Dataset", "yolo")
def fiftyone_yolov4(export: Export) -> None:
    for item in export.items:
        export.image(item, f"data/{item.name}")
        export.yolo(item, f"data/{item.stem}.txt")
    export.lines("images.txt", [f"data/{item.name}" for item in export.items])
    export.lines("obj.names", CLASSES)


@layout("FiftyOne COCODetectionDataset", "coco", opens="labels.json")
def fiftyone_coco(export: Export) -> None:
    for item in export.items:
        export.image(item, f"data/{item.name}")
    export.coco("labels.json", export.items)


@layout("FiftyOne VOCDetectionDataset", "voc", shift=-1)
def fiftyone_voc(export: Export) -> None:
    for item in export.items:
        export.image(item, f"data/{item.name}")
        head = f"<folder></folder><path>{OTHER_MACHINE}/parts/{item.name}</path>"
        export.voc(item, f"labels/{item.stem}.xml", head=head, difficult="")


# --- formats that are not read


def labelme(export: Export) -> None:
    """LabelMe's own files."""
    for item in export.items:
        export.image(item, item.name)
        export.text(f"{item.stem}.json", labelme_json(item))


def cvat_images(export: Export) -> None:
    """CVAT for images 1.1: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat."""
    lines = []
    for i, item in enumerate(export.items):
        export.image(item, f"images/{item.name}")
        lines.append(f'<image id="{i}" name="{item.name}" width="{item.size_wh[0]}" height="{item.size_wh[1]}">')
        for name, (x1, y1, x2, y2) in item.boxes:
            lines.append(f'<box label="{name}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}"></box>')
        lines.append("</image>")
    export.lines("annotations.xml", ["<annotations><version>1.1</version>", *lines, "</annotations>"])


def label_studio_json(export: Export) -> None:
    """Label Studio's tasks."""
    tasks = []
    for item in export.items:
        export.image(item, f"images/{item.name}")
        regions = [
            {"type": "rectanglelabels", "value": {"x": 1, "y": 1, "rectanglelabels": [n]}} for n, _ in item.boxes
        ]
        tasks.append({"data": {"image": f"/data/upload/1/{item.name}"}, "annotations": [{"result": regions}]})
    export.text("project-1.json", json.dumps(tasks))


def create_ml(export: Export) -> None:
    """CreateML, of labelImg and RectLabel: boxes by their centre."""
    images = []
    for item in export.items:
        export.image(item, item.name)
        boxes = [
            {
                "label": name,
                "coordinates": {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1},
            }
            for name, (x1, y1, x2, y2) in item.boxes
        ]
        images.append({"image": item.name, "annotations": boxes})
    export.text("annotations.json", json.dumps(images))


def vgg_json(export: Export) -> None:
    """VGG JSON of make-sense: src/logic/export/polygon/VGGExporter.ts."""
    regions: dict[str, Any] = {}
    for item in export.items:
        export.image(item, item.name)
        shapes = {str(i): {"region_attributes": {"label": name}} for i, (name, _) in enumerate(item.boxes)}
        regions[item.name] = {"fileref": "", "size": 0, "filename": item.name, "base64_img_data": "", "regions": shapes}
    export.text("labels_my-project-name.json", json.dumps(regions))


def oidv4(export: Export) -> None:
    """Open Images: `Class left top right bottom` in pixels: https://github.com/EscVM/OIDv4_ToolKit, OID/Dataset."""
    for item in export.items:
        folder = f"OID/Dataset/{'validation' if item.split == 'val' else item.split}/Nut"
        export.image(item, f"{folder}/{item.name}")
        export.lines(f"{folder}/Label/{item.stem}.txt", [f"Nut {' '.join(map(str, box))}" for _, box in item.boxes])


def oidv6(export: Export) -> None:
    """Open Images, with `labels` among the images: https://github.com/DmitryRyumin/OIDv6, `--multi_classes`."""
    for item in export.items:
        folder = f"multidata/{'validation' if item.split == 'val' else item.split}"
        export.image(item, f"{folder}/{item.name}")
        export.lines(f"{folder}/labels/{item.stem}.txt", [f"nut {' '.join(map(str, box))}" for _, box in item.boxes])


OTHER_FORMATS = (labelme, cvat_images, label_studio_json, create_ml, vgg_json, oidv4, oidv6)


# --- reading back


def read_back(config: DatasetConfig, root: Path) -> dict[str, Images]:
    """Return what the readers find: images by path below `root`, with their boxes by class name, rounded."""
    found: dict[str, Images] = {}
    for split in split_names(config):
        annotations = read_annotations(config, split)
        assert annotations.errors == (), [f"{error.location}: {error.message}" for error in annotations.errors]
        names = annotations.labels.names
        for record in annotations.records:
            path = record.path.resolve().relative_to(root.resolve()).as_posix()
            boxes = zip(record.boxes.label.tolist(), record.boxes.xyxy.tolist(), strict=True)
            rounded = sorted((names[label], tuple(round(side, 1) for side in xyxy)) for label, xyxy in boxes)
            assert path not in found.setdefault(split, {}), f"{path} twice in {split}"
            found[split][path] = rounded
    return found
