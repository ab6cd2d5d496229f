"""Training in several processes: the same as in one, and whatever happens to one of them happens to all."""

import os
import signal
from shutil import copytree

import pytest
import torch
from several import in_processes
from test_loop import Recorder, differences, last, metrics

from yolo9k import processes
from yolo9k.config import updated, with_overrides
from yolo9k.demo.toy_joint import write_toy_joint
from yolo9k.detection.loss import RegionLoss
from yolo9k.errors import ConfigError, DataError, DivergedError, Stopped
from yolo9k.progress import silent
from yolo9k.training import resume, train
from yolo9k.training.loop import Loop
from yolo9k.training.output.callbacks import Callback
from yolo9k.training.run import prepare_run
from yolo9k.training.step import Stepper

GROUP = "model.norm.kind=group"  # its statistics are those of one image
ROUNDING = {"rel": 2e-4, "abs": 1e-6}  # of float32 sums in another order, over the steps of a test


def run(config, folder):
    """Train; return the state of the network and of its average, which every process has."""
    training = prepare_run(config, folder)
    Loop(training, Callback(), silent).run_all()
    average = training.ema.network.state_dict() if training.ema else {}
    return {name: value.numpy() for name, value in [*training.network.state_dict().items(), *average.items()]}


def assert_same_rows(one, several):
    for expected, found in zip(metrics(one), metrics(several), strict=True):
        assert found == pytest.approx(expected, **ROUNDING)
    assert (one / "results.csv").read_text() == (several / "results.csv").read_text()


def assert_equal_states(states):
    first, *others = states
    for other in others:
        assert first.keys() == other.keys()
        assert [name for name in first if first[name].tobytes() != other[name].tobytes()] == []


@pytest.mark.parametrize(("count", "accumulate"), [(2, 1), (4, 1), (3, 2)])
def test_several_processes_train_as_one(tiny, tmp_path, count, accumulate):
    config = tiny(GROUP, "train.batch=8", "train.eval_every=1", f"train.accumulate={accumulate}", "train.ema=0.9")
    run(config, tmp_path / "one")
    assert_equal_states(in_processes(count, run, config, tmp_path / "several"))
    assert_same_rows(tmp_path / "one", tmp_path / "several")
    one, several = (last(tmp_path / name).weights for name in ("one", "several"))
    for name, value in one.items():
        torch.testing.assert_close(several[name], value, rtol=1e-4, atol=1e-5)


def test_image_level_labels_in_one_process_only(tiny, tmp_path):
    joint = write_toy_joint(tmp_path / "toy", scenes=6, singles=1, tests=0, side_px=64).joint
    boxes, images = joint.sources
    joint = updated(joint, {"sources": (updated(boxes, {"weight": 3}), images)})
    config = updated(tiny(GROUP, "loss.anchor_warmup=10"), {"data.dataset": joint})
    run(config, tmp_path / "one")
    assert_equal_states(in_processes(2, run, config, tmp_path / "two"))
    assert all("loss/image_label" in row for row in metrics(tmp_path / "two"))
    assert ["loss/warmup" in row for row in metrics(tmp_path / "two")] == [True, True, False, False]
    for expected, found in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert found == pytest.approx(expected, **ROUNDING)


def test_layers_are_unfrozen_in_all_processes(tiny, tmp_path):
    config = tiny(GROUP, "train.freeze=3", "train.unfreeze_at=1.5", "train.freeze_mode=stopbackward")
    run(config, tmp_path / "one")
    assert_equal_states(in_processes(2, run, config, tmp_path / "two"))
    for expected, found in zip(metrics(tmp_path / "one"), metrics(tmp_path / "two"), strict=True):
        assert found == pytest.approx(expected, **ROUNDING)


def test_running_statistics_are_the_means_over_processes(tiny, tmp_path):
    config = tiny("train.steps=1")
    one = run(config, tmp_path / "one")
    states = in_processes(2, run, config, tmp_path / "two")
    assert_equal_states(states)
    mean, var = (next(name for name in one if name.endswith(part)) for part in ("running_mean", "running_var"))
    assert states[0][mean] == pytest.approx(one[mean], rel=1e-3, abs=1e-6)  # of the first norm, which sees the images
    assert (states[0][var] <= one[var] + 1e-6).all()  # the variance between the processes is missing
    assert states[0][var] != pytest.approx(one[var], rel=1e-6)


def test_a_batch_must_have_an_image_for_each_process(tiny, tmp_path):
    for error in in_processes(3, run, tiny("train.accumulate=2"), tmp_path / "run"):
        assert isinstance(error, ConfigError)
        assert str(error) == (
            "train.batch: 4 with train.accumulate 2 is too small for 3 processes: each needs an image of every "
            "micro-batch"
        )


