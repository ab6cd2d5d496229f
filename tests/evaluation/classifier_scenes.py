"""Labelled images on disk and a classifier with fixed predictions for each image."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from yolo9k.config import DatasetConfig
from yolo9k.datasets.load import ImageSet, read_images
from yolo9k.errors import DataError
from yolo9k.inference.classifier import LogitBatch
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

IDS = ("animal", "device", "dog", "cat", "clock", "terrier", "poodle")
TREE = WordTree(IDS, IDS, (-1, -1, 0, 0, 1, 2, 2))
FLAT = WordTree.flat(["cat", "dog", "eel"])

# Conditional probabilities for each image file; labels that are not listed have 1.
SURE = {"animal": 0.9, "device": 0.1, "dog": 0.9, "cat": 0.1, "terrier": 0.9, "poodle": 0.1}
UNSURE = {**SURE, "terrier": 0.6, "poodle": 0.4}
CLOCKS = {**SURE, "animal": 0.1, "device": 0.9}
IN_TREE = {
    "dog/0.png": SURE,
    "poodle/0.png": UNSURE,
    "terrier/0.png": UNSURE,
    "terrier/1.png": SURE,
    "terrier/2.png": CLOCKS,
    "clock/0.png": CLOCKS,
}
OF_FLAT = {
    "cat/0.png": {"cat": 0.7, "dog": 0.2, "eel": 0.1},
    "cat/1.png": {"cat": 0.2, "dog": 0.7, "eel": 0.1},
    "cat/2.png": {"cat": 0.3, "dog": 0.6, "eel": 0.1},
    "dog/0.png": {"cat": 0.1, "dog": 0.8, "eel": 0.1},
}


class FixedClassifier:
    """A stand-in for `ImageClassifier` with fixed logits per file; `bad.png` cannot be read."""

    def __init__(self, predictions: dict[str, dict[str, float]], labels: WordTree) -> None:
        self.predictions, self.labels, self.softmax = predictions, labels, HierarchicalSoftmax(labels)

    def stream_logits(self, images, *, batch, on_unreadable) -> Iterator[LogitBatch]:
        images = list(images)
        for start in range(0, len(images), batch):
            paths = images[start : start + batch]
            is_read = [path.name != "bad.png" for path in paths]
            for path in paths:
                if path.name == "bad.png":
                    error = DataError(f"{path}: not a readable image")
                    if on_unreadable is None:
                        raise error
                    on_unreadable(error)
            rows = [self._logits(path) for path, flag in zip(paths, is_read, strict=True) if flag]
            yield LogitBatch(is_read, torch.tensor(rows).reshape(-1, len(self.labels)))

    def _logits(self, path: Path) -> list[float]:
        probabilities = self.predictions[f"{path.parent.name}/{path.name}"]
        return [math.log(probabilities.get(name, 1.0)) for name in self.labels.ids]


def image_set(folder: Path, names: dict, **labels) -> ImageSet:
    """Write images with these names and read them as a data set of kind folder; `labels`: more of its config."""
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name == "bad.png":
            path.write_text("text")
        else:
            Image.fromarray(np.full((24, 32, 3), 10 * index, np.uint8)).save(path)
    return read_images(DatasetConfig(kind="folder", root=str(folder), splits={"val": (".",)}, **labels), "val")


def in_tree(folder: Path) -> ImageSet:
    """Return the images of `IN_TREE`, labelled with nodes of `TREE`."""
    taxonomy = folder / "tree.txt"
    folder.mkdir(parents=True, exist_ok=True)
    taxonomy.write_text("animal\n  dog\n    terrier\n    poodle\n  cat\ndevice\n  clock\n")
    return image_set(folder / "images", IN_TREE, labels={"tree": str(taxonomy)})
