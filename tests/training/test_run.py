import re
import shutil

import pytest
import torch

from yolo9k import checkpoint
from yolo9k.checkpoint import BEST, LAST
from yolo9k.config import load_dataset_config, updated
from yolo9k.errors import ConfigError, DataError, MachineError, WeightsError
from yolo9k.pretrained import open_weights
from yolo9k.progress import silent
from yolo9k.training.run import build_run
from yolo9k.training.stages import DEFAULT_EPOCHS
from yolo9k.wordtree.supervision import Supervision


def write(run, name):
    """Save a checkpoint, and wait until it is complete."""
    if name == LAST:
        run.save_last()
    else:
        run.save(name)
    run.checkpoints.wait()


def equal_weights(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_length_counts_steps_or_epochs(tiny, run_folder):
    def length(*changes):
        return build_run(tiny(*changes), run_folder).total_steps

    assert length("train.steps=7") == 7
    assert length("train.steps=null", "train.epochs=10") == 15  # 6 images, 4 a step
    assert length("train.steps=null", "train.epochs=0.1") == 1
    assert length("train.steps=null") == DEFAULT_EPOCHS * 6 / 4


def test_building_writes_nothing(tiny, run_folder):
    build_run(tiny(), run_folder)
    assert not run_folder.exists()


def test_the_same_seed_gives_the_same_weights(tiny, run_folder):
    states = [build_run(tiny(f"train.seed={seed}"), run_folder).network.state_dict() for seed in (1, 1, 2)]
    assert equal_weights(states[0], states[1])
    assert not equal_weights(states[0], states[2])


def test_the_config_is_resolved(tiny, run_folder):
    run = build_run(tiny("model.anchors=auto", "model.num_anchors=2", "train.precision=auto"), run_folder)
    assert len(run.config.model.anchors) == 2
    assert run.config.train.precision in ("float32", "bf16", "fp16")
    assert run.config.data.dataset.labels == run.task.labels.names


def test_checkpoints_hold_the_averaged_weights(tiny, run_folder):
    run = build_run(tiny("train.ema=0.9"), run_folder)
    with torch.no_grad():
        run.ema.network.head.conv.bias.fill_(7)
    write(run, BEST)
    write(run, LAST)
    best, last = (checkpoint.load(run.folder.checkpoints / name) for name in (BEST, LAST))
    assert best.training is None
    for stored in (best, last):
        assert (stored.weights["head.conv.bias"] == 7).all()
        assert stored.config == run.config
        assert stored.labels == run.task.labels
    assert not (last.training["network"]["head.conv.bias"] == 7).any()
    assert last.training["next_step"] == 0


def test_a_note_lists_the_layers_that_were_loaded(tiny, run_folder):
    source = build_run(tiny(), run_folder)
    write(source, BEST)
    run = build_run(tiny("train.seed=5", "train.ema=0.9", "model.anchors=[[1,1]]"), run_folder)
    run.start_from(open_weights(run_folder), run_folder)
    target_state, source_state = run.network.state_dict(), source.network.state_dict()
    assert equal_weights({n: v for n, v in target_state.items() if not n.startswith("head")}, source_state)
    assert equal_weights(target_state, run.ema.network.state_dict())
    note, head = run.notes
    assert head == "head: new: the weights have 2 anchors, the model 1"
    assert "8 of 9 layers: backbone.fine.0.0 to neck.join; new: head; unused: head" in note
    assert str(run_folder) in note


def test_starting_from_the_same_model_loads_all_layers(tiny, run_folder):
    write(build_run(tiny(), run_folder), LAST)
    run = build_run(tiny("train.seed=5"), run_folder)
    run.start_from(open_weights(run_folder), run_folder)
    assert "new: none; unused: none" in run.notes[0]


def test_starting_from_a_model_without_common_layers(tiny, run_folder):
    run = build_run(tiny(), run_folder)
    write(run, BEST)
    stored = checkpoint.load(run_folder / "checkpoints" / BEST)
    other = {f"other.{name}": value[:1] if value.dim() else value for name, value in stored.weights.items()}
    with pytest.raises(WeightsError, match="none of its layers fits this model"):
        run.start_from(checkpoint.Checkpoint(stored.config, stored.labels, other), run_folder)


def test_another_model_cannot_be_restored(tiny, run_folder):
    run = build_run(tiny(), run_folder)
    write(run, LAST)
    path = run.folder.checkpoints / LAST
    for change in ("model.width=0.5", "train.optimizer=adamw"):
        with pytest.raises(WeightsError, match="does not fit the run's model and optimiser"):
            build_run(tiny(change), run_folder).restore(checkpoint.load(path), path)


def test_patience_needs_a_validation_split(tiny, run_folder):
    with pytest.raises(ConfigError, match=r"needs a validation split; the data set has no split 'test'"):
        build_run(tiny("train.eval_every=1", "train.patience=1", "eval.split=test"), run_folder)


def test_label_errors_are_counted_before_the_first_step(tiny, toy, tmp_path, run_folder, caplog):
    shutil.copytree(toy.root, tmp_path / "toy")
    label = sorted((tmp_path / "toy" / "labels" / "train").iterdir())[0]
    label.write_text(label.read_text() + "0 0.5 0.5 0 0.1\n")
    config = tiny(f"data.dataset.root={tmp_path / 'toy'}")
    build_run(config, run_folder)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "train: 1 zero area; first: " in message


def test_a_missing_folder_names_itself(tiny, run_folder):
    with pytest.raises(DataError, match="/nowhere: no such folder"):
        build_run(tiny("data.dataset.root=/nowhere"), run_folder)


def test_a_checkpoint_counts_images_and_knows_the_supervision(tiny, run_folder):
    run = build_run(tiny(), run_folder)
    run.task.supervision, run.next_step = Supervision((0, 1), (2,)), 3
    write(run, LAST)
    stored = checkpoint.load(run_folder / "checkpoints" / LAST)
    assert stored.training["seen"] == 3 * 4
    assert stored.supervision == run.task.supervision


def test_an_impossible_schedule_is_an_error_before_the_first_step(tiny, run_folder):
    with pytest.raises(ConfigError, match=r"train\.schedule: the learning rate of step \d+ would be "):
        build_run(tiny("train.schedule={policy: exp, gamma: 1e308}"), run_folder)


def test_the_memory_of_a_step(tiny, run_folder, monkeypatch):
    """Four images of 1000 bytes in float32, and four bytes per parameter that is trained in the last step."""
    needed = []
    monkeypatch.setattr("yolo9k.training.run.require_memory", lambda amount, *_: needed.append(amount))
    monkeypatch.setattr("yolo9k.training.run.image_bytes", lambda *_, **__: 1000)
    network = build_run(tiny(), run_folder).network
    for change in ("train.precision=bf16", "train.accumulate=2", "train.freeze=backbone"):
        build_run(tiny(change), run_folder)
    build_run(tiny("train.freeze=backbone", "train.unfreeze_at=2"), run_folder)
    every, frozen = (4 * sum(p.numel() for p in part.parameters()) for part in (network, network.backbone))
    assert needed == [every + 4000, every + 2000, every + 2000, every - frozen + 4000, every + 4000]


# --- joint data sets


@pytest.fixture
def joint(tiny, zoo):
    def config(*overrides):
        dataset = load_dataset_config(zoo / "joint.yaml")
        return updated(tiny(*overrides), {"data.dataset": dataset})

    return config


def test_the_evaluation_knows_how_each_label_is_trained(joint, run_folder, monkeypatch):
    def evaluate(detector, *_, **__):
        raise DataError(str(detector.supervision))

    monkeypatch.setattr("yolo9k.training.tasks.detection.evaluate_detector", evaluate)
    run = build_run(joint("train.batch=6", "train.steps=1"), run_folder)
    assert run.task.supervision.images
    with pytest.raises(DataError, match=re.escape(str(run.task.supervision))):
        run.task.score(run.eval_model(), None, silent)


def test_a_joint_run_trains_on_box_labels_and_image_level_labels(joint, run_folder):
    run = build_run(joint("train.batch=6", "train.steps=1", "model.anchors=auto", "model.num_anchors=1"), run_folder)
    assert run.steps_per_epoch == 4 * 3 / 6
    assert len(run.config.model.anchors) == 1
    info = run.info()
    assert (info.data_summary, len(info.labels)) == ("4 images with 8 boxes", 8)
    assert info.notes == (
        "boxes: 4 images with boxes, sampling weight 1 of 3",
        "kinds: 6 images with image-level labels, sampling weight 2 of 3",
    )
    ((_, micro_batches),) = run.remaining_steps()
    losses = run.stepper(0, micro_batches, 0.01)
    assert {"box", "classification", "image_label"} <= losses.keys()
    assert all(torch.isfinite(value) for value in losses.values())
    assert run.task.train.supervision().images == tuple(run.task.labels.find(key) for key in ("n1", "terrier", "car"))
    assert len(run.task.val.records) == 2
    assert run.task.val.labels == run.task.labels


def test_a_joint_run_is_saved_and_restored(joint, run_folder, monkeypatch, tmp_path):
    first = build_run(joint(), run_folder)
    write(first, LAST)
    path = first.folder.checkpoints / LAST
    monkeypatch.chdir(tmp_path.parent)
    stored = checkpoint.load(path)
    again = build_run(stored.config, run_folder)
    again.restore(stored, path)
    assert again.config == first.config
    assert [batch.names for _, batches in again.remaining_steps() for batch in batches] == [
        batch.names for _, batches in first.remaining_steps() for batch in batches
    ]


def test_a_changed_label_tree_is_an_error(joint, run_folder, zoo):
    run = build_run(joint(), run_folder)
    write(run, LAST)
    path = run.folder.checkpoints / LAST
    text = (zoo / "zoo.txt").read_text()
    (zoo / "zoo.txt").write_text(text.replace("bus", "tram"))
    with pytest.raises(WeightsError, match=r"last\.pt: its labels differ from those of the data set"):
        build_run(joint(), run_folder).restore(checkpoint.load(path), path)


def test_the_label_errors_of_each_source_are_counted(joint, run_folder, zoo, caplog):
    label = zoo / "boxes" / "train" / "0.txt"
    label.write_text(label.read_text() + "0 0.5 0.5 0 0.1\n")
    notes = build_run(joint(), run_folder).notes
    assert [note.partition(":")[0] for note in notes] == ["boxes", "kinds"]
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert message.startswith("boxes, train: 1 zero area; first: ")
    assert "has no area" in message


def test_a_run_of_an_earlier_version_cannot_be_resumed(tiny, run_folder):
    run = build_run(tiny(), run_folder)
    write(run, LAST)
    path = run.folder.checkpoints / LAST
    stored = checkpoint.load(path)
    del stored.training["stepper"]
    with pytest.raises(WeightsError, match=r"last\.pt: is from an earlier version and cannot be resumed"):
        run.restore(stored, path)


def test_a_step_that_exceeds_the_memory_is_refused(tiny, run_folder, monkeypatch):
    monkeypatch.setattr("yolo9k.hardware.free_memory", lambda: 10_000)
    with pytest.raises(MachineError, match=r"a step with 4 images of \d+x\d+ needs at least 0\.0 GB of memory"):
        build_run(tiny(), run_folder)