def run_and_fail(config, folder, step, act):
    """Train with `act` in process 1 before its step `step`; return what is raised, and the notes of the run."""
    whole = Stepper.__call__

    def with_action(stepper, at, *args):
        if at == step and processes.rank() == 1:
            act()
        return whole(stepper, at, *args)

    Stepper.__call__ = with_action
    recorder = Recorder()
    try:
        train(config, folder, callback=recorder)
    except Exception as error:
        return error, recorder.notes
    return None, recorder.notes


def give_nan():
    forward = RegionLoss.forward

    def with_nan(*args):
        return {name: value * float("nan") for name, value in forward(*args).items()}

    RegionLoss.forward = with_nan


def test_a_loss_that_is_not_finite_stops_all_and_names_the_images_of_its_process(tiny, run_folder):
    results = in_processes(2, run_and_fail, tiny(), run_folder, 2, give_nan)
    for error, _ in results:
        assert isinstance(error, DivergedError)
        assert str(error).startswith("step 2: the loss or its gradient is not finite; images ")
    named = str(results[0][0]).split("images ")[1].split("; ")[0]
    assert named.count(".jpg") == 2  # of the four of the step
    assert last(run_folder).training["next_step"] == 2
    assert (run_folder / "diverged-step2.pt").exists()


def terminate():
    signal.raise_signal(signal.SIGTERM)


def test_a_signal_to_one_process_stops_all_after_the_step(tiny, run_folder):
    for error, _ in in_processes(2, run_and_fail, tiny(), run_folder, 1, terminate):
        assert isinstance(error, Stopped)
        assert str(error).startswith("stopped after step 2; resume with: yolo9k train --resume ")
        assert error.exit_code == 128 + signal.SIGTERM
    assert last(run_folder).training["next_step"] == 2


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def test_after_a_killed_process_all_are_resumed_exactly(tiny, tmp_path):
    config = tiny("train.ema=0.9", "train.eval_every=1", "train.log_every=3")
    assert in_processes(2, run_and_fail, config, tmp_path / "whole", -1, die) == [(None, []), (None, [])]
    (error, _), killed = in_processes(2, run_and_fail, config, tmp_path / "killed", 2, die)
    assert isinstance(error, processes.LostProcessError)
    assert killed is None
    assert last(tmp_path / "killed").training["next_step"] == 2
    assert in_processes(2, resume, tmp_path / "killed") == [tmp_path / "killed"] * 2
    whole, resumed = (last(tmp_path / name) for name in ("whole", "killed"))
    assert differences(dict(whole.weights), dict(resumed.weights)) == []
    assert differences(whole.training["network"], resumed.training["network"]) == []
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "killed")


def test_another_number_of_processes_is_said(tiny, run_folder):
    in_processes(2, run_and_fail, tiny(), run_folder, 1, terminate)
    recorder = Recorder()
    resume(run_folder, callback=recorder)
    assert any(note.startswith("resumed with processes 1 instead of 2") for note in recorder.info.notes)


@pytest.fixture
def damaged(tiny, toy, tmp_path):
    """A config whose data set has one unreadable image."""
    copytree(toy.root, tmp_path / "toy")
    image = tmp_path / "toy/images/train/train-0003.jpg"
    image.write_bytes(image.read_bytes()[:700])  # has a header, which reading the data set looks at

    def config(*overrides):
        root = {"data.dataset": updated(toy, {"root": str(tmp_path / "toy")})}
        return with_overrides(updated(tiny("train.steps=3"), root), overrides)

    return config


def test_an_unreadable_image_in_one_process_stops_all(damaged, run_folder):
    for error, _ in in_processes(2, run_and_fail, damaged(), run_folder, -1, die):
        assert isinstance(error, DataError)
        assert "train-0003.jpg" in str(error)
        assert error.is_shared


def test_unreadable_images_of_all_processes_are_reported(damaged, run_folder):
    (_, notes), (_, others) = in_processes(2, run_and_fail, damaged("data.on_error=skip"), run_folder, -1, die)
    assert [note for note in notes if note.startswith("warning: 1 training images could not be read")]
    assert others == []


def run_and_die_after_step(config, folder, step):
    """Train; process 1 is killed when it has done so many steps."""
    whole = Loop._is_checkpoint_due

    def with_death(loop):
        if processes.rank() == 1 and loop.run.next_step == step:
            die()
        return whole(loop)

    Loop._is_checkpoint_due = with_death
    with pytest.raises(processes.LostProcessError):
        train(config, folder)


@pytest.mark.parametrize("step", [2, 4])  # with an evaluation, in between and at the end
def test_a_step_is_complete_when_another_process_is_lost_after_it(tiny, tmp_path, step):
    config = tiny("train.eval_every=1", "train.log_every=2")
    in_processes(2, train, config, tmp_path / "whole")
    assert in_processes(2, run_and_die_after_step, config, tmp_path / "lost", step) == [None, None]
    assert last(tmp_path / "lost").training["next_step"] == step
    in_processes(2, resume, tmp_path / "lost")
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "lost")
    assert (tmp_path / "whole/results.csv").read_text() == (tmp_path / "lost/results.csv").read_text()
