import pytest
import torch

from yolo9k.errors import MachineError, WeightsError
from yolo9k.training import dry_run as trial
from yolo9k.training import train
from yolo9k.training.step import Stepper


def test_tells_what_a_run_takes_and_writes_nothing(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = trial.dry_run_report(tiny("data.sizes=[64,96]", "train.accumulate=2", "train.steps=30"))
    assert list(tmp_path.iterdir()) == []
    assert found.total_steps == 30
    assert found.epochs == pytest.approx(20)  # 6 images, 4 a step
    assert found.images_per_second == pytest.approx(4 / found.step_seconds)
    # the step was one of 96x96, and half of the run is at 64x64
    assert found.estimated_seconds == pytest.approx(30 * found.step_seconds * (1 + (64 / 96) ** 2) / 2)
    assert found.parameters > 1000
    assert found.operations > 1e6
    assert found.memory_bytes > 2**20
    assert (found.device, found.precision) == ("cpu", "float32")


def test_the_step_is_one_at_the_largest_size(tiny, monkeypatch):
    sizes = []
    monkeypatch.setattr(Stepper, "__call__", lambda self, number, parts, rate: sizes.append(parts[0].size_wh))
    trial.dry_run_report(tiny("data.sizes=[64,128x64,96]"))
    assert set(sizes) == {(96, 96)}


def test_weights_are_taken_and_told(tiny, run_folder):
    train(tiny("train.steps=1"), run_folder)
    (note,) = trial.dry_run_report(tiny(), weights=run_folder).notes
    assert f"from {run_folder}: 9 of 9 layers" in note
    with pytest.raises(WeightsError, match="no such file or run"):
        trial.dry_run_report(tiny(), weights="nowhere.pt")
    assert trial.dry_run_report(tiny()).notes == ()
    (note,) = trial.dry_run_report(tiny("model.norm.kind=none"), weights=run_folder).notes
    assert note.endswith("left out: none; batch norms made into none")


def test_says_when_memory_does_not_do(tiny, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Stepper, "__call__", no_memory)
    with pytest.raises(MachineError, match=r"out of memory on cpu; raise train.accumulate"):
        trial.dry_run_report(tiny())


def test_what_thaws_later_learns_in_the_trial(tiny, monkeypatch):
    learning = []
    take_step = Stepper.__call__

    def look(self, number, parts, rate):
        took = take_step(self, number, parts, rate)
        learning.append(all(parameter.requires_grad for parameter in self.step.network.parameters()))
        return took

    monkeypatch.setattr(Stepper, "__call__", look)
    trial.dry_run_report(tiny("train.freeze=backbone", "train.steps=30", "train.unfreeze_at=5"))
    trial.dry_run_report(tiny("train.freeze=backbone", "train.steps=30"))
    assert learning == [True, True, False, False]
