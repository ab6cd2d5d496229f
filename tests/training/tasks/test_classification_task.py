"""Training a classifier: images, loss, stages and resuming."""

import json

import cv2
import numpy as np
import pytest
import torch
from several import in_processes
from typer.testing import CliRunner

from yolo9k import checkpoint
from yolo9k.cli.classify import app
from yolo9k.config import ClassifierConfig, Config, DatasetConfig, load_classifier_config, updated
from yolo9k.config.classifier import ClassifierModelConfig
from yolo9k.config.datasets import TreeLabels
from yolo9k.errors import ConfigError, WeightsError
from yolo9k.pretrained import build_detector, build_whole_classifier, open_weights
from yolo9k.training import resume, train
from yolo9k.training.dry_run import dry_run_report
from yolo9k.training.run import build_run
from yolo9k.training.stages import stages_of

COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
SETTINGS = (
    "model.name=tiny", "model.width=0.1", "data.size=32", "data.workers=0", "data.augment.geometry=none",
    "train.batch=6", "train.steps=4", "train.warmup=0", "train.log_every=1", "train.eval_every=1",
    "train.device=cpu", "train.precision=float32", "train.optimizer=adamw", "train.lr=0.01",
)  # fmt: skip


@pytest.fixture(scope="session")
def kinds(tmp_path_factory):
    """Per colour, six training and three validation images; and a label tree of the colours."""
    root = tmp_path_factory.mktemp("kinds")
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                image = np.clip(rng.normal(colour, 30, (40, 48, 3)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(root / split / name / f"{i}.png"), image[..., ::-1])
    (root / "tree.txt").write_text("colour\n  warm\n    red\n  cold\n    green\n    blue\n")
    return root


@pytest.fixture
def tiny_classifier(kinds):
    """The config of a small classifier, with overrides; `tree`: with the label tree."""

    def make(*overrides, tree=False):
        config = load_classifier_config(None, [*SETTINGS, *overrides])
        labels = TreeLabels(tree=str(kinds / "tree.txt")) if tree else ()
        splits = {"train": ("train",), "val": ("val",)}
        dataset = DatasetConfig(kind="folder", root=str(kinds), splits=splits, labels=labels, name="kinds")
        return updated(config, {"data.dataset": dataset})

    return make


@pytest.mark.parametrize("tree", [False, True])
def test_a_classifier_learns_the_colours(tiny_classifier, run_folder, tree):
    train(tiny_classifier("train.steps=60", "train.eval_every=20", "train.ema=0.5", tree=tree), run_folder)
    header, *rows = (run_folder / "results.csv").read_text().splitlines()
    assert header == "step,epoch,top1,top5"
    assert float(rows[-1].split(",")[2]) >= 8 / 9
    stored = open_weights(run_folder)
    assert stored.config.task == "classify"
    assert len(stored.labels) == (6 if tree else 3)
    assert stored.supervision.images == tuple(sorted(stored.labels.find(name) for name in COLOURS))
    network, _ = build_whole_classifier(stored, run_folder)
    assert network(torch.rand(2, 3, 32, 32)).shape == (2, len(stored.labels))
    assert (run_folder / "plots" / "curves.png").exists()


def test_stages_have_their_own_sizes_lengths_and_learning_rates(tiny_classifier, run_folder):
    config = tiny_classifier(
        "train.steps=null", "train.schedule.policy=poly", "train.schedule.power=1",
        "stages=[{size: 32, epochs: 2, lr: 0.1}, {size: 64, steps: 4, lr: 0.01, warmup: 2, accumulate: 2}]",
    )  # fmt: skip
    run = build_run(config, run_folder)
    assert [(stage.start, stage.stop, stage.sizes) for stage in run.stages] == [
        (0, 6, ((32, 32),)), (6, 10, ((64, 64),)),
    ]  # fmt: skip
    lrs = [run.stage(step).learning_rate(step, run.steps_per_epoch) for step in range(10)]
    assert [lrs[step] for step in (0, 2, 5)] == pytest.approx([0.1 * 5 / 6, 0.1 * 3 / 6, 0])
    assert [lrs[step] for step in (6, 7, 9)] == pytest.approx([0.01 * 0.5**4, 0.01 * 0.5, 0])
    for run.next_step, side in ((6, 32), (7, 64)):  # a checkpoint has the size of the stage of its last step
        assert run.eval_model().config.data.size == (side, side)
    run.next_step = 0
    sizes = [(len(batches), {batch.size_wh for batch in batches}) for _, batches in run.remaining_steps()]
    assert sizes == [(1, {(32, 32)})] * 6 + [(2, {(64, 64)})] * 4


def test_a_missing_validation_split_is_a_warning(tiny_classifier, run_folder, caplog):
    config = tiny_classifier("eval.split=holiday")
    named = updated(config, {"data.dataset": updated(config.data.dataset, {"name": "colours"})})
    build_run(named, run_folder)
    build_run(updated(named, {"data.dataset": updated(config.data.dataset, {"name": ""})}), run_folder)
    build_run(tiny_classifier("eval.split=holiday", "train.eval_every=0"), run_folder)  # none is expected
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(" (it has")[0] for line in lines] == [
        "colours: no split 'holiday'", f"{config.data.dataset.root}: no split 'holiday'",
    ]  # fmt: skip


