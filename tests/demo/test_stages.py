import numpy as np
import pytest
from PIL import Image

from yolo9k.datasets.read import read_annotations
from yolo9k.datasets.toy import write_toy
from yolo9k.demo import configure, detect_some
from yolo9k.errors import ConfigError
from yolo9k.samples import Detections


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"), {"train": 12}, side_px=96)


@pytest.fixture(scope="module")
def records(dataset):
    return read_annotations(dataset, "train").records


def test_configure_fills_in_data_set_anchors_and_overrides(dataset, records):
    config, anchors = configure(dataset, records, ["train.steps=7", "model.num_anchors=3"], seed=5)
    assert config.data.dataset == dataset
    assert [list(wh) for wh in config.model.anchors] == anchors.rounded()
    assert len(config.model.anchors) == 3
    assert (config.train.steps, config.train.seed) == (7, 5)


def test_configure_names_a_wrong_override(dataset, records):
    with pytest.raises(ConfigError, match=r"train\.step"):
        configure(dataset, records, ["train.step=7"])


def test_detect_some_writes_each_picture_and_a_mosaic(records, tmp_path):
    def detector(image):
        box = np.array([[10, 10, 60, 60]], np.float32)
        return Detections(box, np.array([0.9], np.float32), np.array([0]), ("disc",))

    overview, *pictures = detect_some(detector, records[:3], tmp_path)
    assert overview.is_file()
    assert [path.stem for path in pictures] == [record.path.stem for record in records[:3]]
    drawn, plain = np.asarray(Image.open(pictures[0])), np.asarray(Image.open(records[0].path))
    assert drawn.shape == plain.shape
    assert (drawn[10, 15:55] != plain[10, 15:55]).any()
    assert (drawn[30:50, 30:50] == plain[30:50, 30:50]).all()
