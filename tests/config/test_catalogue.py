"""Every config that comes with the package loads, and builds what it describes."""

import numpy as np
import pytest
import torch

from yolo9k.build import build_loss, build_network
from yolo9k.config import config_names, dataset_names, load_config, load_dataset_config
from yolo9k.config.catalogue import find, folder
from yolo9k.samples import Batch, BoxLabels, Sample
from yolo9k.training.schedule import learning_rate
from yolo9k.wordtree import WordTree

ANY_ANCHORS = "model.anchors=[[0.5,0.5],[1,1.5],[2,2]]"


def load(name):
    """A config with anchors, and the labels of its data set."""
    config = load_config(name)
    if config.model.anchors == "auto":
        config = load_config(name, [ANY_ANCHORS])
    return config, WordTree.flat(load_dataset_config(config.data.dataset or "example-yolo").labels)


def batch_of(size_wh):
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    return Batch.of([Sample(image, BoxLabels.of([[4, 4, 30, 40]], [0]), "a")])


@pytest.mark.parametrize("name", config_names())
def test_each_config_builds_and_learns(name):
    config, labels = load(name)
    config = config.model_copy(update={"model": config.model.model_copy(update={"width": 0.1})})
    network = build_network(config.model, labels)
    batch = batch_of((64, 96))
    raw = network(batch.normalised())
    assert raw.shape == (1, len(config.model.anchors) * (5 + len(labels)), 3, 2)
    losses = build_loss(config, network, labels)(network.head, network.features(batch.normalised()), batch, seen=1)
    total = torch.stack(list(losses.values())).sum()
    total.backward()
    assert total.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("name", config_names())
def test_each_config_has_a_schedule_that_starts_and_ends(name):
    config = load_config(name)
    total = config.train.steps or 16000
    rates = [learning_rate(update, total, total / 160, config.train) for update in range(1, total + 1, 7)]
    assert 0 < rates[0] < config.train.lr
    assert max(rates) == pytest.approx(config.train.lr, rel=0.05)
    assert rates[-1] < config.train.lr / 10


@pytest.mark.parametrize("name", dataset_names())
def test_each_data_set_says_what_it_is(name):
    config = load_dataset_config(name)
    assert config.name == name
    assert len(set(config.labels)) == len(config.labels) > 0
    assert "train" in config.splits


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
