import tarfile

import numpy as np
import pytest

from yolo9k.config import DatasetConfig
from yolo9k.config.datasets import TreeLabels
from yolo9k.datasets.load import read_images
from yolo9k.errors import ConfigError
from yolo9k.evaluation.image_accuracy import evaluate_image_accuracy, image_accuracy
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

TREE = WordTree(("cat", "dog", "poodle", "terrier"), ("cat", "dog", "poodle", "terrier"), (-1, -1, 1, 1))


def make_detections(*labels):
    rows = len(labels)
    return Detections(np.zeros((rows, 4), np.float32), np.linspace(1, 0, rows, dtype=np.float32), np.array(labels, int))


def test_top_1_and_top_5_and_levels_by_hand():
    detections = [
        make_detections(2, 0),
        make_detections(3, 2),
        make_detections(0),
        make_detections(1),
        make_detections(),
    ]
    image_labels = [2, 2, 1, 2, 0]
    scores = image_accuracy(detections, image_labels, TREE)
    assert scores.images == 5
    assert scores.top1 == pytest.approx(1 / 5)  # only the first: "dog" is too coarse for a poodle
    assert scores.top5 == pytest.approx(2 / 5)
    assert scores.levels == ((0, 5, pytest.approx(3 / 5)), (1, 3, pytest.approx(1 / 3)))


def test_a_descendant_of_the_images_label_is_correct():
    assert image_accuracy([make_detections(2)], [1], TREE).top1 == 1


class FixedDetector:
    def __init__(self, labels):
        self.labels = labels

    def class_decoder(self, leaves_only):
        assert leaves_only
        return "leaves"

    def stream_each(self, paths, decodings, **_):
        (decoding,) = decodings
        assert decoding.class_decoder == (None if self.labels.is_flat else "leaves")
        for path in paths:
            yield (make_detections(self.labels.find(path.parent.name)),)


@pytest.fixture
def folder(tmp_path):
    for name in ("cat", "poodle"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "a.jpg").touch()
    (tmp_path / "tree.txt").write_text("cat\ndog\n  poodle\n  terrier\n")
    labels = TreeLabels(tree=str(tmp_path / "tree.txt"))
    return DatasetConfig(kind="folder", root=str(tmp_path), splits={"train": ("images",)}, labels=labels)


def test_over_shards(folder, tmp_path):
    """The same images in a tar file, in any order, are evaluated sorted by name."""
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for name in ("poodle", "cat"):
            tar.add(tmp_path / "images" / name / "a.jpg", f"{name}/a.jpg")
    shards = folder.model_copy(update={"kind": "shards", "splits": {"train": ("all.tar",)}})
    paths = []

    class ShardDetector(FixedDetector):
        def stream_each(self, sources, decodings, **_):
            for source in sources:
                paths.append(str(source))
                yield (make_detections(self.labels.find(source.name.partition("/")[0])),)

    assert evaluate_image_accuracy(ShardDetector(TREE), read_images(shards, "train")).top1 == 1
    assert paths == [f"{tmp_path / 'all.tar'}: {name}/a.jpg" for name in ("cat", "poodle")]


def test_over_a_folder(folder):
    images = read_images(folder, "train")
    assert evaluate_image_accuracy(FixedDetector(TREE), images).top1 == 1
    with pytest.raises(ConfigError, match="must have the same labels"):
        evaluate_image_accuracy(FixedDetector(WordTree.flat(["cat"])), images)
