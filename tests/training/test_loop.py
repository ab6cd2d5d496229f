import json
import math
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from yolo9k import checkpoint
from yolo9k.checkpoint import BEST, LAST
from yolo9k.detection.loss import RegionLoss
from yolo9k.errors import ConfigError, DataError, DivergedError, MachineError, Stopped, WeightsError
from yolo9k.training import resume, train
from yolo9k.training.output.callbacks import Callback
from yolo9k.training.run import Run
from yolo9k.training.step import Stepper
from yolo9k.training.tasks import detection


class Recorder(Callback):
    """Records the events of a run, and may raise a signal after a step."""

    def __init__(self, stop_after=None, number=signal.SIGINT):
        self.steps, self.entries, self.scores, self.notes, self.info, self.end = [], [], [], [], None, None
        self.stop_after, self.number = stop_after, number

    def on_start(self, info):
        self.info = info

    def on_step(self, step, size_wh):
        self.steps.append((step, size_wh))
        if step + 1 == self.stop_after:
            signal.raise_signal(self.number)

    def on_log(self, entry):
        self.entries.append(dict(entry))

    def on_evaluation(self, scores, *, best):
        self.scores.append((scores.row["mAP50"], best))

    def on_note(self, text):
        self.notes.append(text)

    def on_end(self, folder, best):
        self.end = (folder, best)


class Clock(Callback):
    """A clock that only the steps of a run move."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def on_step(self, step, size_wh):
        self.now += 40


def last(folder):
    return checkpoint.load(folder / "checkpoints" / LAST)


def state(folder):
    """Return what resuming needs, except which checkpoint is healthy: that depends on when they were saved."""
    return {name: value for name, value in last(folder).training.items() if name != "healthy_step"}


def metrics(folder):
    """Return the entries of metrics.jsonl without the speed, which differs between runs."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{n: v for n, v in json.loads(line).items() if n != "images_per_second"} for line in lines]


def differences(first, second, path=""):
    """Return the paths at which two nested states differ, in any bit."""
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [path]
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f"{path} keys"]
        return [d for key in first for d in differences(first[key], second[key], f"{path}.{key}")]
    if isinstance(first, list):
        return [d for i, pair in enumerate(zip(first, second, strict=True)) for d in differences(*pair, f"{path}.{i}")]
    return [] if first == second else [path]


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("data.workers=2", "data.sizes=[64,96]", "data.size_period=1", "train.ema=0.9", "train.eval_every=1"),
        ("train.optimizer=adamw", "train.accumulate=2", "train.clip_grad=1"),
        ("train.channels_last=false", "train.eval_every=1"),
        ("train.freeze=backbone", "train.unfreeze_at=1.5", "train.eval_every=1"),  # step 3, one after the stop
        ("train.freeze=2", "train.unfreeze_at=1", "train.lr_factors={backbone: 0.1}", "train.optimizer=adamw"),
    ],
    ids=["plain", "workers, sizes, ema", "adamw, accumulate", "contiguous", "unfreezing", "unfreezing, lr factors"],
)
def test_a_resumed_run_equals_a_run_that_was_not_stopped(tiny, tmp_path, changes):
    whole = train(tiny(*changes), tmp_path / "whole")
    with pytest.raises(Stopped):
        train(tiny(*changes), tmp_path / "parts", callback=Recorder(stop_after=2))
    parts = resume(tmp_path / "parts")
    assert differences(dict(last(whole).weights), dict(last(parts).weights)) == []
    assert differences(state(whole), state(parts)) == []
    assert metrics(whole) == metrics(parts)
    assert last(whole).training["next_step"] == 4


@pytest.mark.parametrize(
    ("every", "saved"), [("2", [2, 4]), ("3", [3]), ("90s", [3]), ("70s", [2, 4]), ("1min", [2, 4]), ("1h", [])]
)
def test_checkpoints_are_saved_every_n_steps_or_seconds(tiny, run_folder, monkeypatch, every, saved):
    """Of five steps that take 40 s each."""
    clock = Clock()
    monkeypatch.setattr("yolo9k.training.loop.time", clock)
    changes = (f"train.checkpoint_every={every}", "train.keep_last=9", "train.steps=5")
    train(tiny(*changes), run_folder, callback=clock)
    assert {path.name for path in (run_folder / "checkpoints").glob("step*.pt")} == {f"step{n}.pt" for n in saved}
    assert last(run_folder).training["next_step"] == 5


