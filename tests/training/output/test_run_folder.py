import csv
import json
import sys
from importlib.metadata import version

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from yolo9k import __version__
from yolo9k.config import Config, load_config
from yolo9k.errors import MachineError
from yolo9k.training.output import run_folder
from yolo9k.training.output.run_folder import RunFolder, new_run_folder


def scalars(folder, name):
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "run")
    made.open(Config(), 0)
    yield made
    made.close()


def test_taken_names_get_a_suffix(tmp_path):
    for expected in ("a", "a-2", "a-3"):
        with new_run_folder(tmp_path / "runs", "a") as created:
            assert created == tmp_path / "runs" / expected
            (created / "checkpoints").mkdir()
            (created / "checkpoints" / "last.pt").touch()


def fill(folder, *, checkpoint):
    (folder / "checkpoints").mkdir()
    (folder / "config.yaml").touch()
    if checkpoint:
        (folder / "checkpoints" / "last.pt").touch()
    raise MachineError("disk full")


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_run_without_a_checkpoint_is_removed(tmp_path, checkpoint):
    with pytest.raises(MachineError), new_run_folder(tmp_path, "a") as folder:
        fill(folder, checkpoint=checkpoint)
    assert folder.is_dir() == checkpoint
    assert (folder / "config.yaml").is_file() == checkpoint


def test_an_empty_folder_is_removed(tmp_path):
    with new_run_folder(tmp_path, "a") as folder:
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(MachineError, match=r"runs.a: cannot be created: "), new_run_folder(tmp_path / "runs", "a"):
        pass


def test_the_config_reads_back(tmp_path):
    config = load_config("voc", ["train.lr=1e-4", "data.augment.transforms=[{GaussianBlur: {p: 0.1}}]"])
    made = RunFolder(tmp_path)
    made.open(config, 0)
    made.close()
    assert load_config(tmp_path / "config.yaml") == config


def test_the_environment_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/home/somebody/.venv/bin/yolo9k", "train", "--config", "voc"])
    monkeypatch.setattr(run_folder, "PACKAGES", ("torch", "no-such-package"))
    made = RunFolder(tmp_path)
    made.open(Config(), 0)
    made.close()
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["command"] == ["yolo9k", "train", "--config", "voc"]  # without the user's folders
    assert environment["yolo9k"] == __version__
    assert environment["packages"] == {"torch": version("torch"), "no-such-package": None}
    assert set(environment) == {
        "yolo9k", "python", "platform", "packages", "threads", "processes", "launch", "gpus", "command",
    }  # fmt: skip


def test_metrics_go_to_json_lines_and_tensorboard(folder):
    folder.add_metrics({"step": 1, "loss": 2.5, "lr": 0.1})
    folder.add_metrics({"step": 2, "val/mAP50": 0.5})
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1, "loss": 2.5, "lr": 0.1}, {"step": 2, "val/mAP50": 0.5}]
    assert scalars(folder.path, "loss") == [(1, 2.5)]  # written immediately, not when the run closes
    assert scalars(folder.path, "val/mAP50") == [(2, 0.5)]


def test_infinity_and_nan_are_null_in_json(folder):
    folder.add_metrics({"step": 1, "gradient_norm": float("inf"), "loss": float("nan")})
    text = (folder.path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 1, "gradient_norm": None, "loss": None}


def test_scores_go_to_a_csv_table(folder):
    folder.add_scores({"step": 5, "mAP50": 0.25})
    folder.add_scores({"step": 10, "mAP50": 0.5})
    with (folder.path / "results.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["step", "mAP50"], ["5", "0.25"], ["10", "0.5"]]


def test_resuming_removes_entries_that_it_repeats(folder):
    for step in (5, 10, 15):
        folder.add_metrics({"step": step, "loss": float(step)})
        folder.add_scores({"step": step, "mAP50": 0.25})
    folder.close()
    for name in ("metrics.jsonl", "results.csv"):
        with (folder.path / name).open("a") as file:
            file.write('{"step": 1')  # an incomplete line
    again = RunFolder(folder.path)
    again.open(Config(), 10)
    again.add_metrics({"step": 15, "loss": 16.0})
    again.add_scores({"step": 15, "mAP50": 0.75})
    again.close()
    entries = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [(entry["step"], entry["loss"]) for entry in entries] == [(5, 5.0), (10, 10.0), (15, 16.0)]
    rows = (folder.path / "results.csv").read_text().splitlines()
    assert rows == ["step,mAP50", "5,0.25", "10,0.25", "15,0.75"]
    assert scalars(folder.path, "loss") == [(5, 5.0), (10, 10.0), (15, 16.0)]


@pytest.mark.parametrize("name", ["metrics.jsonl", "results.csv"])
def test_a_file_that_cannot_be_written(folder, name):
    (folder.path / name).mkdir()
    with pytest.raises(MachineError, match=rf"{name}: cannot be written: (Is a directory|Permission denied)"):
        folder.add_metrics({"step": 1}) if name == "metrics.jsonl" else folder.add_scores({"step": 1})


def test_closing_twice_is_harmless(folder):
    folder.close()
    folder.close()


def test_a_folder_may_be_closed_twice_or_before_it_is_opened(tmp_path):
    made = RunFolder(tmp_path / "run")
    made.close()
    made.open(Config(), 0)
    made.close()
    made.close()


def test_a_run_without_a_checkpoint_keeps_its_name_unless_it_may_be_reused(tmp_path):
    for reuse, expected in ((True, "a"), (False, "a-2")):
        (tmp_path / "a").mkdir(exist_ok=True)
        with new_run_folder(tmp_path, "a", **({"reuse": True} if reuse else {})) as folder:
            assert folder.name == expected
