"""`replay`: the step that failed is repeated from its file alone."""

import math
import pickle
from dataclasses import replace

import pytest
import torch

from yolo9k import checkpoint
from yolo9k.config import ClassifierConfig, Config, load_classifier_config, load_config
from yolo9k.datasets.loader.batches import make_batch
from yolo9k.detection.loss import RegionLoss
from yolo9k.errors import ConfigError, DivergedError, WeightsError
from yolo9k.training import train
from yolo9k.training.replay import replay, save_step
from yolo9k.training.run import build_run

TINY_CLASSIFIER = (
    "model={name: tiny, width: 0.1}", "data.size=64", "data.workers=0", "train.batch=2", "train.steps=2",
    "train.device=cpu", "train.precision=float32", "train.eval_every=0", "data.augment.mixup=0.2",
)  # fmt: skip


def batch_of(run, step):
    return make_batch(run.task.dataset_in(run.stage(step)), run.sampler(step, step + 1).requests(step))


def diverged(config, folder):
    with pytest.raises(DivergedError):
        train(config, folder)
    (path,) = folder.glob("diverged-step*.pt")
    return path


def step_and_its_repetition(config, folder, step=1):
    """The losses of a step of a new run, and those of the step repeated from its file."""
    run = build_run(config, folder)
    batch = batch_of(run, step)
    save_step(run, step, batch, folder / "step.pt")
    size = len(batch) // config.train.accumulate
    parts = [batch.part(start, start + size) for start in range(0, len(batch), size)]
    losses = run.stepper(step, parts, 0.01)
    return losses, replay(folder / "step.pt")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_repeated_step_has_the_same_losses(tiny, run_folder, accumulate):
    losses, found = step_and_its_repetition(tiny(f"train.accumulate={accumulate}"), run_folder)
    assert found.is_finite
    assert (found.seen, found.precision, found.images, found.layer) == (8, "float32", {}, "")
    losses.pop("gradient_norm")
    assert found.losses == pytest.approx({name: float(value) for name, value in losses.items()}, rel=1e-6)


def test_a_classifier(zoo, tmp_path):
    (zoo / "kinds.yaml").write_text(f"kind: folder\nroot: {zoo}\nsplits: {{train: [kinds]}}\n")
    config = load_classifier_config(None, [*TINY_CLASSIFIER, f"data.dataset={zoo / 'kinds.yaml'}"])
    losses, found = step_and_its_repetition(config, tmp_path)
    assert found.losses == pytest.approx({"classification": float(losses["classification"])}, rel=1e-6)
    assert replay(tmp_path / "step.pt", kind=ClassifierConfig).is_finite
    with pytest.raises(ConfigError, match="classify train"):
        replay(tmp_path / "step.pt", kind=Config)


def test_a_huge_lr_has_the_same_losses_that_are_not_finite(tiny, run_folder, monkeypatch):
    forward, terms = RegionLoss.forward, {}

    def kept(self, head, features, batch, seen):
        losses = forward(self, head, features, batch, seen)
        terms[seen // 4 - 1] = {name for name, value in losses.items() if not value.isfinite()}
        return losses

    monkeypatch.setattr(RegionLoss, "forward", kept)
    path = diverged(tiny("train.lr=1e6", "train.warmup=0", "train.steps=100"), run_folder)
    expected = dict(terms)
    found = replay(path)
    assert not found.is_finite
    assert (found.step, set(found.bad_losses)) == (int(path.stem[13:]), expected[found.step])
    assert found.layer or found.bad_gradients or found.bad_statistics
    assert found.bad_weights == []
    assert found.largest_weight[0] > 1e3


def test_an_infinite_weight_is_the_first_cause(tiny, tmp_path):
    folder = train(tiny("train.steps=1"), tmp_path / "good")
    stored = checkpoint.load(folder / "checkpoints" / "last.pt")
    name = next(
        name for name in list(stored.weights)[10:] if name.endswith("weight") and stored.weights[name].dim() > 1
    )
    weights = {key: value.clone() for key, value in stored.weights.items()}
    weights[name][0, 0, 0, 0] = math.inf
    checkpoint.save(replace(stored, weights=weights), tmp_path / "bad.pt")
    with pytest.raises(DivergedError):
        train(tiny(), tmp_path / "run", weights=tmp_path / "bad.pt")
    found = replay(tmp_path / "run" / "diverged-step0.pt")
    (layer,) = found.bad_weights
    assert name.startswith(layer)
    assert found.layer.startswith(layer)
    assert f"NaN or infinite before the step in {layer}" in found.lines()[1]


def test_one_image_has_a_loss_that_is_not_finite(tiny, run_folder, monkeypatch):
    box = RegionLoss._box
    bad_image = []

    def bad_box(self, raw, boxes, targets, assignment):
        bad_image[:] = bad_image or [targets.xyxy[0].clone()]
        is_there = any(torch.equal(row, bad_image[0]) for row in targets.xyxy)
        return box(self, raw, boxes, targets, assignment) + (math.nan if is_there else 0)

    monkeypatch.setattr(RegionLoss, "_box", bad_box)
    path = diverged(tiny(), run_folder)
    found = replay(path)
    names = checkpoint.load(path).training["batch"]["names"]
    assert (found.bad_losses, found.layer, found.images) == (["box"], "", {names[0]: "box"})
    assert found.bad_gradients == []  # a constant that is added has none


class Code:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a stranger ran')",))


def test_other_files_are_refused(tiny, run_folder):
    run = build_run(tiny(), run_folder)
    path = run_folder / "step.pt"
    save_step(run, 0, batch_of(run, 0), path)
    content = torch.load(path, weights_only=True)
    batch = content["training"]["batch"]
    for changes in (
        {"label": batch["label"] + 100},
        {"image_index": batch["image_index"] - 1},
        {"names": ()},
        {"images": batch["images"][:1, :1, :1, :1].expand(4, 3, 32 << 10, 32 << 10)},
        {"xyxy": None},
    ):
        torch.save({**content, "training": {**content["training"], "batch": {**batch, **changes}}}, path)
        with pytest.raises(WeightsError, match=r"step.pt: its step cannot be repeated: "):
            replay(path)
    torch.save({**content, "training": None}, path)
    with pytest.raises(WeightsError, match="is not a step that failed; a diverged run writes"):
        replay(path)
    torch.save({**content, "training": Code()}, path)
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        replay(path)
    path.write_bytes(pickle.dumps(Code()))
    with pytest.raises(WeightsError):
        replay(path)


def test_nothing_of_the_data_set_is_needed(tiny, run_folder):
    run = build_run(tiny(), run_folder)
    gone = load_config(None, ["data.dataset=voc"])
    save_step(run, 0, batch_of(run, 0), run_folder / "step.pt")
    stored = checkpoint.load(run_folder / "step.pt")
    config = stored.config.model_copy(
        update={"data": stored.config.data.model_copy(update={"dataset": gone.data.dataset})}
    )
    checkpoint.save(replace(stored, config=config), run_folder / "moved.pt")
    assert replay(run_folder / "moved.pt").losses == replay(run_folder / "step.pt").losses
