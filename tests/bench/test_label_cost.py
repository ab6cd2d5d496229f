import json

import torch

from yolo9k import cli
from yolo9k.bench.label_cost import FLAT_LABELS, VARIANTS, DenseStep, _random_batch, compare, measure
from yolo9k.build import build_network
from yolo9k.config import load_config
from yolo9k.training.tasks.detection import DetectionStep, build_loss

SETTINGS = [
    "model.name=yolov2-tiny", "model.width=0.1", "model.anchors=[[1,1],[2,1]]", "data.size=96", "train.batch=6",
    "train.device=cpu", "train.precision=float32",
]  # fmt: skip


def test_each_variant_is_measured(random_tree):
    tree, config = random_tree(0), load_config(None, SETTINGS)
    costs = {variant: measure(config, variant, tree.to_dict(), 1, False) for variant in VARIANTS}
    assert [costs[variant].labels for variant in VARIANTS] == [FLAT_LABELS, len(tree), len(tree)]
    assert costs["sparse"].parameters == costs["dense"].parameters
    for cost in costs.values():
        assert min(cost.training_step, cost.optimizer_step, cost.detection, cost.evaluation) > 0
        assert cost.memory > 10_000_000


def test_sparse_and_dense_have_the_same_losses(random_tree):
    """Otherwise the two would not measure the same work."""
    tree, config = random_tree(2), load_config(None, SETTINGS)
    torch.manual_seed(0)
    network = build_network(config.model, tree).eval()
    batch = _random_batch(6, (96, 96), len(tree), False)
    assert len(batch.image_label) == 4
    options = {"device": torch.device("cpu"), "precision": "float32", "batch_size": 6}
    sparse, dense = (
        kind(network, build_loss(config, network, tree), **options)(batch, batch.normalised(), 10**9)
        for kind in (DetectionStep, DenseStep)
    )
    assert sparse.keys() == dense.keys()
    for name in sparse:
        assert torch.allclose(sparse[name], dense[name], rtol=1e-4)


def test_comparison_and_command(tmp_path, random_tree, monkeypatch, capsys):
    (tmp_path / "t.txt").write_text("a\n  b\n  c\nd\n")
    target = tmp_path / "cost.json"
    arguments = ["yolo9k", "bench", "labels", "--tree", str(tmp_path / "t.txt"), "--size", "64", "--batch", "2"]
    arguments += ["--steps", "1", "--rounds", "1", "--json", str(target), "--config", "yolov2-tiny-voc"]
    for setting in ("model.width=0.1", "train.device=cpu", "train.precision=float32"):
        arguments += ["--set", setting]
    monkeypatch.setattr("sys.argv", arguments)
    monkeypatch.setattr(cli.sys, "exit", lambda code: None)
    cli.main()
    report = json.loads(target.read_text())
    assert report["ratios"]["flat"]["training_step"] == 1
    assert set(report["costs"]) == set(VARIANTS)
    assert "training step (s)" in capsys.readouterr().out


def test_ratios_are_those_of_each_round(random_tree):
    config = load_config(None, SETTINGS)
    comparison = compare(config, random_tree(0), steps=1, rounds=1)
    for variant in VARIANTS:
        assert (
            comparison.ratios[variant]["training_step"]
            == comparison.costs[variant].training_step / comparison.costs["flat"].training_step
        )
