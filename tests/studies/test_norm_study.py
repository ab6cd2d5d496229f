"""The norm study: its configs, runs, resuming, report and command."""

import json
import math
import os
import signal
from contextlib import nullcontext

import pytest
import torch
from toy_data import write_toy

from studies import series
from studies.__main__ import app
from studies.norms import NormGrid, NormRun, Score, Settings, batch_changes, to_dict
from studies.norms_report import figure, markdown, table_rows
from yolo9k import checkpoint, cli
from yolo9k.config import Config, dump, updated
from yolo9k.config.schema import TrainConfig
from yolo9k.errors import ConfigError, DataError, DivergedError, Stopped, WeightsError
from yolo9k.training.output.callbacks import Callback

SMALL = (
    "model.width=0.1", "model.anchors=[[1,1]]", "data.size=64", "data.fit_aspect=false", "data.workers=0",
    "train.device=cpu", "train.precision=float32",
)  # fmt: skip


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"), {"train": 4, "val": 2}, side_px=64)


def settings(toy, *overrides, **changes):
    return Settings(**{"config": "small", "dataset": toy, "images": 4, "overrides": (*SMALL, *overrides), **changes})


def test_all_batch_sizes_train_on_the_same_number_of_images():
    def config_for(batch, **options):
        config = Config(train=TrainConfig(batch=8, lr=0.1, **options))
        return updated(config, batch_changes(config.train, batch, 96)).train

    options = {"accumulate": 2, "warmup": 10, "ema": 0.99, "steps": 7, "eval_every": 3, "patience": 1}
    for batch, steps in ((1, 96), (4, 24), (16, 6), (100, 1)):
        config = config_for(batch, **options)
        assert (config.batch, config.steps, config.accumulate, config.eval_every) == (batch, steps, 1, 0)
        assert config.lr == pytest.approx(0.1 * batch / 8)
        assert config.warmup == round(10 * 8 / batch)
        assert config.ema == pytest.approx(0.99 ** (batch / 8))
    assert config_for(2, optimizer="adamw").lr == pytest.approx(0.05)
    assert config_for(2, optimizer="adamw").ema == 0


def test_runs_are_trained_once(toy, tmp_path, monkeypatch):
    common = settings(toy)
    grid = NormGrid(tmp_path / "grid", common, ("batch", "group"), (1, 4), 1)
    assert grid.runs == [NormRun("batch", 1, 0), NormRun("group", 1, 0), NormRun("batch", 4, 0), NormRun("group", 4, 0)]
    scores = [grid.train(run, Callback()) for run in grid.runs]
    steps = [
        checkpoint.load(tmp_path / "grid" / folder / "seed-0" / "checkpoints" / "last.pt").training["next_step"]
        for folder in ("batch-1", "group-1", "batch-4", "group-4")
    ]
    assert steps == [4, 4, 1, 1]
    monkeypatch.setattr(series, "train", None)  # training again would fail
    again = NormGrid(tmp_path / "grid", common, ("batch", "group"), (1, 4), 1)
    assert [again.train(run, Callback()) for run in again.runs] == scores
    assert [run["map50"] for run in to_dict(again)["cells"]] == [score.map50 for score in scores]
    with pytest.raises(ConfigError, match="runs with another images: 4, not 8"):
        NormGrid(tmp_path / "grid", settings(toy, images=8), ("batch",), (1,), 1)


def test_an_interrupted_run_is_resumed(toy, tmp_path, monkeypatch):
    class StepRecorder(Callback):
        def __init__(self, last):
            self.last, self.steps = last, []

        def on_step(self, step, size_wh):
            self.steps.append(step)
            if step == self.last:
                os.kill(os.getpid(), signal.SIGINT)  # the run is saved and stopped after this step

    common = settings(toy, images=8)
    whole = NormGrid(tmp_path / "whole", common, ("batch",), (2,), 1)
    grid = NormGrid(tmp_path / "grid", common, ("batch",), (2,), 1)
    (run,) = grid.runs
    with pytest.raises(Stopped):
        grid.train(run, StepRecorder(1))
    assert grid.score(run) is None
    monkeypatch.setattr(series, "train", None)
    rest = StepRecorder(None)
    score = grid.train(run, rest)
    assert rest.steps == [2, 3]
    monkeypatch.undo()
    assert whole.train(run, Callback()) == score


def test_frozen_norms_keep_the_statistics_of_the_weights(toy, tmp_path):
    with pytest.raises(ConfigError, match="--kind frozen: requires pretrained weights"):
        NormGrid(tmp_path / "none", settings(toy), ("frozen",), (1,), 1)
    with pytest.raises(WeightsError, match="nowhere"):
        NormGrid(tmp_path / "none", settings(toy, weights="nowhere.pt"), ("frozen",), (1,), 1)
    first = NormGrid(tmp_path / "first", settings(toy), ("batch",), (4,), 1)
    first.train(first.runs[0], Callback())
    source = str(tmp_path / "first" / "batch-4" / "seed-0")
    grid = NormGrid(tmp_path / "second", settings(toy, weights=source), ("frozen", "group"), (4,), 1)
    for run in grid.runs:
        grid.train(run, Callback())
    pretrained = checkpoint.load(checkpoint.find(source)).weights
    frozen = checkpoint.load(tmp_path / "second" / "frozen-4" / "seed-0" / "checkpoints" / "last.pt")
    assert frozen.config.model.norm.kind == "frozen"
    names = [name for name in pretrained if ".norm." in name]
    assert names
    assert all(torch.equal(frozen.weights[name], pretrained[name]) for name in names)


