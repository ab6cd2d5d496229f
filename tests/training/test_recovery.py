"""What happens to a run that was killed, whose files were damaged, or whose loss exploded."""

import json

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_loop import Recorder, differences, last, metrics, state

from yolo9k.checkpoint import BEST, LAST
from yolo9k.errors import ConfigError, DivergedError, MachineError, Stopped, WeightsError
from yolo9k.training import resume, train
from yolo9k.training.output.checkpoints import RunCheckpoints
from yolo9k.training.output.run_folder import locked

EACH_STEP = "train.checkpoint_every=1"


@pytest.fixture
def stopped(tiny, run_folder):
    """A run of four steps, stopped after the third, with the checkpoints of the second and third."""

    def stop(*overrides):
        with pytest.raises(Stopped):
            train(tiny(EACH_STEP, *overrides), run_folder, callback=Recorder(stop_after=3))
        return run_folder

    return stop


def rows(folder):
    return (folder / "results.csv").read_text().splitlines()


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(tiny, tmp_path, stopped):
    whole = train(tiny(EACH_STEP), tmp_path / "whole")
    folder = stopped()
    path = folder / "checkpoints" / LAST
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    recorder = Recorder()
    resume(folder, callback=recorder)
    assert recorder.steps[0][0] == 2
    assert any("last.pt" in note and "resuming from step 2" in note for note in recorder.notes)
    assert differences(dict(last(whole).weights), dict(last(folder).weights)) == []
    assert metrics(whole) == metrics(folder)


@pytest.mark.parametrize("tail", [b"\0" * 100, b'{"step": \0\0\0\n', b'{"step": 3, "lo', b"[]\n", b"\xff\xfe\n"])
def test_damaged_ends_of_the_metrics_are_cut_off(tiny, tmp_path, stopped, tail):
    whole = train(tiny(EACH_STEP, "train.eval_every=1"), tmp_path / "whole")
    folder = stopped("train.eval_every=1")
    for name in ("metrics.jsonl", "results.csv"):
        with (folder / name).open("ab") as file:
            file.write(tail)
    recorder = Recorder()
    resume(folder, callback=recorder)
    assert metrics(whole) == metrics(folder)
    assert rows(whole) == rows(folder)
    said = [note for note in recorder.notes if "damaged" in note]
    assert len(said) == (2 if tail.endswith((b"\n", b"\0")) else 0)


def test_a_lost_header_of_the_scores_comes_back(tiny, tmp_path, stopped):
    whole = train(tiny("train.eval_every=1"), tmp_path / "whole")
    folder = stopped("train.eval_every=1")
    path = folder / "results.csv"
    header, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(bytes(len(header)) + b"\n" + rest)
    resume(folder)
    assert rows(folder) == rows(whole)


def test_an_evaluation_that_was_killed_is_repeated_once(tiny, tmp_path, monkeypatch):
    """The checkpoint before it is complete; scores that were already written are not written twice."""
    whole = train(tiny("train.eval_every=1"), tmp_path / "whole")

    class Killed(Recorder):
        def on_evaluation(self, scores, *, best):
            raise KeyboardInterrupt

    folder = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        train(tiny("train.eval_every=1"), folder, callback=Killed())
    assert last(folder).training["evaluation_pending"]
    assert len(rows(folder)) == 2
    resume(folder)
    assert rows(folder) == rows(whole)
    assert metrics(folder) == metrics(whole)
    assert differences(state(whole), state(folder)) == []


@pytest.mark.parametrize("log_every", [2, 3])
def test_losses_that_are_not_logged_yet_survive(tiny, tmp_path, stopped, log_every):
    whole = train(tiny(f"train.log_every={log_every}"), tmp_path / "whole")
    folder = resume(stopped(f"train.log_every={log_every}"))
    assert metrics(folder) == metrics(whole)


def test_what_a_killed_process_left_is_removed(stopped):
    folder = stopped()
    drafts = [folder / "config.yaml.99.part", folder / "checkpoints" / "last.pt.99.part"]
    for draft in drafts:
        draft.write_bytes(b"half")
    resume(folder)
    assert not any(draft.exists() for draft in drafts)
    assert not (folder / ".lock").exists()


