import json

from yolo9k import cli
from yolo9k.bench.label_cost import FLAT, WAYS, compare, measure
from yolo9k.config import load_config

SETTINGS = [
    "model.name=yolov2-tiny", "model.width=0.1", "model.anchors=[[1,1],[2,1]]", "data.size=96", "train.batch=6",
    "train.device=cpu", "train.precision=float32",
]  # fmt: skip


def test_each_way_is_measured(random_tree):
    tree, config = random_tree(0), load_config(None, SETTINGS)
    costs = {way: measure(config, way, tree.to_dict(), 1, False) for way in WAYS}
    assert [costs[way].labels for way in WAYS] == [FLAT, len(tree), len(tree)]
    assert costs["sparse"].parameters == costs["dense"].parameters
    for cost in costs.values():
        assert min(cost.step, cost.update, cost.detection, cost.evaluation) > 0
        assert cost.memory > 10_000_000


def test_sparse_and_dense_learn_the_same(random_tree):
    """Else the two would not measure the same work."""
    import torch

    from yolo9k.bench.label_cost import DenseStep, _noise
    from yolo9k.build import build_loss, build_network
    from yolo9k.training.tasks.detection import DetectionStep

    tree, config = random_tree(2), load_config(None, SETTINGS)
    torch.manual_seed(0)
    network = build_network(config.model, tree).eval()
    batch = _noise(6, (96, 96), len(tree), False)
    assert len(batch.image_label) == 4
    options = {"device": torch.device("cpu"), "precision": "float32", "images": 6}
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
    words = ["yolo9k", "bench", "labels", "--tree", str(tmp_path / "t.txt"), "--size", "64", "--batch", "2"]
    words += ["--steps", "1", "--rounds", "1", "--json", str(target), "--config", "yolov2-tiny-voc"]
    for setting in ("model.width=0.1", "train.device=cpu", "train.precision=float32"):
        words += ["--set", setting]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(cli.sys, "exit", lambda code: None)
    cli.main()
    found = json.loads(target.read_text())
    assert found["ratios"]["flat"]["step"] == 1
    assert set(found["costs"]) == set(WAYS)
    assert "training step, s" in capsys.readouterr().out


def test_ratios_are_those_of_each_round(random_tree):
    config = load_config(None, SETTINGS)
    found = compare(config, random_tree(0), steps=1, rounds=1)
    for way in WAYS:
        assert found.ratios[way]["step"] == found.costs[way].step / found.costs["flat"].step
