import pytest
import torch

from yolo9k.errors import ConfigError, MachineError, WeightsError
from yolo9k.pretrained import DarknetFiles
from yolo9k.training import train
from yolo9k.training.dry_run import dry_run_report
from yolo9k.training.step import Stepper


def test_reports_time_and_memory_and_writes_nothing(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = dry_run_report(tiny("data.sizes=[64,96]", "train.accumulate=2", "train.steps=30"))
    assert list(tmp_path.iterdir()) == []
    assert report.total_steps == 30
    assert report.epochs == pytest.approx(20)  # 6 images, 4 a step
    assert report.images_per_second == pytest.approx(4 / report.step_seconds)
    # the timed step is at 96x96, and half of the run is at 64x64
    assert report.estimated_seconds == pytest.approx(30 * report.step_seconds * (1 + (64 / 96) ** 2) / 2)
    assert report.parameters > 1000
    assert report.operations > 1e6
    assert report.memory_bytes > 2**20
    assert (report.device, report.precision) == ("cpu", "float32")


def test_the_step_uses_the_largest_size(tiny, monkeypatch):
    sizes = []
    monkeypatch.setattr(Stepper, "__call__", lambda self, step, batches, lr: sizes.append(batches[0].size_wh))
    dry_run_report(tiny("data.sizes=[64,128x64,96]"))
    assert set(sizes) == {(96, 96)}


def test_weights_are_loaded_and_reported(tiny, run_folder):
    train(tiny("train.steps=1"), run_folder)
    layers, rows = dry_run_report(tiny(), weights=run_folder).notes
    assert f"from {run_folder}: 9 of 9 layers" in layers
    assert rows.startswith("head: 6 of 6 classes by name")
    with pytest.raises(WeightsError, match="no such file or run"):
        dry_run_report(tiny(), weights="nowhere.pt")
    assert dry_run_report(tiny()).notes == ()
    layers, _ = dry_run_report(tiny("model.norm.kind=none"), weights=run_folder).notes
    assert layers.endswith("unused: none; batch norms converted to none")


def test_files_of_darknet_are_for_darknet_weights(tiny, run_folder):
    train(tiny("train.steps=1"), run_folder)
    with pytest.raises(ConfigError, match="cfg"):
        dry_run_report(tiny(), weights=run_folder, files=DarknetFiles(cfg="a.cfg"))


def test_too_little_memory_is_a_machine_error(tiny, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Stepper, "__call__", no_memory)
    with pytest.raises(MachineError, match=r"out of memory on cpu; raise train.accumulate"):
        dry_run_report(tiny())


def test_layers_that_unfreeze_later_are_trained_in_the_dry_run(tiny, monkeypatch):
    all_trained = []
    run_step = Stepper.__call__

    def record(self, step, micro_batches, lr):
        losses = run_step(self, step, micro_batches, lr)
        all_trained.append(all(parameter.requires_grad for parameter in self.network.parameters()))
        return losses

    monkeypatch.setattr(Stepper, "__call__", record)
    dry_run_report(tiny("train.freeze=backbone", "train.steps=30", "train.unfreeze_at=5"))
    dry_run_report(tiny("train.freeze=backbone", "train.steps=30"))
    assert all_trained == [True, True, False, False]
