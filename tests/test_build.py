from pathlib import Path

import pytest
import torch

from yolo9k.build import (
    build_classifier,
    build_codec,
    build_network,
    build_scores,
)
from yolo9k.config import load_config
from yolo9k.config.classifier import ClassifierModelConfig
from yolo9k.config.schema import ModelConfig
from yolo9k.datasets.readers.records import Record
from yolo9k.errors import ConfigError, DataError
from yolo9k.resolve import with_anchors, with_aspect
from yolo9k.samples import BoxLabels
from yolo9k.training.tasks.detection import build_loss
from yolo9k.wordtree import WordTree

LABELS = WordTree.flat(["a", "b", "c"])
SMALL = ["model.width=0.1", "model.anchors=[[1, 2], [3, 4]]"]


def record(xyxy, size_wh=(416, 416)):
    return Record(Path("a.png"), size_wh, BoxLabels.of(xyxy, [0] * len(xyxy)), "a")


@pytest.mark.parametrize("name", ["yolov2", "yolov2-tiny", "yolov2-tiny-voc", "yolo9000"])
def test_networks_by_name(name):
    config = load_config(None, [*SMALL, f"model.name={name}", "model.norm.momentum=0.5", "model.norm.eps=0.25"])
    network = build_network(config.model, LABELS)
    assert network(torch.zeros(1, 3, 32, 64)).shape == (1, 2 * 8, 1, 2)
    norms = {(m.momentum, m.eps) for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert norms == {(0.5, 0.25)}


def test_the_two_tiny_networks_differ():
    sizes = []
    for name in ("yolov2-tiny", "yolov2-tiny-voc"):
        config = load_config(None, ["model.anchors=[[1, 2]]", f"model.name={name}"])
        with torch.device("meta"):
            sizes.append(build_network(config.model, LABELS).neck.channels)
    assert sizes == [512, 1024]


def test_the_loss_knows_anchors_and_labels():
    config = load_config(None, [*SMALL, "loss.thresh=0.5", "model.classes=logistic"])
    network = build_network(config.model, LABELS)
    loss = build_loss(config, network, LABELS)
    assert loss.codec.anchors.tolist() == [[1, 2], [3, 4]]
    assert loss.codec.centre == 0.5
    assert (loss.options.thresh, loss.scores.kind) == (0.5, "logistic")
    assert build_scores(load_config(None).model, LABELS).kind == "softmax"


def test_loss_and_detection_place_boxes_as_the_config_says():
    config = load_config(None, [*SMALL, "model.location=offset"])
    network = build_network(config.model, LABELS)
    assert build_loss(config, network, LABELS).codec.centre == 0
    codec = build_codec(config.model, network)
    boxes = codec.decode(torch.ones(1, 2, 5, 1, 1))
    assert boxes.cx.flatten().tolist() == [0.5 + 1, 0.5 + 3]


def test_anchors_are_clustered_where_asked():
    boxes = [[0, 0, 32, 64], [0, 0, 320, 160], [10, 10, 42, 74]]
    config = load_config(None, ["model.num_anchors=2"])
    anchors = with_anchors(config, [record(boxes)]).model.anchors
    assert sorted(anchors) == [(1, 2), (10, 5)]
    given = load_config(None, SMALL)
    assert with_anchors(given, []) is given


def test_fewer_anchors_if_fewer_sizes_differ():
    resolved = with_anchors(load_config("small"), [record([[0, 0, 32, 64], [32, 0, 64, 64]])]).model
    assert (resolved.anchors, resolved.num_anchors) == (((1, 2),), 1)


def test_too_few_boxes_for_anchors():
    with pytest.raises(DataError):
        with_anchors(load_config(None), [record([])])


def test_sizes_of_the_images_aspect():
    config = load_config(None, ["data={size: 416, sizes: [320, 352, 608], fit_aspect: true}"])
    fitted = with_aspect(config, [record([], (640, 480)), record([], (640, 480)), record([], (100, 900))]).data
    assert fitted.size == (480, 352)  # 416 * sqrt(4 / 3) = 480.4, 416 / sqrt(4 / 3) = 360.3
    assert fitted.sizes == ((384, 288), (416, 320), (704, 512))
    assert not fitted.fit_aspect
    plain = load_config(None)
    assert with_aspect(plain, []) is plain


def test_logistic_labels_have_no_tree():
    tree = WordTree(("a", "b", "c"), ("a", "b", "c"), (-1, -1, 0))
    with pytest.raises(ConfigError, match=r"model\.classes: logistic needs flat labels"):
        build_scores(ModelConfig(classes="logistic"), tree)
    assert build_scores(ModelConfig(classes="logistic"), WordTree.flat(["a"])).kind == "logistic"


CFG = "[net]\nwidth=32\nheight=32\nchannels=3\n\n[convolutional]\nfilters={}\nsize=1\nstride=1\nactivation=linear\n\n"
REGION = "[region]\nanchors=1,1\nclasses=2\ncoords=4\nnum=1\n"


@pytest.mark.parametrize(
    ("build", "config", "other"),
    [
        (build_network, ModelConfig(name="darknet", cfg=CFG.format(7) + REGION), "yolov2"),
        (
            build_classifier, ClassifierModelConfig(name="darknet", cfg=CFG.format(2) + "[avgpool]\n[softmax]\n"),
            "darknet19",
        ),
    ],
)  # fmt: skip
def test_a_cfg_has_the_classes_that_it_has(build, config, other):
    assert len(build(config, WordTree.flat(["cat", "dog"])).labels) == 2
    with pytest.raises(ConfigError, match=rf"it has 2 classes, but the data set has 3 labels; .* model\.name={other}"):
        build(config, WordTree.flat(["cat", "dog", "cow"]))


def test_the_cfg_of_a_classifier_is_no_detector():
    config = ModelConfig(name="darknet", cfg=CFG.format(2) + "[avgpool]\n[softmax]\n")
    with pytest.raises(ConfigError, match=r"model\.cfg: has no \[region\], so it is not a detector"):
        build_network(config, WordTree.flat(["cat", "dog", "cow"]))