def test_a_config_without_stages_has_one_stage(tiny_classifier):
    (stage,) = stages_of(tiny_classifier("train.steps=null", "train.epochs=5"), 3.0)
    assert (stage.start, stage.stop, stage.sizes) == (0, 15, ((32, 32),))


def test_each_stage_saves_a_checkpoint_with_its_size(tiny_classifier, run_folder):
    train(tiny_classifier("stages=[{steps: 2}, {size: 64, steps: 1}]", "train.eval_every=0"), run_folder)
    first, last = (checkpoint.load(run_folder / "checkpoints" / name) for name in ("stage1.pt", "last.pt"))
    assert first.config.data.size == (32, 32)
    assert last.config.data.size == (64, 64)
    assert [stage.size for stage in last.config.stages] == [(32, 32), (64, 64)]
    assert len((run_folder / "results.csv").read_text().splitlines()) == 3  # at the end of each stage


@pytest.mark.parametrize("stop", [1, 3])
def test_a_run_stopped_in_any_stage_resumes_exactly(tiny_classifier, tmp_path, stop):
    changes = ("stages=[{steps: 2}, {size: 64, steps: 3}]", "data.augment.mixup=0.4", "train.deterministic=true")
    whole = train(tiny_classifier(*changes), tmp_path / "whole")
    short = f"stages=[{{steps: {min(stop, 2)}}}" + (f", {{size: 64, steps: {stop - 2}}}]" if stop > 2 else "]")
    part = train(tiny_classifier(*changes, short, "train.schedule.policy=constant"), tmp_path / "part")
    resume(part, overrides=[changes[0]])
    constant = train(tiny_classifier(*changes, "train.schedule.policy=constant"), tmp_path / "constant")
    ends = [checkpoint.load(folder / "checkpoints" / "last.pt").weights for folder in (part, constant, whole)]
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert not torch.equal(ends[2]["last.weight"], ends[1]["last.weight"])


def test_mixup_mixes_two_losses_and_depends_only_on_the_step(tiny_classifier, run_folder):
    run = build_run(tiny_classifier("data.augment.mixup=0.4"), run_folder)
    step = run.stepper.training_step.eval()
    (_, (batch,)), *_ = run.remaining_steps()
    images = batch.normalised()
    mixed = step.losses(batch, images, 6)["classification"]
    assert torch.equal(mixed, step.losses(batch, images, 6)["classification"])
    assert not torch.equal(mixed, step.losses(batch, images, 12)["classification"])
    same = torch.zeros_like(batch.image_label)
    alike = type(batch)(**{**vars(batch), "image_label": same})
    one = images[:1].expand_as(images)  # mixing an image with itself changes nothing
    plain = build_run(tiny_classifier(), run_folder).stepper.training_step.eval()
    assert torch.allclose(
        step.losses(alike, one, 6)["classification"], plain.losses(alike, one, 6)["classification"], rtol=1e-5
    )


def test_smoothing_raises_the_loss_of_confident_predictions(tiny_classifier, run_folder):
    losses = []
    for smoothing in (0.0, 0.2):
        run = build_run(tiny_classifier(f"loss.label_smoothing={smoothing}"), run_folder)
        step = run.stepper.training_step.eval()
        (_, (batch,)), *_ = run.remaining_steps()
        confident = torch.nn.functional.one_hot(batch.image_label, 3).float() * 20
        losses.append(step._cross_entropy(confident, batch.image_label).mean())
    assert losses[0] < 1e-3
    assert losses[1] == pytest.approx(20 * 0.2 * 2 / 3, rel=1e-3)


def test_a_detector_starts_from_a_classifier(tiny_classifier, tiny, tmp_path):
    run = train(tiny_classifier("train.eval_every=0"), tmp_path / "classifier")
    stored = open_weights(run)
    detector = build_run(tiny("model.width=0.1"), tmp_path / "detector")
    detector.start_from(stored, run)
    state = detector.network.state_dict()
    for name, value in stored.weights.items():
        if name.startswith("backbone."):
            assert torch.equal(state[name], value)
    assert "unused: last" in detector.notes[-1]
    with pytest.raises(WeightsError, match="a classifier, not a detector"):
        build_detector(stored, run)


def test_patience_needs_a_validation_split(tiny_classifier, run_folder):
    with pytest.raises(ConfigError, match="patience: needs a validation split; the data set has no split 'test'"):
        build_run(tiny_classifier("eval.split=test", "train.patience=2"), run_folder)


