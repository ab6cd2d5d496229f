import pytest
import torch

from yolo9k.training.output.step_log import StepLog


def losses(box, norm=1.0, **more):
    return {name: torch.tensor(value) for name, value in {"box": box, "gradient_norm": norm, **more}.items()}


def entry(log, step=2):
    return log.entry(step, 0.1, (96, 64), 1.5)


def test_entries_are_means_since_the_last_one():
    log = StepLog(batch_size=4)
    log.add(losses(1.0, norm=2.0))
    log.add(losses(3.0, norm=4.0))
    first = entry(log)
    assert (first["loss/box"], first["loss"], first["gradient_norm"]) == (2.0, 2.0, 3.0)
    assert (first["step"], first["epoch"], first["lr"], first["width"], first["height"]) == (2, 1.333, 0.1, 96, 64)
    log.add(losses(5.0))
    assert entry(log)["loss/box"] == 5.0


def test_a_loss_is_averaged_over_the_steps_that_have_it():
    log = StepLog(batch_size=4)
    log.add(losses(1.0, warmup=6.0))
    log.add(losses(1.0))
    assert entry(log)["loss/warmup"] == 6.0
    log.add(losses(1.0))
    assert "loss/warmup" not in entry(log)


def test_the_speed_of_a_quarter_of_a_second(monkeypatch):
    clock = iter([0.0, 0.25, 0.25])
    monkeypatch.setattr("yolo9k.training.output.step_log.time.monotonic", lambda: next(clock))
    log = StepLog(batch_size=4)
    log.add(losses(1.0))
    assert entry(log)["images_per_second"] == pytest.approx(16.0)


def test_the_speed_counts_only_training_time(monkeypatch):
    clock = iter([0.0, 100.0, 102.0, 102.0])
    monkeypatch.setattr("yolo9k.training.output.step_log.time.monotonic", lambda: next(clock))
    log = StepLog(batch_size=4)
    log.add(losses(1.0))
    log.restart_clock()  # after an evaluation of 100 s
    log.add(losses(1.0))
    assert entry(log)["images_per_second"] == pytest.approx(2.0)