def test_one_process_at_a_time(tiny, stopped):
    folder = stopped()
    with locked(folder):
        for start in (lambda: resume(folder), lambda: train(tiny(), folder)):
            with pytest.raises(ConfigError, match="is training in it"):
                start()
    resume(folder)


def test_the_lock_of_a_process_that_has_ended_is_taken_over(stopped, tmp_path):
    import subprocess
    import sys

    folder = stopped()
    code = f"""
import os, pathlib
from yolo9k.training.output.run_folder import locked
with locked(pathlib.Path({str(folder)!r})):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert (folder / ".lock").exists()
    resume(folder)
    assert not (folder / ".lock").exists()


def test_a_run_is_resumed_from_an_earlier_checkpoint(tiny, tmp_path, stopped):
    whole = train(tiny(EACH_STEP), tmp_path / "whole")
    folder = resume(stopped())
    resume(folder / "checkpoints" / "step3.pt")
    assert differences(dict(last(whole).weights), dict(last(folder).weights)) == []
    assert metrics(whole) == metrics(folder)
    with pytest.raises(WeightsError, match="has only weights"):
        resume(folder / "checkpoints" / BEST)
    (tmp_path / "elsewhere.pt").write_bytes(b"")
    with pytest.raises(WeightsError, match="is not in the folder checkpoints of a run"):
        resume(tmp_path / "elsewhere.pt")


def test_the_checkpoint_before_a_step_with_a_usual_loss_is_healthy(tiny, tmp_path):
    each = train(tiny(EACH_STEP), tmp_path / "each")
    assert last(each).training["healthy_step"] == 3  # the loss of step 4 was usual
    assert last(train(tiny(), tmp_path / "one")).training["healthy_step"] == 0  # no step after a checkpoint


def test_a_last_checkpoint_that_cannot_be_written_is_an_error(tiny, run_folder, monkeypatch):
    write, calls = RunCheckpoints._replace_last, []

    def fail_after_the_evaluation(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise MachineError("disk full")
        write(*arguments)

    monkeypatch.setattr(RunCheckpoints, "_replace_last", fail_after_the_evaluation)
    with pytest.raises(MachineError, match="disk full"):
        train(tiny("train.steps=1"), run_folder)


@pytest.mark.parametrize("lr", [1, 30, 3000])
@pytest.mark.parametrize("checkpoints", ["1", "10min"])
def test_an_exploded_run_keeps_the_checkpoint_from_before(tiny, run_folder, lr, checkpoints):
    train(tiny(f"train.checkpoint_every={checkpoints}"), run_folder)
    recorder = Recorder()
    changes = [f"train.lr={lr}", "train.warmup=0", "train.steps=10", "train.schedule.policy=constant"]
    with pytest.raises(DivergedError) as raised:
        resume(run_folder, overrides=changes, callback=recorder)
    kept = run_folder / "checkpoints" / "step4.pt"
    assert f"--resume {kept}," in str(raised.value)
    if any(entry["loss"] > 100 for entry in recorder.entries) and checkpoints == "1":
        assert any("the loss rose from about" in note and f"--resume {kept} " in note for note in recorder.notes)
    resume(kept, overrides=["train.lr=0.001", "train.steps=6"])
    losses = {entry["step"]: entry["loss"] for entry in metrics(run_folder) if "loss" in entry}
    assert list(losses) == [1, 2, 3, 4, 5, 6]
    assert max(losses.values()) < 10


def test_steps_that_are_repeated_are_shown_once_in_tensorboard(tiny, stopped, caplog):
    folder = resume(stopped("train.eval_every=1"))
    resume(folder / "checkpoints" / "step3.pt")
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for tag in events.Tags()["scalars"]:
        assert [event.step for event in events.Scalars(tag)] == [entry["step"] for entry in logged if tag in entry], tag
    assert not [record for record in caplog.records if "out of order" in record.getMessage()]