def test_the_number_of_workers_changes_nothing(tiny, tmp_path):
    without, with_workers = (train(tiny(f"data.workers={n}"), tmp_path / str(n)) for n in (0, 2))
    assert differences(dict(last(without).weights), dict(last(with_workers).weights)) == []


def test_the_memory_format_changes_only_rounding(tiny, tmp_path):
    """An evaluation in between must keep the memory format that the optimiser relies on."""
    first, second = (
        train(tiny(f"train.channels_last={requested}", "train.eval_every=1"), tmp_path / requested)
        for requested in ("true", "false")
    )
    for name, value in last(first).weights.items():
        torch.testing.assert_close(last(second).weights[name], value, rtol=1e-3, atol=1e-4)


def test_a_callback_receives_all_events(tiny, run_folder):
    callback = Recorder()
    assert train(tiny("train.eval_every=2"), run_folder, callback=callback) == run_folder
    assert callback.info.total_steps == 4
    assert re.fullmatch(r"6 images with \d+ boxes", callback.info.data_summary)
    assert callback.info.steps_per_epoch == 1.5
    assert callback.steps == [(step, (64, 64)) for step in range(4)]
    assert [entry["step"] for entry in callback.entries] == [1, 2, 3, 4]
    assert len(callback.scores) == 2  # after step 3 (2 epochs) and at the end
    assert callback.end == (run_folder, round(max(score for score, _ in callback.scores), 5))


def test_log_entries_have_losses_lr_size_and_gradient_norm(tiny, run_folder):
    train(tiny("train.log_every=2", "train.schedule.policy=constant"), run_folder)
    first, second, scores = metrics(run_folder)
    assert first["step"] == 2
    assert first["epoch"] == 1.333
    losses = {name: value for name, value in first.items() if name.startswith("loss/")}
    assert set(losses) == {"loss/box", "loss/objectness", "loss/classification", "loss/warmup"}
    assert first["loss"] == pytest.approx(sum(losses.values()))
    assert first["lr"] == second["lr"] == 0.01  # after the warm-up
    assert (first["width"], first["height"]) == (64, 64)
    assert first["gradient_norm"] > 0
    assert set(scores) == {"step", "val/P", "val/R", "val/mAP50", "val/mAP50-95", "val/mAP_voc07"}


def test_without_a_validation_split_the_newest_weights_are_the_best(tiny, run_folder, caplog):
    callback = Recorder()
    train(tiny("eval.split=test", "train.eval_every=1"), run_folder, callback=callback)
    assert callback.scores == []
    assert "no split 'test'" in caplog.text
    assert callback.end == (run_folder, None)
    best = checkpoint.load(run_folder / "checkpoints" / BEST)
    assert differences(dict(best.weights), dict(last(run_folder).weights)) == []
    assert not (run_folder / "results.csv").exists()


class Scores:
    """An evaluation with a given mAP50."""

    map50_95 = voc07 = 0.0

    class total:
        precision = recall = 0.0

    def __init__(self, value):
        self.map50 = value


def test_best_is_by_score_and_patience_stops(tiny, run_folder, monkeypatch):
    scripted = iter([0.2, 0.5, 0.4, float("nan"), 0.5, 0.9])
    monkeypatch.setattr(detection, "evaluate_detector", lambda *_, **__: (Scores(next(scripted)), []))
    callback = Recorder()
    # an epoch is two steps; the best score is that of epoch 2, so patience ends after epoch 5
    config = tiny("train.batch=3", "train.steps=40", "train.eval_every=1", "train.patience=3")
    train(config, run_folder, callback=callback)
    assert [best for _, best in callback.scores] == [True, True, False, False, False]
    assert callback.steps[-1][0] == 9
    assert callback.end == (run_folder, 0.5)
    assert last(run_folder).training["next_step"] == 10
    assert last(run_folder).training["best_step"] == 4
    rows = (run_folder / "results.csv").read_text().splitlines()
    assert rows[0] == "step,epoch,P,R,mAP50,mAP50-95,mAP_voc07"
    assert rows[4] == "8,4.0,0.0,0.0,0.0,0.0,0.0"  # an undefined score is 0


