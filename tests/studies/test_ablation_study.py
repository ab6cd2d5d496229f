"""The ablation from YOLO to YOLOv2: its configs, runs, resuming, report and command."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image
from toy_data import write_toy

from studies import ablation, series
from studies.__main__ import app
from studies.ablation import ROWS, Ablation, Score, Settings, find_split, select_rows
from studies.ablation_report import markdown, summaries, to_dict, write_report
from yolo9k import checkpoint, cli
from yolo9k.config import DatasetConfig, config_names, dump, load_config
from yolo9k.errors import ConfigError, DataError, DivergedError, Stopped, WeightsError
from yolo9k.training.output.callbacks import Callback

SMALL = (
    "model.width=0.1", "model.num_anchors=2", "data.workers=0", "train.epochs=null", "train.steps=1", "train.batch=2",
    "train.device=cpu", "train.precision=float32", "train.eval_every=0", "train.schedule.policy=constant",
)  # fmt: skip
NOWHERE = DatasetConfig(kind="yolo", root="nowhere", splits={"train": ("a",)}, labels=("a",), name="nowhere")


def flat(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def changed(name, other):
    before, after = (dict(flat(load_config(config).model_dump(mode="json"))) for config in (name, other))
    return {key: after[key] for key in after if before[key] != after[key]}


# --- the configs


def test_every_config_is_a_row():
    assert [f"ablation/{row.name}" for row in ROWS] == [n for n in config_names() if n.startswith("ablation/")]


def test_each_row_changes_one_thing():
    expected = [
        {"model.norm.kind": "batch"},
        {},
        {"model.anchors": "auto"},
        {"model.location": "direct"},
        {"model.passthrough": "darknet"},
        {"data.sizes": [[size, size] for size in range(320, 609, 32)]},
        {"data.size": [544, 544]},
    ]
    names = [f"ablation/{row.name}" for row in ROWS]
    assert [changed(*pair) for pair in pairwise(names)] == expected


def test_the_path_ends_at_yolov2():
    assert changed("voc", "ablation/7-multi-scale") == {
        "model.anchors": "auto"
    }  # clustered; voc.yaml has the result of a clustering


def test_the_hand_picked_anchors_are_those_of_faster_r_cnn():
    to_cells = 416 / 500 / (600 / 375) / 32  # from a shorter side of 600 pixels to letterboxed 416
    expected = []
    for side in (128, 256, 512):
        for ratio in (0.5, 1, 2):  # height over width at the same area
            expected.append((side / ratio**0.5 * to_cells, side * ratio**0.5 * to_cells))
    anchors = load_config("ablation/1-plain").model.anchors
    assert [pytest.approx(anchor, abs=0.006) for anchor in expected] == list(anchors)


# --- runs


def test_sizes_and_anchors_scale_with_the_size():
    settings = Settings(NOWHERE, "train", size=224)
    plain, multi, high = (settings.config(ROWS[index]) for index in (0, 6, 7))
    assert plain.data.size == (224, 224)
    assert plain.model.anchors[4] == pytest.approx((2.24, 2.24))
    assert plain.model.anchors[0] == pytest.approx((1.583, 0.792))
    assert multi.data.sizes == tuple((size, size) for size in (160, 192, 224, 256, 288, 320))
    assert high.data.size == (288, 288)  # 544 * 224 / 416 = 292.9
    assert settings.config(ROWS[0], seed=7).train.seed == 7


def test_each_row_starts_from_its_classifier():
    settings = Settings(NOWHERE, "train", classifier="low", classifier_448="high")
    assert [settings.weights(row) for row in ROWS] == ["low"] * 2 + ["high"] * 6
    assert settings.trainable_rows(ROWS) == ROWS
    alone = replace(settings, classifier_448="")
    assert {alone.weights(row) for row in ROWS} == {"low"}
    assert [row.name for row in ROWS if row not in alone.trainable_rows(ROWS)] == ["3-high-resolution-classifier"]
    assert Settings(NOWHERE, "train").weights(ROWS[0]) is None


@pytest.mark.parametrize(
    ("options", "rows", "message"),
    [
        ({"classifier_448": "high"}, ROWS, "--classifier-448: requires --classifier, the classifier of rows 1 and 2"),
        ({"size": 100}, ROWS, "--size: must be a multiple of 32, not 100"),
        ({}, ROWS[2:3], "--only 3-high-resolution-classifier: requires --classifier-448"),
        ({"overrides": ("data.size=64",)}, ROWS, "the rows 7-multi-scale and 8-high-resolution-detector equal"),
        ({"overrides": ("model.anchors=auto",)}, ROWS[:2], "rows 2-batch-norm and 4-dimension-priors equal"),
        (
            {"overrides": ("train.seed=1",)},
            ROWS,
            "--set train.seed=1: train.seed is set by the study; remove this override",
        ),
        ({"size": 32}, ROWS, "--size 32: makes the rows .* equal; use a larger size"),
        ({"size": 8192}, ROWS, "row 7-multi-scale at size 8192: data.sizes: width and height must be at most 8192"),
        ({"overrides": ("train.lrr=1",)}, ROWS, "--set train.lrr=1: unknown key; did you mean train.lr"),
    ],
)
def test_invalid_settings_are_refused(options, rows, message):
    with pytest.raises(ConfigError, match=message):
        Settings(NOWHERE, "train", **options).trainable_rows(rows)


def test_rows_are_selected_by_number_or_name():
    assert select_rows([]) == ROWS
    assert select_rows(["5", "2-batch-norm"]) == (ROWS[1], ROWS[4])
    with pytest.raises(ConfigError, match="--only 9: unknown row; must be one of 1-plain, 2-batch-norm"):
        select_rows(["9"])


def test_the_split_to_evaluate():
    def dataset_with(*splits):
        return NOWHERE.model_copy(update={"splits": dict.fromkeys(splits, ("a",))})

    assert find_split(dataset_with("train", "val", "test")) == "test"
    assert find_split(dataset_with("train", "val")) == "val"
    assert find_split(dataset_with("train", "val", "test"), "train") == "train"
    with pytest.raises(ConfigError, match="data set nowhere: no split 'val'; it has train"):
        find_split(dataset_with("train"))


@pytest.fixture
def toy(tmp_path):
    return write_toy(tmp_path / "toy", {"train": 4, "val": 2}, side_px=64)


@pytest.fixture
def settings(toy):
    return Settings(toy, "val", 64, SMALL)


def fail(*_, **__):
    raise AssertionError("a finished run is repeated")


def test_rows_are_trained_and_evaluated_once(tmp_path, settings, monkeypatch):
    path = Ablation(tmp_path / "out", settings, ROWS[6:], seeds=1)
    assert list(path.jobs()) == [(ROWS[6], 0), (ROWS[7], 0)]
    scores = [path.run(row, seed, Callback()) for row, seed in path.jobs()]
    assert all(0 <= score.map50 <= 1 and not score.diverged for score in scores)
    checkpoints = {file.relative_to(path.series.folder).parts[0] for file in path.series.folder.rglob("*.pt")}
    assert checkpoints == {"7-multi-scale"}  # the last row uses this network on larger images
    score_file = path.series.folder / "7-multi-scale/seed-0/scores.json"
    assert json.loads(score_file.read_text())["recall"] == scores[0].recall
    for name in ("train", "resume", "evaluate_detector"):
        monkeypatch.setattr(ablation if name == "evaluate_detector" else series, name, fail)
    again = Ablation(tmp_path / "out", settings, ROWS[6:], seeds=1)
    assert [again.run(row, seed, Callback()) for row, seed in again.jobs()] == scores


def test_the_last_row_alone_trains_the_network_it_needs(tmp_path, settings, monkeypatch):
    sizes = []
    load = ablation.Detector.load
    monkeypatch.setattr(ablation.Detector, "load", lambda *a, **k: sizes.append(k["size_wh"]) or load(*a, **k))
    path = Ablation(tmp_path / "out", settings, ROWS[7:], seeds=1)
    path.run(ROWS[7], 0, Callback())
    assert (path.series.folder / "7-multi-scale/seed-0/checkpoints/last.pt").exists()
    assert sizes == [(96, 96)]


def test_evaluation_uses_the_aspect_ratio_of_training(tmp_path, monkeypatch):
    sizes = []
    load = ablation.Detector.load
    monkeypatch.setattr(ablation.Detector, "load", lambda *a, **k: sizes.append(k["size_wh"]) or load(*a, **k))
    wide = write_toy(tmp_path / "toy", {"train": 4, "val": 2}, side_px=64)
    for path in Path(wide.root).rglob("*.jpg"):
        with Image.open(path) as image:
            image.resize((256, 64)).save(path)
    settings = Settings(wide, "val", 64, (*SMALL, "data.fit_aspect=true"))
    study = Ablation(tmp_path / "out", settings, ROWS[5:6], seeds=1)
    assert study.run(ROWS[5], 0, Callback()).map50 >= 0
    trained = checkpoint.load(study.series.folder / "6-passthrough/seed-0/checkpoints/last.pt").config.data.size
    assert sizes == [trained] == [(128, 32)]


def test_an_interrupted_run_is_resumed(tmp_path, toy):
    class StopAtOnce(Callback):
        def on_step(self, step, size_wh):
            raise Stopped("interrupted", 130)

    settings = Settings(toy, "val", 64, (*SMALL, "train.steps=2"))
    path = Ablation(tmp_path / "out", settings, ROWS[5:6], seeds=1)
    run = path.series.folder / "6-passthrough/seed-0"
    with pytest.raises(Stopped):
        path.run(ROWS[5], 0, StopAtOnce())
    assert path.score(ROWS[5], 0) is None
    steps = []
    recorder = type("Recorder", (Callback,), {"on_step": lambda self, step, size_wh: steps.append(step)})
    path.run(ROWS[5], 0, recorder())
    assert steps == [0, 1]  # no checkpoint was saved before the interruption
    (run / "scores.json").unlink()
    path.run(ROWS[5], 0, recorder())
    assert steps == [0, 1]  # training is finished: only the evaluation is repeated


def test_a_row_that_diverges_is_a_result(tmp_path, settings, monkeypatch):
    def diverge(config, folder, **_):
        raise DivergedError(f"step 3 of {folder.parent.name}")

    monkeypatch.setattr(series, "train", diverge)
    path = Ablation(tmp_path / "out", settings, ROWS[6:], seeds=1)
    for row, seed in path.jobs():
        assert path.run(row, seed, Callback()).diverged == "step 3 of 7-multi-scale"
    assert "| diverged |" in markdown(path)


def test_a_folder_keeps_its_settings(tmp_path, settings):
    path = Ablation(tmp_path / "out", settings, ROWS[5:6], seeds=1)
    other = replace(settings, size=96)
    assert Ablation(tmp_path / "out", other).settings == other  # there are no runs yet
    path = Ablation(tmp_path / "out", settings, ROWS[5:6], seeds=1)
    path.run(ROWS[5], 0, Callback())
    with pytest.raises(ConfigError, match=r"out: has runs with another size: 64, not 96; use another folder"):
        Ablation(tmp_path / "out", other)
    renamed = replace(settings, dataset=settings.dataset.model_copy(update={"name": "other"}))
    with pytest.raises(ConfigError, match=r"another dataset\.name: 'toy', not 'other'"):
        Ablation(tmp_path / "out", renamed)
    assert Ablation(tmp_path / "out", settings, seeds=5).seeds == 5
    (tmp_path / "out/settings.json").write_text("{")
    with pytest.raises(DataError, match=r"settings\.json: cannot be read"):
        Ablation(tmp_path / "out", settings)


def test_a_missing_classifier_is_an_error_at_once(tmp_path, settings):
    with pytest.raises(WeightsError, match="nothing-here"):
        Ablation(tmp_path / "out", replace(settings, classifier="nothing-here"))
    assert not (tmp_path / "out").exists()


# --- the report


@pytest.fixture
def finished(tmp_path, settings):
    """Two rows with two of three seeds finished; one run diverged."""
    path = Ablation(tmp_path / "out", settings, ROWS[:2], seeds=3)
    scores = {
        (ROWS[0], 0): Score(diverged="step 9"), (ROWS[0], 1): Score(0.25, 0.5, 0.125, 0.75),
        (ROWS[1], 0): Score(0.5, 0.6, 0.2, 0.8), (ROWS[1], 1): Score(0.5, 0.7, 0.2, 0.8),
    }  # fmt: skip
    for (row, seed), score in scores.items():
        file = path.series.folder / row.name / f"seed-{seed}" / "scores.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(vars(score)))
    return path


def test_mean_and_spread_over_seeds(finished):
    plain, normed = summaries(finished)
    assert (plain.values("voc07"), plain.mean("voc07"), plain.spread("voc07"), plain.diverged) == ((50,), 50, None, 1)
    assert normed.mean("voc07") == pytest.approx(65)
    assert normed.spread("voc07") == pytest.approx(50**0.5)  # of 60 and 70
    assert normed.values("coco") == (20, 20)
    assert normed.diverged == 0


def test_the_table_states_dataset_size_and_overrides(finished):
    text = markdown(finished)
    assert "The path to YOLOv2 on toy" in text
    assert "Split val, size 64, from random weights. `--set model.width=0.1` " in text
    assert "| row | adds | paper | mAP (VOC 2007) | ± | mAP50-95 | ± | seeds |" in text
    assert "| 1-plain | plain | 63.4 | 50.0 |  | 12.5 |  | 50.0, diverged |" in text
    assert "| 2-batch-norm | batch norm | 65.8 | 65.0 | 7.1 | 20.0 | 0.0 | 60.0, 70.0 |" in text


def test_the_first_metric_is_that_of_the_configs(finished):
    other = replace(finished.settings, overrides=(*SMALL, "eval.metric=map50"))
    finished.settings = other
    assert "| mAP50 | ± | mAP50-95 |" in markdown(finished)
    finished.settings = replace(finished.settings, overrides=(*SMALL, "eval.metric=coco"))
    assert "| paper | mAP50-95 | ± | seeds |" in markdown(finished)


def test_json_has_every_score(finished):
    values = json.loads(json.dumps(to_dict(finished)))
    assert (values["dataset"], values["size"], values["classifier"]) == ("toy", 64, "")
    assert values["metrics"] == ["voc07", "coco"]
    assert [row["name"] for row in values["rows"]] == ["1-plain", "2-batch-norm"]
    assert values["rows"][0]["scores"]["0"]["diverged"] == "step 9"
    assert values["rows"][1]["mean"] == pytest.approx({"voc07": 65, "coco": 20})
    assert values["rows"][1]["scores"]["1"]["map50"] == 0.5


def test_a_report_is_written_also_without_scores(finished, tmp_path, settings):
    for path in (finished, Ablation(tmp_path / "empty", settings, ROWS[:1])):
        table, plot = write_report(path)
        assert table.read_text(encoding="utf-8").startswith("# The path")
        assert plot.read_bytes().startswith(b"\x89PNG")


# --- the command


@pytest.fixture
def command(tmp_path, toy, monkeypatch, capsys):
    (tmp_path / "toy.yaml").write_text(dump(toy))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        sets = [part for override in SMALL for part in ("--set", override)]
        options = ["--dataset", "toy.yaml", "--size", "64", *sets, *arguments]
        with pytest.raises(SystemExit) as stopped:
            cli.run(app, "scripts", ["ablation", *options])
        return (stopped.value.code or 0, *capsys.readouterr())

    return run


def test_the_command(command, tmp_path):
    code, out, err = command("--only", "5", "--only", "6", "--seeds", "1")
    assert code == 0
    assert "1/2 5-location-prediction, seed 0: direct location prediction" in err
    assert "2/2 6-passthrough, seed 0" in err
    assert "6-passthrough" in out
    assert {file.name for file in (tmp_path / "ablation").iterdir() if file.is_file()} == {
        "settings.json", "ablation.md", "ablation.json", "ablation.png",
    }  # fmt: skip
    rows = json.loads((tmp_path / "ablation/ablation.json").read_text())["rows"]
    assert [len(row["scores"]) for row in rows] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--only", "9"], 2, "error: --only 9: unknown row"),
        (["--size", "100"], 2, "error: --size: must be a multiple of 32, not 100"),
        (["--split", "test"], 2, "error: data set toy: no split 'test'; it has train, val"),
        (["--dataset", "nothing"], 2, "error: nothing: no such data set"),
        (["--classifier", "nothing"], 4, "error: nothing: no such file or run"),
        (["--out", "toy.yaml"], 6, "error: --out toy.yaml: cannot be written"),
    ],
)
def test_errors_are_one_line(command, arguments, code, message):
    actual_code, out, err = command(*arguments)
    assert (actual_code, out) == (code, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_skipped_rows_are_reported(command):
    _, _, err = command("--only", "3", "--only", "6", "--seeds", "1")
    assert "3-high-resolution-classifier is skipped: without --classifier-448 it equals the row before" in err
