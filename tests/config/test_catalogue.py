"""Every config that comes with the package loads, and builds what it describes."""

import re

import numpy as np
import pytest
import torch
import yaml

from yolo9k.build import build_classifier, build_network
from yolo9k.config import (
    DatasetConfig,
    JointConfig,
    config_names,
    dataset_names,
    load_classifier_config,
    load_config,
    load_dataset_config,
    load_run_config,
)
from yolo9k.config.catalogue import find, folder
from yolo9k.darknet.cfg import read_cfg
from yolo9k.darknet.recipe import config_from_cfg
from yolo9k.samples import Batch, BoxLabels, Sample
from yolo9k.training.schedule import learning_rate
from yolo9k.training.stages import stages_of
from yolo9k.training.tasks.detection import build_loss
from yolo9k.wordtree import WordTree, read_map
from yolo9k.wordtree.taxonomy import open_tree

SMALL_TREE = WordTree(("animal", "thing", "cat", "dog"), ("animal", "thing", "cat", "dog"), (-1, -1, 0, 0))
RUN_CONFIGS = [load_run_config(name) for name in config_names()]
DETECTORS = [name for name, config in zip(config_names(), RUN_CONFIGS, strict=True) if config.task == "detect"]
CLASSIFIERS = [name for name in config_names() if name not in DETECTORS]
ANY_ANCHORS = "model.anchors=[[0.5,0.5],[1,1.5],[2,2]]"


def load(name):
    """A config with anchors, and the labels of its data set."""
    config = load_config(name)
    if config.model.anchors == "auto":
        config = load_config(name, [ANY_ANCHORS])
    dataset = load_dataset_config(config.data.dataset or "example-yolo")
    return config, SMALL_TREE if isinstance(dataset, JointConfig) else WordTree.flat(dataset.labels)


def batch_of(size_wh, labels):
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    samples = [Sample(image, BoxLabels.of([[4, 4, 30, 40]], [0]), "a")]
    if not labels.is_flat:
        samples.append(Sample(image, BoxLabels.of([], []), "b", image_label=len(labels) - 1))
    return Batch.of(samples)


@pytest.mark.parametrize("name", DETECTORS)
def test_each_config_builds_and_learns(name):
    config, labels = load(name)
    config = config.model_copy(update={"model": config.model.model_copy(update={"width": 0.1})})
    network = build_network(config.model, labels)
    batch = batch_of((64, 96), labels)
    raw = network(batch.normalised())
    assert raw.shape == (len(batch), len(config.model.anchors) * (5 + len(labels)), 3, 2)
    losses = build_loss(config, network, labels)(network.head, network.features(batch.normalised()), batch, seen=1)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", DETECTORS)
def test_each_config_has_a_schedule_that_starts_and_ends(name):
    config = load_config(name)
    total = config.train.steps or 16000
    rates = [learning_rate(update, total, total / 160, config.train) for update in range(1, total + 1, 7)]
    assert 0 < rates[0] < config.train.lr
    assert max(rates) == pytest.approx(config.train.lr, rel=0.05)
    assert rates[-1] < config.train.lr / 10


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_each_classifier_builds(name):
    model = load_classifier_config(name).model.model_copy(update={"width": 0.1})
    assert build_classifier(model, WordTree.flat(["a", "b"]))(torch.rand(2, 3, 64, 96)).shape == (2, 2)


@pytest.mark.parametrize("name", ["darknet19-imagenet", "darknet19-wordtree1k"])
def test_each_classifier_has_the_stages_of_the_paper(name):
    config = load_classifier_config(name)
    first, second = stages_of(config, 10010.0)  # ILSVRC's 1,281,167 images
    assert (first.sizes, second.sizes) == (((224, 224),), ((448, 448),))
    assert (first.stop, second.stop) == (160 * 10010, 170 * 10010)
    assert first.learning_rate(0, 10010.0) == pytest.approx(0.1, rel=1e-4)
    assert first.learning_rate(first.stop // 2 - 1, 10010.0) == pytest.approx(0.1 / 2**4)
    assert second.learning_rate(second.start, 10010.0) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("name", dataset_names())
def test_each_data_set_says_what_it_is(name):
    config = load_dataset_config(name)
    assert config.name == name
    parts = [source.dataset for source in config.sources] if isinstance(config, JointConfig) else [config]
    for part in parts:
        assert len(set(part.classes)) == len(part.classes)
        assert part.classes or part.kind == "folder"
        assert "train" in part.splits


def test_the_published_data_sets():
    assert len(load_dataset_config("voc").labels) == 20
    assert len(load_dataset_config("coco").labels) == 80


@pytest.mark.parametrize("name", ["voc", "voc.yaml", "voc.yml"])
def test_names_work_with_and_without_a_suffix(name):
    assert find(name) == (folder() / "voc.yaml").resolve()
    assert find(name, dataset=True) == (folder() / "datasets" / "voc.yaml").resolve()


def test_a_path_comes_before_the_catalogue(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "voc.yaml").write_text("train: {lr: 0.5}\n")
    assert load_config("voc.yaml").train.lr == 0.5
    assert load_config("voc").train.lr == 0.001


@pytest.mark.parametrize("name", ["../pyproject", "datasets/../../README", "", "nothing", "/etc/passwd.yaml"])
def test_nothing_outside_is_found(name):
    assert find(name) is None


def test_yolo9000_is_that_of_the_cfg_and_the_paper(shared):
    config = load_config("yolo9000")
    official = config_from_cfg(read_cfg(shared("golden", "darknet", "cfg", "yolo9000.cfg")))
    assert config.model.anchors == pytest.approx(np.array(official.model.anchors))
    assert config.data.size == official.data.size == (544, 544)
    assert config.data.sizes == official.data.sizes
    assert config.train.steps == official.train.steps
    assert (config.train.lr, config.train.warmup) == (official.train.lr, official.train.warmup)
    assert config.train.schedule.at == official.train.schedule.at
    for key in ("jitter", "hue", "saturation", "exposure"):
        assert getattr(config.data.augment, key) == getattr(official.data.augment, key)
    for key in ("object_scale", "noobject_scale", "class_scale", "coord_scale", "thresh", "rescore", "bias_match"):
        assert getattr(config.loss, key) == getattr(official.loss, key)
    assert [(s.use, s.weight) for s in load_dataset_config("yolo9000").sources] == [("boxes", 1), ("images", 4)]


def test_cocos_names_in_wordnet_are_those_of_darknets_map(shared):
    coco, _ = load_dataset_config("yolo9000").sources
    tree = open_tree(shared("golden", "wordtree", "9k.tree"))
    mapped = read_map(shared("golden", "wordtree", "coco9k.map"), len(tree))
    assert [tree.find(coco.names[name]) for name in coco.dataset.classes] == list(mapped)


def test_the_data_sets_of_the_documentation_are_configs():
    text = (folder().parent / "docs" / "wordtree.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    joint = [JointConfig.model_validate(block) for block in blocks if "sources" in block]
    single = [DatasetConfig.model_validate(block) for block in blocks if "kind" in block]
    assert [source.weight for source in joint[0].sources] == [1, 4]
    assert {config.kind for config in single} == {"yolo", "folder", "shards"}