def test_a_data_set_with_boxes_is_an_error(tiny_classifier, tiny, run_folder):
    config = tiny_classifier()
    wrong = updated(config, {"data.dataset": tiny().data.dataset})
    with pytest.raises(ConfigError, match="image-level labels need kind folder or shards, not yolo"):
        build_run(wrong, run_folder)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("{steps: 1, epochs: 2}", "stages.1.epochs and steps: give only one"),
        ("{accumulate: 4}", r"stages.1.accumulate: must divide train.batch \(6\), not 4"),
        ("{min_crop: 600}", r"stages.1.max_crop: must be at least min_crop \(600\), not 448"),
    ],
)
def test_stages_that_are_errors(tiny_classifier, stage, message):
    with pytest.raises(ConfigError, match=message):
        tiny_classifier(f"stages=[{{steps: 1}}, {stage}]")


def test_a_batch_of_one_image(tiny_classifier, run_folder):
    with pytest.raises(ConfigError, match=r"train\.batch: batch norm needs more than one value per channel"):
        train(tiny_classifier("train.batch=1"), run_folder)
    with pytest.raises(ConfigError, match=r"augment\.mixup=0\.2: mixes the images of a micro-batch"):
        tiny_classifier("train.accumulate=6", "data.augment.mixup=0.2", "data.size=64")
    for change in ("data.size=64x32", "model.norm.kind=group", "train.freeze=backbone"):
        train(tiny_classifier("train.batch=1", "train.steps=1", change), run_folder.with_name(change))


def test_patience_with_several_stages_is_an_error(tiny_classifier):
    with pytest.raises(ConfigError, match=r"train\.patience=3: must be 0 with several stages"):
        tiny_classifier("stages=[{steps: 1}, {steps: 1}]", "train.patience=3")


def test_a_run_of_another_kind_is_not_resumed(tiny_classifier, run_folder):
    train(tiny_classifier("train.steps=1", "train.eval_every=0"), run_folder)
    with pytest.raises(ConfigError, match=f"{run_folder}: must be .* a detector, not .* a classifier"):
        resume(run_folder, overrides=["train.steps=2"], kind=Config)
    assert resume(run_folder, overrides=["train.steps=2"], kind=ClassifierConfig) == run_folder


def test_dropout_depends_only_on_the_step(tiny_classifier, tmp_path):
    cfg = "[net]\nwidth=32\nheight=32\nchannels=3\n[conv]\nfilters=8\nsize=3\nstride=2\npad=1\n[dropout]\n"
    cfg += "probability=.5\n[conv]\nfilters=3\nactivation=linear\n[avgpool]\n[softmax]\n"
    model = ClassifierModelConfig(name="darknet", cfg=cfg)
    config = tiny_classifier("train.steps=3", "train.eval_every=0", "train.schedule.policy=constant")
    config = updated(config, {"model": model})
    whole = train(config, tmp_path / "whole")
    part = train(updated(config, {"train.steps": 1}), tmp_path / "part")
    torch.manual_seed(99)  # stands for other random draws in between
    resume(part, overrides=["train.steps=3"])
    first, second = (checkpoint.load(folder / "checkpoints" / "last.pt").weights for folder in (whole, part))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("option", [["--epochs", "2.5"], ["--steps", "5"], ["--lr", "0.1"]])
def test_an_option_that_every_stage_overrides_is_an_error(kinds, tmp_path, option):
    arguments = ["train", "--config", "darknet19-imagenet", "--dataset", str(kinds), "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(app, [*arguments, *option])
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith(f"{option[0]} {option[1]}: has no effect, every stage of this config sets")
    assert not any((tmp_path / "runs").glob("*"))


def test_a_dry_run_counts_operations_at_the_size_of_the_last_stage(tiny_classifier):
    def operations(size):
        report = dry_run_report(tiny_classifier(f"stages=[{{size: 32, steps: 2}}, {{size: {size}, steps: 2}}]"))
        assert report.size_wh == (size, size)
        return report.operations

    assert operations(96) > 8 * operations(32)  # 9 times the pixels, except in the average pooling


@pytest.mark.parametrize("kind", ["batch", "group", "frozen", "none"])
def test_a_classifier_trains_with_every_norm(tiny_classifier, run_folder, kind):
    train(tiny_classifier(f"model.norm.kind={kind}", "train.steps=2"), run_folder)
    resume(run_folder, overrides=["train.steps=4"])
    assert open_weights(run_folder).config.model.norm.kind == kind


@pytest.mark.parametrize("tree", [False, True])
def test_two_processes_train_as_one(tiny_classifier, tmp_path, tree):
    # Group norm of a 1x1 map and AdamW amplify rounding.
    changes = "train.steps=3", "model.norm.kind=none", "train.optimizer=sgd", "train.lr=0.001"
    config = tiny_classifier(*changes, tree=tree)
    train(config, tmp_path / "one")
    assert in_processes(2, train, config, tmp_path / "two") == [tmp_path / "two"] * 2
    rows = [[json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()] for name in ("one", "two")]
    for one, two in zip(*rows, strict=True):
        assert two | {"images_per_second": 0} == pytest.approx(one | {"images_per_second": 0}, rel=2e-4, abs=1e-6)
    assert (tmp_path / "one/results.csv").read_text() == (tmp_path / "two/results.csv").read_text()
