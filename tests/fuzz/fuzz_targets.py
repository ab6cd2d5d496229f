"""What reads the files of strangers: for each parser a valid file, and a function that reads any bytes in its place.

Used by `test_fuzz.py` and, for long runs, by `scripts/fuzz`.
"""

import io
import json
import struct
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from yolo9k import checkpoint, darknet
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import DatasetConfig, load_config
from yolo9k.config.datasets import KindName
from yolo9k.config.loading import load_dataset_config, load_run_config
from yolo9k.darknet.label_files import read_data_file
from yolo9k.darknet.recipe import config_from_cfg
from yolo9k.darknet.weights import conv_layers, read_weights
from yolo9k.datasets.autodetect import detect_dataset
from yolo9k.datasets.load import read_annotations, read_images, split_names
from yolo9k.errors import Yolo9kError
from yolo9k.images import read_image, read_size_wh
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.files import read_map, read_names, read_tree
from yolo9k.wordtree.taxonomy import read_taxonomy
from yolo9k.wordtree.wordnet import read_wordnet

Read = Callable[[bytes], list[str]]  # writes the bytes to a file and reads it; returns the documented errors

LABELS = ("cat", "dog")
CFG = b"""[net]
width=16
height=16
channels=3
batch=4
learning_rate=.001
policy=steps
steps=10,20
scales=.1,.1
[convolutional]
batch_normalize=1
filters=4
size=3
stride=1
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[route]
layers=-2
[reorg]
stride=2
[route]
layers=-1,-3
[convolutional]
filters=16
size=1
activation=linear
[region]
anchors=1,2,3,4
classes=3
coords=4
num=2
softmax=1
thresh=.6
"""
COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 10, 20], "iscrowd": 0, "area": 200},
        {"id": 2, "image_id": 1, "category_id": 7, "segmentation": [[1, 1, 9, 1, 9, 9]], "iscrowd": 0},
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
}
VOC = b"""<?xml version="1.0"?>
<annotation><folder>f</folder><filename>a.png</filename><size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult><truncated>1</truncated>
<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>20</xmax><ymax>30</ymax></bndbox></object></annotation>
"""
NOUNS = (
    b"  1 licence\n00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that\n"
    b"00001930 03 n 02 thing 0 physical_entity 0 001 @ 00001740 n 0000 | x\n"
)
RUN_CONFIG = b"""extends: voc
data: {dataset: voc, size: 320, augment: {hue: 0.1, flip: 0.5}, sizes: [[320, 320], 352]}
model: {anchors: [[1, 2], [3.5, 4]], norm: {kind: batch}}
train: {epochs: 10, lr: 1e-3, batch: 8, checkpoint_every: 10min, lr_factors: {backbone: 0.1}}
"""
CLASSIFIER = b"task: classify\nextends: small-classifier\ndata: {dataset: imagenet, size: 128}\ntrain: {epochs: 3}\n"
DATASET = b"""kind: coco
root: .
splits: {train: [images], test: [{annotations: a.json, images: images}]}
labels: [cat, 'no', 7]
holdout: 0.1
"""
DATA_YAML = b"path: .\ntrain: images\nval:\n  - images\nnc: 2\nnames:\n  0: cat\n  1: dog\nkpt_shape: [17, 3]\n"


@dataclass(frozen=True)
class Target:
    """A parser: `prepare` returns the reader for a folder; `examples`: valid contents of its file."""

    prepare: Callable[[Path], Read]
    examples: tuple[bytes, ...]


def reader_of(name: str, *reads: Callable[[Path], object]) -> Callable[[Path], Read]:
    """Return the target's `prepare` that writes a file `name` and passes its path to each of `reads`."""

    def prepare(folder: Path) -> Read:
        path = folder / name

        def read(content: bytes) -> list[str]:
            path.write_bytes(content)
            return refusals(*(partial(each, path) for each in reads))

        return read

    return prepare


def refusals(*calls: Callable[[], object]) -> list[str]:
    """Run parsers and return their documented errors, each of one line; anything else is a fault of the parser."""
    messages = []
    for call in calls:
        try:
            call()
        except Yolo9kError as error:
            message = str(error)
            if not message or "\n" in message or len(message) > 3000:
                raise AssertionError(f"the message is empty, long or has several lines: {message[:500]!r}") from error
            messages.append(message)
    return messages


def boxes_of(kind: KindName, name: str, *entries: str, labels: tuple[str, ...] = LABELS) -> Callable[[Path], Read]:
    """Return the `prepare` of an annotation file of a data set with the image a.png."""

    def prepare(folder: Path) -> Read:
        (folder / "images").mkdir()
        Image.new("RGB", (40, 30)).save(folder / "images" / "a.png")
        (folder / "classes.txt").write_text("cat\ndog\n")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        config = DatasetConfig(kind=kind, root=str(folder), splits={"train": entries}, labels=labels)

        def read(content: bytes) -> list[str]:
            path.write_bytes(content)
            return refusals(
                partial(read_annotations, config, "train", "stop"),
                partial(read_annotations, config, "train", "skip"),
                partial(read_detected, folder),
            )

        return read

    return prepare


def read_detected(source: Path) -> None:
    """Detect the format of a data set and read its splits."""
    config = detect_dataset(source)
    for split in split_names(config):
        read_annotations(config, split, "skip")


