import io
from pathlib import Path

import pytest

from yolo9k.cli import console, screen
from yolo9k.cli.console import Output
from yolo9k.cli.screen import Screen
from yolo9k.config import Config
from yolo9k.training.output.callbacks import RunInfo
from yolo9k.training.tasks.task import Scores

ENTRY = {
    "step": 20, "epoch": 1.5, "loss": 3.5, "loss/box": 1.5, "loss/objectness": 2.0, "gradient_norm": 1.0,
    "lr": 0.001, "width": 64, "height": 96, "images_per_second": 12.34,
}  # fmt: skip
SCORES = Scores({"mAP50": 0.5}, 0.5, "mAP50 0.5000 mAP50-95 0.2500 P 0.750 R 0.625")


def run_info(folder, **changes):
    values = {
        "config": Config(), "folder": folder, "device": "cpu", "precision": "float32", "parameters": 1234567,
        "data_summary": "10 images with 20 boxes", "details": ("anchors in cells: 1,2.5", "sizes: 416x416"),
        "labels": ("a", "b"), "first_step": 0, "total_steps": 40, "steps_per_epoch": 10.0, "workers": 2,
        "notes": ("note [one]",),
    }  # fmt: skip
    return RunInfo(**{**values, **changes})


@pytest.fixture
def shown(monkeypatch):
    """Replace the consoles, by a terminal or not; return what is printed."""

    def make(terminal):
        text = io.StringIO()
        made = Output(file=text, force_terminal=terminal, width=200)
        for module in (console, screen):
            monkeypatch.setattr(module, "err", made)
            monkeypatch.setattr(module, "out", made)
        return text

    return make


def tell(callback, tmp_path):
    callback.on_start(run_info(tmp_path / "runs" / "[bold]mine"))
    callback.on_step(19, (64, 96))
    callback.on_log(ENTRY)
    callback.on_evaluation(SCORES, best=True)
    callback.on_end(tmp_path / "runs" / "[bold]mine", 0.5)


def test_lines_without_a_terminal(shown, tmp_path):
    text = shown(terminal=False)
    with Screen() as callback:
        tell(callback, tmp_path)
    printed = text.getvalue()
    assert "yolov2: 1,234,567 parameters, 2 labels; 10 images with 20 boxes; cpu, float32, 2 workers" in printed
    assert "anchors in cells: 1,2.5; sizes: 416x416" in printed
    assert "note [one]" in printed
    assert "steps 0 to 40" in printed
    assert "step 20 epoch 1.50 loss 3.50 (box 1.50 objec 2.00) 64x96 lr 0.001 12.3 images/s" in printed
    assert "validation: mAP50 0.5000 mAP50-95 0.2500 P 0.750 R 0.625 (best)" in printed
    assert "best validation score 0.5000" in printed
    assert printed.count("[bold]mine") == 4  # names are not markup


def test_a_bar_in_a_terminal(shown, tmp_path):
    text = shown(terminal=True)
    with Screen() as callback:
        tell(callback, tmp_path)
    assert "20/40" in text.getvalue()
    assert "epoch 1.5" in text.getvalue()
    assert "loss 3.50" in text.getvalue()


def test_the_cursor_is_restored_after_an_error(shown, tmp_path):
    text = shown(terminal=True)
    with Screen() as callback:
        callback.on_start(run_info(tmp_path))  # and no `on_end`
    assert text.getvalue().rindex("\x1b[?25h") > text.getvalue().rindex("\x1b[?25l")


def test_an_evaluation_shows_its_own_bar(shown, tmp_path):
    text = shown(terminal=True)
    with Screen() as callback:
        callback.on_start(run_info(tmp_path))
        assert list(console.track([1, 2, 3], "Scoring")) == [1, 2, 3]
        callback.on_evaluation(SCORES, best=False)
    assert "Scoring" in text.getvalue()


def test_notes_are_not_markup(shown):
    text = shown(terminal=False)
    Screen().on_note("[bold]mine is finished")
    assert text.getvalue() == "[bold]mine is finished\n"


def test_the_next_command_names_the_test_split(shown, tmp_path):
    text = shown(terminal=False)
    dataset = {"kind": "voc", "root": "x", "splits": {"train": ["a"], "test": ["b"]}}
    callback = Screen()
    callback.on_start(run_info(tmp_path, config=Config.model_validate({"data": {"dataset": dataset}})))
    callback.on_end(tmp_path, None)
    assert f"eval --weights {tmp_path} --split test;" in text.getvalue()


@pytest.mark.parametrize(("holdout", "printed"), [(0, "runs/mine --split train;"), (0.2, "runs/mine;")])
def test_the_next_command_works_without_a_val_split(shown, holdout, printed):
    text = shown(terminal=False)
    dataset = {"kind": "folder", "root": "x", "splits": {"train": ["."]}, "holdout": holdout}
    with Screen() as callback:
        callback.on_start(run_info(Path("runs"), config=Config.model_validate({"data": {"dataset": dataset}})))
        callback.on_end(Path("runs/mine"), None)
    assert printed in text.getvalue()
    assert "best" not in text.getvalue()
