import numpy as np
import pytest
import torch
from PIL import Image

from yolo9k.datasets.joint import read_training
from yolo9k.datasets.load import read_annotations
from yolo9k.demo import configure, evaluate, write_detections
from yolo9k.demo.toy_joint import COARSE_CLASSES, write_toy_joint
from yolo9k.errors import ConfigError
from yolo9k.samples import Detections


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy_joint(tmp_path_factory.mktemp("toy"), scenes=12, singles=1, tests=6, side_px=96)


@pytest.fixture(scope="module")
def dataset(toy):
    return toy.joint


@pytest.fixture(scope="module")
def records(dataset):
    return read_training(dataset).box_records


def test_configure_sets_data_set_anchors_and_overrides(dataset, records):
    config, anchors = configure(dataset, records, ["train.steps=7", "model.num_anchors=3"], seed=5)
    assert config.data.dataset == dataset
    assert [list(wh) for wh in config.model.anchors] == anchors.rounded()
    assert len(config.model.anchors) == 3
    assert (config.train.steps, config.train.seed) == (7, 5)


def test_configure_names_an_unknown_override(dataset, records):
    with pytest.raises(ConfigError, match=r"train\.step"):
        configure(dataset, records, ["train.step=7"])


def test_write_detections_writes_each_image_and_a_mosaic(records, tmp_path):
    def detector(image):
        box = np.array([[10, 10, 60, 60]], np.float32)
        return Detections(box, np.array([0.9], np.float32), np.array([0]), ("disc",))

    overview, *images = write_detections(detector, records[:3], tmp_path)
    assert overview.is_file()
    assert [path.stem for path in images] == [record.path.stem for record in records[:3]]
    drawn, plain = np.asarray(Image.open(images[0])), np.asarray(Image.open(records[0].path))
    assert drawn.shape == plain.shape
    assert (drawn[10, 15:55] != plain[10, 15:55]).any()
    assert (drawn[30:50, 30:50] == plain[30:50, 30:50]).all()


class PerfectDetector:
    """Detects every box of the test images, with labels down to `levels` levels of the tree."""

    supervision = None
    default_decoder = "deepest"
    size_wh = (64, 64)
    device = torch.device("cpu")

    def __init__(self, test, levels):
        self.test, self.labels, self.levels = test, test.labels, levels

    def multi_label_decoder(self, nodes):
        return "all"

    def stream_each(self, paths, decodings, **_):
        for record in self.test.records:
            yield tuple(self.detections_of(record, each.class_decoder) for each in decodings)

    def detections_of(self, record, class_decoder):
        paths_in_tree = [self.labels.path(int(label))[::-1][: self.levels] for label in record.boxes.label]
        rows = [
            (box, node)
            for box, path in zip(record.boxes.xyxy, paths_in_tree, strict=True)
            for node in (path if class_decoder == "all" else path[-1:])
        ]
        xyxy = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
        nodes = np.array([node for _, node in rows], np.int64)
        return Detections(xyxy, np.ones(len(rows), np.float32), nodes, self.labels.names)


@pytest.mark.parametrize(("levels", "weakly_supervised"), [(3, 1.0), (1, 0.0)])
def test_mean_scores_by_supervision(toy, levels, weakly_supervised):
    test = read_annotations(toy.test, "test")
    scores, _, means = evaluate(PerfectDetector(test, levels), test)
    assert means.box_supervised == 1
    assert means.weakly_supervised == weakly_supervised
    assert {row.name for row in scores.classes} > set(COARSE_CLASSES)