@pytest.mark.parametrize(
    ("kind", "overrides", "message"),
    [
        ("layer", (), r"model\.norm\.kind=layer: must be 'batch', 'group', 'frozen', 'sync' or 'none'"),
        (
            "batch",
            ("train.schedule={policy: steps, at: [2], scales: [0.1]}",),
            r"train\.schedule\.policy: must be one of const",
        ),
        (
            "batch",
            ("train.lr=1e6", "train.batch=1"),
            r"^small, batch norm, batch size 64: train\.lr: must be .* 1000000",
        ),
        ("batch", ("eval.split=nix",), r"^data set toy: no split 'nix'; it has train, val"),
        ("batch", ("train.seed=3",), r"^--set train\.seed=3: train\.seed is set by the study; remove this override"),
        ("batch", ("model.norm={kind: group}",), r"^--set .*: model\.norm\.kind is set by the study"),
    ],
)
def test_invalid_settings_are_refused(toy, tmp_path, kind, overrides, message):
    with pytest.raises(ConfigError, match=message):
        NormGrid(tmp_path, settings(toy, *overrides), (kind,), (64,), 1)


def test_duplicate_options_are_ignored(toy, tmp_path):
    grid = NormGrid(tmp_path, settings(toy), ("group", "batch", "group"), (2, 2), 1)
    assert grid.runs == [NormRun("group", 2, 0), NormRun("batch", 2, 0)]
    assert (grid.kinds, grid.batches) == (("group", "batch"), (2,))


def test_a_config_that_changed_since_the_first_run(toy, tmp_path):
    mine = tmp_path / "mine.yaml"
    for lr, message in ((0.001, ""), (0.1, r"grid: has runs with another train\.lr: 0\.001, not 0\.1; use another")):
        mine.write_text(f"extends: small\ntrain: {{lr: {lr}}}\n")
        with pytest.raises(ConfigError, match=message) if message else nullcontext():
            grid = NormGrid(tmp_path / "grid", settings(toy, config=str(mine)), ("batch",), (4,), 1)
            grid.train(grid.runs[0], Callback())


def test_an_invalid_score_file(toy, tmp_path):
    grid = NormGrid(tmp_path, settings(toy), ("batch",), (4,), 1)
    (tmp_path / "batch-4" / "seed-0").mkdir(parents=True)
    (tmp_path / "batch-4" / "seed-0" / series.SCORES).write_text('{"mAP": 1}')
    with pytest.raises(DataError, match=r"scores\.json: cannot be read: .*'mAP'; remove it to create it again"):
        grid.train(grid.runs[0], Callback())


@pytest.fixture
def scored(toy, tmp_path, monkeypatch):
    """A grid with fixed mAP50 for seeds 0 and 1; `None` diverged."""
    table = {
        ("batch", 1): (None, None),
        ("batch", 2): (0.1, None),
        ("group", 1): (0.5, 0.7),
        ("group", 2): (0.25, 0.25),
    }

    def train(config, folder, **_):
        value = table[config.model.norm.kind, config.train.batch][config.train.seed]
        if value is None:
            raise DivergedError("step 3: the loss is not finite")
        folder.mkdir(parents=True)
        (folder / "results.csv").write_text(f"step,mAP50,mAP50-95\n1,0.0,0.0\n2,{value},0.125\n")
        return folder

    monkeypatch.setattr(series, "train", train)
    grid = NormGrid(tmp_path / "grid", settings(toy, weights=""), ("batch", "group"), (1, 2), 2)
    for run in grid.runs:
        grid.train(run, Callback())
    return grid


def test_the_table_has_means_and_standard_deviations(scored):
    columns, rows = table_rows(scored, "map50")
    assert columns == ["batch size", "batch norm", "group norm"]
    assert rows == [["1", "2 diverged", f"60.0 ± {math.sqrt(2) * 10:.1f}"], ["2", "10.0, 1 diverged", "25.0 ± 0.0"]]
    assert table_rows(scored, "map50_95")[1][1] == ["2", "12.5, 1 diverged", "12.5 ± 0.0"]
    assert "| 2 | 10.0, 1 diverged | 25.0 ± 0.0 |" in markdown(scored).splitlines()
    assert dict(scored.scores())[NormRun("group", 2, 0)] == Score(0.25, 0.125)


def test_the_plot_has_a_line_for_each_norm(scored):
    lines = {
        axes.get_ylabel(): {line.get_label(): line[0].get_xydata().tolist() for line in axes.containers}
        for axes in figure(scored).axes
    }
    assert lines == {
        "mAP50, %": {"batch": [[2, 10]], "group": [[1, 60], [2, 25]]},
        "mAP50-95, %": {"batch": [[2, 12.5]], "group": [[1, 12.5], [2, 12.5]]},
    }


def test_the_command(toy, tmp_path, capsys):
    (tmp_path / "toy.yaml").write_text(dump(toy))
    out = tmp_path / "out"
    changes = [word for override in SMALL for word in ("--set", override)]
    command = ["norms", "--dataset", tmp_path / "toy.yaml", "--out", out, "--images", "2", "--batch", "2"]
    with pytest.raises(SystemExit) as ended:
        cli.run(app, "scripts", [*map(str, command), "--seeds", "1", *changes])
    assert ended.value.code in (0, None)
    assert {path.name for path in out.iterdir()} >= {"norms.md", "norms.json", "norms.png", "batch-2", "group-2"}
    assert [run["kind"] for run in json.loads((out / "norms.json").read_text())["cells"]] == ["batch", "group"]
    assert "group norm" in capsys.readouterr().out


def test_compiled_code_is_reset_before_each_run(toy, tmp_path, monkeypatch):
    """Runs in one process share torch's cache of compiled code, which is limited."""
    resets = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append(1))
    grid = NormGrid(tmp_path, settings(toy), ("batch",), (4,), 2)
    for run in (*grid.runs, *grid.runs):
        grid.train(run, Callback())
    assert len(resets) == 2
