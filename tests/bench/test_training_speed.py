import json
import sys

import pytest
from toy_data import write_toy

from yolo9k import cli
from yolo9k.bench import training_speed
from yolo9k.config import dump, load_config

SETTINGS = [
    "model.name=yolov2-tiny", "model.width=0.1", "model.anchors=[[1,1]]", "data.size=64", "data.sizes=[64,96]",
    "data.workers=1", "train.batch=4", "train.accumulate=2", "train.device=cpu", "train.precision=float32",
]  # fmt: skip


@pytest.fixture
def toy(tmp_path):
    path = tmp_path / "toy.yaml"
    path.write_text(dump(write_toy(tmp_path / "toy", {"train": 6}, side_px=64)))
    return path


def test_measures_training_against_the_bare_network(toy):
    speed = training_speed.measure(load_config(None, [*SETTINGS, f"data.dataset={toy}"]), steps=2, rounds=2)
    assert (speed.device, speed.precision, speed.size) == ("cpu", "float32", "64x64, batch 4")
    assert speed.bare > 0
    assert speed.training > 0
    assert 0 < speed.ratio < 2
    assert 0 < speed.loss_ratio < 2


def test_workers_load_until_the_end_of_the_measurement(toy, monkeypatch):
    """Otherwise batches that were loaded before the measurement would count as free."""
    lengths = []
    original = training_speed.load_batches

    def count_steps(images, sampler, workers):
        lengths.append(len(sampler))
        return original(images, sampler, workers)

    monkeypatch.setattr(training_speed, "load_batches", count_steps)
    training_speed.measure(load_config(None, [*SETTINGS, f"data.dataset={toy}"]), steps=3, rounds=1)
    assert lengths == [training_speed.WARMUP_STEPS + 3 + training_speed.PREFETCH_FACTOR]


def test_the_command(toy, monkeypatch, capsys):
    config = toy.with_name("tiny.yaml")
    config.write_text("")
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    options = ["--dataset", str(toy), "--config", str(config), "--steps", "2", "--rounds", "1", "--json", "-"]
    monkeypatch.setattr(sys, "argv", ["yolo9k", "bench", "train", *options, *sets])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    out, err = capsys.readouterr()
    assert set(json.loads(out)) == {"yolo9k", "device", "precision", "size", "bare", "training", "ratio", "loss_ratio"}
    assert "training speed / bare network speed" in err