def test_a_first_score_of_zero_is_the_best_so_far(tiny, run_folder, monkeypatch):
    monkeypatch.setattr(detection, "evaluate_detector", lambda *_, **__: (Scores(float("nan")), []))
    train(tiny(), run_folder)
    assert (run_folder / "checkpoints" / BEST).exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_saves_and_says_how_to_resume(tiny, run_folder, number, code):
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=r"stopped after step 1; resume with: yolo9k train --resume .*run") as caught:
        train(tiny(), run_folder, callback=Recorder(stop_after=1, number=number))
    assert caught.value.exit_code == code
    assert last(run_folder).training["next_step"] == 1
    assert signal.getsignal(number) is before


def test_a_late_signal_stops_after_the_next_step(tiny, run_folder, monkeypatch):
    save_last = Run.save_last

    def interrupted(run):
        save_last(run)
        if run.next_step == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Run, "save_last", interrupted)
    with pytest.raises(Stopped, match="stopped after step 3"):
        train(tiny("train.checkpoint_every=1"), run_folder)
    assert last(run_folder).training["next_step"] == 3


@pytest.mark.parametrize("stopped_at", [2, 4])  # in between, and after the last step
def test_a_signal_ends_an_evaluation_and_a_resumed_run_repeats_it(tiny, run_folder, stopped_at):
    config = tiny("train.eval_every=1")
    whole, recorded = Recorder(), Recorder()
    train(config, run_folder.with_name("whole"), callback=whole)
    evaluations = []

    def track(items, description, total=None):
        evaluations.append(description == "Evaluating")
        for item in items:
            if description == "Evaluating" and sum(evaluations) == stopped_at // 2:
                signal.raise_signal(signal.SIGINT)
            yield item

    with pytest.raises(Stopped, match=f"stopped after step {stopped_at}; resume with"):
        train(config, run_folder, callback=recorded, track=track)
    assert len(recorded.scores) == stopped_at // 2 - 1
    resume(run_folder, callback=recorded)
    assert recorded.scores == whole.scores
    assert metrics(run_folder) == metrics(run_folder.with_name("whole"))
    assert not last(run_folder).training["evaluation_pending"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_worker_ends_the_run_at_once_and_saves_it(tiny, run_folder):
    class Killer(Callback):
        def on_step(self, step, size_wh):
            if step == 2:
                os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    start = time.monotonic()
    with pytest.raises(MachineError, match=r"a data loader worker was killed, probably because memory ran out; lower"):
        train(tiny("data.workers=2", "train.steps=1000"), run_folder, callback=Killer())
    assert last(run_folder).training["next_step"] >= 2
    assert multiprocessing.active_children() == []
    assert time.monotonic() - start < 30


def test_a_signal_is_told_though_its_terminal_is_gone(tiny, run_folder):
    class Gone(Recorder):
        def on_log(self, entry):
            if entry["step"] == self.stop_after:
                raise MachineError("standard error: cannot be written")

    with pytest.raises(Stopped, match="stopped after step 2") as caught:
        train(tiny(), run_folder, callback=Gone(stop_after=2, number=signal.SIGTERM))
    assert caught.value.exit_code == 143
    assert last(run_folder).training["next_step"] == 2


def test_a_resumed_run_may_be_longer(tiny, run_folder):
    train(tiny("train.steps=1"), run_folder)
    callback = Recorder()
    resume(run_folder, overrides=["train.steps=3"], callback=callback)
    assert [step for step, _ in callback.steps] == [1, 2]
    assert last(run_folder).config.train.steps == 3


def test_resuming_a_finished_run_does_nothing(tiny, run_folder):
    train(tiny("train.steps=1"), run_folder)
    before = metrics(run_folder)
    callback = Recorder()
    assert resume(run_folder, callback=callback) == run_folder
    assert callback.steps == []
    assert callback.notes == [f"{run_folder}: finished, all 1 steps are done; for more, use --steps or --epochs"]
    assert metrics(run_folder) == before


def test_fewer_steps_than_done_are_an_error(tiny, run_folder):
    train(tiny("train.steps=3"), run_folder)
    with pytest.raises(ConfigError, match=r"run: 3 steps are done, more than the 2 requested$"):
        resume(run_folder, overrides=["train.steps=2"])
    assert last(run_folder).training["next_step"] == 3


def test_entries_after_the_last_checkpoint_are_not_duplicated(tiny, run_folder):
    """A resumed run writes the entries between its last checkpoint and a power cut again."""
    train(tiny("train.steps=2"), run_folder)
    whole = metrics(run_folder)
    with (run_folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 1.0}\n{"step": 4, "lo')
    resume(run_folder, overrides=["train.steps=3"])
    assert [entry["step"] for entry in metrics(run_folder)] == [*(entry["step"] for entry in whole), 3, 3]


def test_resuming_needs_a_checkpoint_with_training_state(tiny, tmp_path):
    with pytest.raises(WeightsError, match="no such checkpoint"):
        resume(tmp_path)
    train(tiny("train.steps=1"), tmp_path / "run")
    path = tmp_path / "run" / "checkpoints"
    (path / BEST).replace(path / LAST)
    with pytest.raises(WeightsError, match="has only weights and cannot be resumed"):
        resume(tmp_path / "run")


def make_loss_nan(monkeypatch, step):
    """Make the loss NaN from step `step` on."""
    forward = RegionLoss.forward

    def bad_forward(self, head, features, batch, seen):
        losses = forward(self, head, features, batch, seen)
        return {name: value * float("nan") for name, value in losses.items()} if seen >= 4 * (step + 1) else losses

    monkeypatch.setattr(RegionLoss, "forward", bad_forward)


def make_gradient_nan(monkeypatch, steps):
    """Make the loss NaN in some steps of batches of 4 images."""
    forward = RegionLoss.forward

    def bad_forward(self, head, features, batch, seen):
        bad = float("nan") if seen // 4 - 1 in steps else 1.0
        return {name: value * bad for name, value in forward(self, head, features, batch, seen).items()}

    monkeypatch.setattr(RegionLoss, "forward", bad_forward)


def test_steps_that_are_not_finite_can_be_skipped(tiny, tmp_path, monkeypatch):
    make_gradient_nan(monkeypatch, {1, 2})
    config, recorder = tiny("train.on_nonfinite=skip", "train.log_every=2"), Recorder()
    whole = train(config, tmp_path / "whole", callback=recorder)
    assert [(entry["skipped_steps"], math.isfinite(entry["loss"])) for entry in recorder.entries] == [
        (1, True),
        (2, True),
    ]
    assert recorder.notes == ["warning: 2 steps were skipped because their loss or gradient was not finite"]
    assert all(value.isfinite().all() for value in last(whole).weights.values())
    with pytest.raises(Stopped):
        train(config, tmp_path / "parts", callback=Recorder(stop_after=2))
    parts = resume(tmp_path / "parts")
    assert differences(state(whole), state(parts)) == []
    assert metrics(whole) == metrics(parts)
    monkeypatch.undo()
    make_gradient_nan(monkeypatch, set(range(3, 99)))
    with pytest.raises(DivergedError, match=r"^step 13: "):
        train(tiny("train.on_nonfinite=skip", "train.steps=40"), tmp_path / "all")


@pytest.mark.parametrize("ema", [0, 0.9])
def test_a_diverged_run_keeps_the_weights_from_before(tiny, tmp_path, monkeypatch, ema):
    config = tiny(f"train.ema={ema}")
    with pytest.raises(Stopped):
        train(config, tmp_path / "good", callback=Recorder(stop_after=2))
    make_loss_nan(monkeypatch, 2)
    folder = tmp_path / "bad"
    with pytest.raises(DivergedError, match=r"^step 2: the loss .* images train-000\d.jpg, ") as caught:
        train(config, folder)
    assert "\n" not in str(caught.value)
    paths = differences(state(tmp_path / "good"), state(folder))
    assert {path.rsplit(".", 1)[1] for path in paths} <= {"lr"}  # set before each step
    assert differences(dict(last(tmp_path / "good").weights), dict(last(folder).weights)) == []
    dump = checkpoint.load(folder / "diverged-step2.pt").training
    assert f"yolo9k train --replay {folder / 'diverged-step2.pt'} shows" in str(caught.value)
    assert dump["step"] == 2
    assert dump["batch"]["images"].shape == (4, 3, 64, 64)
    assert all(Path(name).name in str(caught.value) for name in dump["batch"]["names"])
    monkeypatch.undo()
    resume(folder, overrides=["train.lr=0.001"])
    assert last(folder).training["next_step"] == 4
    assert last(folder).config.train.lr == 0.001


def test_a_run_with_a_huge_lr_diverges_with_finite_weights(tiny, run_folder):
    with pytest.raises(DivergedError):
        train(tiny("train.lr=1e6", "train.warmup=0", "train.steps=50", "train.momentum=0.99"), run_folder)
    stored = last(run_folder)
    assert all(value.isfinite().all() for value in stored.weights.values())
    assert all(value.isfinite().all() for value in stored.training["network"].values())


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_loses_no_step(tiny, toy, tmp_path, run_folder, workers):
    """A data error occurs between two steps; those before it are saved."""

    class Damage(Recorder):
        def on_step(self, step, size_wh):
            super().on_step(step, size_wh)
            if step == 1:
                for path in images:
                    path.write_text("this is text")

    shutil.copytree(toy.root, tmp_path / "toy")
    images = sorted((tmp_path / "toy" / "images" / "train").iterdir())
    config = tiny(f"data.dataset.root={tmp_path / 'toy'}", "train.steps=100", f"data.workers={workers}")
    callback = Damage()
    message = r"train-000\d.jpg: not a readable image; yolo9k data check lists all unusable images and labels"
    with pytest.raises(DataError, match=message):
        train(config, run_folder, callback=callback)
    assert 2 <= len(callback.steps) < 100
    assert last(run_folder).training["next_step"] == len(callback.steps)


def test_skipped_images_are_counted(tiny, toy, tmp_path, run_folder):
    shutil.copytree(toy.root, tmp_path / "toy")
    for name in ("train/train-0001.jpg", "train/train-0003.jpg", "val/val-0002.jpg"):
        path = tmp_path / "toy" / "images" / name
        path.write_bytes(path.read_bytes()[:-500])  # the header, with the size, is still there
    callback = Recorder()
    with pytest.raises(DataError, match=r"train-000\d.jpg"):
        train(tiny(f"data.dataset.root={tmp_path / 'toy'}"), tmp_path / "strict")
    train(tiny(f"data.dataset.root={tmp_path / 'toy'}", "data.on_error=skip"), run_folder, callback=callback)
    assert [entry["unreadable_images"] for entry in metrics(run_folder) if "loss" in entry][-1] == 2
    train_note, val_note = callback.notes
    assert val_note.startswith("warning: 1 validation images could not be read and have no predictions; first: ")
    assert "val-0002.jpg: " in val_note
    assert train_note.startswith("warning: 2 training images could not be read and were replaced by others: train-000")
    assert "train-0001.jpg" in train_note
    assert "train-0003.jpg" in train_note


def test_out_of_memory_is_a_machine_error(tiny, run_folder, monkeypatch):
    run_step = Stepper.__call__

    def fail_at_step_2(self, step, micro_batches, lr):
        if step == 2:
            self.guard.begin()
            self.network(micro_batches[0].normalised())  # updates the running statistics
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run_step(self, step, micro_batches, lr)

    monkeypatch.setattr(Stepper, "__call__", fail_at_step_2)
    with pytest.raises(MachineError, match=r"out of memory on cpu; raise train.accumulate"):
        train(tiny(), run_folder)
    assert last(run_folder).training["next_step"] == 2
    monkeypatch.undo()
    whole = train(tiny(), run_folder.with_name("whole"))
    resume(run_folder)
    assert differences(state(whole), state(run_folder)) == []


def test_a_checkpoint_that_cannot_be_written_keeps_the_old_one(tiny, run_folder, monkeypatch):
    train(tiny("train.steps=1"), run_folder)
    before = (run_folder / "checkpoints" / LAST).read_bytes()

    def full(stored, file):
        file.write(b"half a checkpoint")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(MachineError, match="cannot be written"):
        resume(run_folder, overrides=["train.steps=2"])
    assert (run_folder / "checkpoints" / LAST).read_bytes() == before
    assert sorted(path.name for path in (run_folder / "checkpoints").iterdir()) == [BEST, LAST, "step1.pt"]


@pytest.mark.parametrize(
    ("metric", "names"),
    [
        ("map50", ["mAP50", "mAP50-95", "P", "R"]),
        ("voc07", ["mAP_voc07", "mAP50", "mAP50-95", "P", "R"]),
        ("coco", ["mAP50-95", "mAP50", "P", "R"]),
    ],
)
def test_the_metric_that_selects_the_best_is_shown_first(tiny, run_folder, metric, names):
    shown = []

    class Recording(Callback):
        def on_evaluation(self, scores, *, best):
            shown.append((scores.text.split()[::2], float(scores.text.split()[1]) == round(scores.value, 4)))

    train(tiny(f"eval.metric={metric}", "train.steps=1", "train.eval_every=1"), run_folder, callback=Recording())
    assert shown == [(names, True)]
