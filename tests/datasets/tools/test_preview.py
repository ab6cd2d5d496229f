from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from yolo9k.config import DatasetConfig, load_config, load_dataset_config
from yolo9k.datasets.joint import Source, TrainingSet, read_training
from yolo9k.datasets.readers.records import Annotations, Record
from yolo9k.datasets.tools.preview import CELL_WH, augmented_mosaic
from yolo9k.drawing import colour
from yolo9k.errors import DataError
from yolo9k.samples import BoxLabels
from yolo9k.wordtree import WordTree

CALM = ["data.augment={geometry: none, hue: 0, saturation: 1, exposure: 1, flip: 0}", "train.batch=2"]


@pytest.fixture
def annotations(tmp_path):
    records = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (64, 32), (9, 9, 9)).save(path)
        records.append(Record(path, (64, 32), BoxLabels.of([[8, 8, 40, 24]], [1], [number == 2]), number))
    return Annotations(tuple(records), WordTree.flat(["cat", "dog"]))


def training(annotations):
    dataset = DatasetConfig(kind="voc", root="x", splits={"train": ("train",)})
    return TrainingSet((Source("x", annotations),), dataset)


def painted(image):
    return (image == colour(1)).all(-1).sum()


def test_images_with_their_boxes(annotations):
    image = augmented_mosaic(training(annotations), load_config(None, [*CALM, "data.size=64x32"]), 4)
    assert image.shape[1] > 2 * CELL_WH[0]
    assert image.shape[0] > 2 * CELL_WH[1]
    assert painted(image) > 1000


def test_ignored_boxes_are_dashed(annotations):
    annotations = replace(annotations, labels=WordTree.flat(["cat", "ignored"]))  # what is written takes equal room
    config = load_config(None, [*CALM, "data.size=64x32"])
    plain, dashed = (
        augmented_mosaic(training(replace(annotations, records=annotations.records[i : i + 1])), config, 1)
        for i in (0, 2)
    )
    assert 0 < painted(dashed) < painted(plain)


def test_more_images_than_a_batch(annotations):
    image = augmented_mosaic(training(annotations), load_config(None, [*CALM, "data.size=32"]), 5)
    assert image.shape[1] > 3 * CELL_WH[0]  # 3 columns, 2 rows


def test_a_bad_image(annotations):
    annotations.records[1].path.write_text("text")
    with pytest.raises(DataError, match=r"1\.png: not a readable image"):
        augmented_mosaic(training(annotations), load_config(None, CALM), 3)
    assert isinstance(
        augmented_mosaic(training(annotations), load_config(None, [*CALM, "data.on_error=skip"]), 3), np.ndarray
    )


def test_labels_of_whole_images_stand_below_them(zoo, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "yolo9k.datasets.tools.preview.mosaic", lambda cells, **given: seen.append((cells, given)) or cells[0]
    )
    joint = read_training(load_dataset_config(zoo / "joint.yaml"))
    augmented_mosaic(joint, load_config(None, [*CALM, "data.size=64"]), 6)
    ((cells, given),) = seen
    captions = given["captions"]
    assert len(cells) == len(captions) == 6
    assert sum(caption.startswith(("poodle: ", "terrier: ", "car: ")) for caption in captions) == 4
    drawn = [(cell == colour(joint.labels.find("dog"))).all(-1).any() for cell in cells]
    assert [not caption.partition(":")[2] for caption in captions] == drawn
