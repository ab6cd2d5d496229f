import pytest
import torch

from yolo9k.training.output.step_log import StepLog


def losses(box, norm=1.0, **more):
    return {name: torch.tensor(value) for name, value in {"box": box, "gradient_norm": norm, **more}.items()}


def entry(log, step=2):
    return log.entry(step, 0.1, (96, 64), 1.5)


def test_entries_are_means_since_the_last_one():
    log = StepLog(batch=4)
    log.add(losses(1.0, norm=2.0))
    log.add(losses(3.0, norm=4.0))
    found = entry(log)
    assert (found["loss/box"], found["loss"], found["gradient_norm"]) == (2.0, 2.0, 3.0)
    assert (found["step"], found["epoch"], found["lr"], found["width"], found["height"]) == (2, 1.333, 0.1, 96, 64)
    log.add(losses(5.0))
    assert entry(log)["loss/box"] == 5.0


def test_a_loss_that_ends_is_averaged_over_its_own_steps():
    log = StepLog(batch=4)
    log.add(losses(1.0, warmup=6.0))
    log.add(losses(1.0))
    assert entry(log)["loss/warmup"] == 6.0
    log.add(losses(1.0))
    assert "loss/warmup" not in entry(log)


def test_the_speed_counts_images_and_leaves_out_what_is_no_training(monkeypatch):
    clock = iter([0.0, 100.0, 102.0, 102.0])
    monkeypatch.setattr("yolo9k.training.output.step_log.time.monotonic", lambda: next(clock))
    log = StepLog(batch=4)
    log.add(losses(1.0))
    log.restart_clock()  # after an evaluation of 100 s
    log.add(losses(1.0))
    assert entry(log)["images_per_second"] == pytest.approx(2.0)