def described_by(name: str, *reads: Callable[[Path], object]) -> Callable[[Path], Read]:
    """Return the `prepare` of a file that describes a data set of one labelled image."""

    def prepare(folder: Path) -> Read:
        for inner in ("images", "labels"):
            (folder / inner).mkdir()
        Image.new("RGB", (40, 30)).save(folder / "images" / "a.png")
        (folder / "labels" / "a.txt").write_text("0 .5 .5 .2 .2\n")
        (folder / "a.names").write_text("cat\ndog\n")
        (folder / "a.tree").write_text("cat -1\ndog -1\n")
        (folder / "a.map").write_text("0\n1\n")
        (folder / "list.txt").write_text("images/a.png\n")
        return reader_of(name, *reads)(folder)

    return prepare


def build(path: Path) -> None:
    """Read a cfg and build its network without memory, and its config."""
    cfg = darknet.read_cfg(path)
    with torch.device("meta"):
        darknet.DarknetNetwork(cfg)
    config_from_cfg(cfg)


def weights(folder: Path) -> Read:
    """Return the reader of Darknet weights."""
    network = darknet.DarknetNetwork(darknet.parse_cfg(CFG.decode(), "a.cfg"))
    return reader_of("a.weights", lambda path: read_weights(path, conv_layers(network)))(folder)


def shards(path: Path) -> None:
    """Read a data set of one tar shard."""
    read_images(
        DatasetConfig(kind="shards", root=str(path.parent), splits={"train": (path.name,)}, labels=LABELS), "train"
    )


def packed() -> bytes:
    """Return a tar shard with two images."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in (("a.png", b"a"), ("a.cls", b"0"), ("b.png", b"b"), ("b.json", b'{"label": 1}')):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def encoded(kind: str, mode: str = "RGB") -> bytes:
    """Return a small image file."""
    buffer = io.BytesIO()
    shape = (6, 8, 3) if mode == "RGB" else (6, 8)
    values = np.arange(np.prod(shape)).reshape(shape).astype(np.uint16 if mode == "I;16" else np.uint8)
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def stored_checkpoint() -> bytes:
    """Return a small checkpoint."""
    config = load_config(None, ["model.anchors=[[1, 2]]", "data.dataset=voc"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pt"
        labels = WordTree(("a",), ("cat",), (-1,), {})
        checkpoint.save(Checkpoint(config, labels, {"x": torch.ones(2)}, {"next_step": 1}), path)
        return path.read_bytes()


WEIGHTS = struct.pack("<iiiQ", 0, 2, 0, 64) + bytes(4 * (4 * 4 + 4 * 27 + 16 * 21))  # of CFG
IMAGES = (
    *(encoded(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")),
    *(encoded(kind, "I;16") for kind in ("PNG", "TIFF")),
    encoded("PNG", "L"),
)

FOUND = (  # by a long run: files that were no documented error
    ("darknet-data", b"train = list.txt\nnames = a.names\nclasses = " + b"1" * 5000),
    ("darknet-data", "train = list.txt\nnames = a.names\nclasses = ²".encode()),
    ("config-yaml", b"train: {lr: \0}"),
)

TARGETS = {
    "darknet-cfg": Target(reader_of("a.cfg", build), (CFG,)),
    "darknet-weights": Target(weights, (WEIGHTS,)),
    "darknet-data": Target(
        described_by("a.data", read_detected, read_data_file),
        (b"classes = 2\ntrain = list.txt\nvalid = list.txt\nnames = a.names\nbackup = x\n",),
    ),
    "darknet-tree-data": Target(
        described_by("a.data", read_data_file), (b"tree = a.tree\nmap=a.map\n# all\nnames = a.names\n",)
    ),
    "image-list": Target(described_by("list.txt", read_detected), (b"images/a.png\n",)),
    "names": Target(reader_of("a.names", read_names), (b"cat\ndog\n",)),
    "map": Target(reader_of("a.map", lambda path: read_map(path, 5)), (b"0\n3\n4\n",)),
    "tree": Target(reader_of("a.tree", read_tree), (b"n1 -1\nn2 0\nn3 0\n",)),
    "taxonomy": Target(reader_of("a.txt", read_taxonomy), (b"animal\n  dog (hound)\n    poodle [n1]\n  cat\ncar\n",)),
    "wordnet": Target(reader_of("data.noun", lambda path: read_wordnet(path.parent)), (NOUNS,)),
    "yolo-labels": Target(
        boxes_of("yolo", "labels/a.txt", "images"), (b"0 .5 .5 .2 .2\n1 0.1 0.1 0.2 0.2\n0 .1 .1 .9 .1 .9 .9 .1 .9\n",)
    ),
    "voc-xml": Target(boxes_of("voc", "Annotations/a.xml", "all"), (VOC,)),
    "coco-json": Target(
        boxes_of("coco", "annotations/train.json", "annotations/train.json"), (json.dumps(COCO).encode(),)
    ),
    "data-yaml": Target(described_by("data.yaml", read_detected), (DATA_YAML,)),
    "config-yaml": Target(reader_of("a.yaml", load_run_config), (RUN_CONFIG, CLASSIFIER)),
    "dataset-yaml": Target(reader_of("a.yaml", load_dataset_config), (DATASET,)),
    "checkpoint": Target(reader_of("a.pt", checkpoint.load), (stored_checkpoint(),)),
    "tar": Target(reader_of("a.tar", shards), (packed(),)),
    "image": Target(reader_of("a.png", read_image, read_size_wh), IMAGES),
}
