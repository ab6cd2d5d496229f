import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image
from toy_data import write_toy

from yolo9k import checkpoint, cli
from yolo9k.config import dump, load_config

CONFIG = """\
model: {name: yolov2-tiny, width: 0.1, anchors: [[0.5, 0.5], [1, 1]]}
data: {dataset: toy.yaml, size: 64, workers: 0}
train: {batch: 4, steps: 3, warmup: 2, lr: 0.01, precision: float32, device: cpu, log_every: 1, eval_every: 0}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, which contains `toy.yaml`, its images and `tiny.yaml`."""
    monkeypatch.chdir(tmp_path)
    dataset = write_toy(tmp_path / "toy", {"train": 6, "val": 3}, side_px=64)
    (tmp_path / "toy.yaml").write_text(dump(dataset))
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def train(here, monkeypatch, capsys):
    """Run `yolo9k train --config tiny.yaml …` as the shell does; return exit code, output and errors."""

    def run(*arguments, config="tiny.yaml"):
        first = ["--config", config] if config else []
        monkeypatch.setattr(sys, "argv", ["yolo9k", "train", *first, *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return (stopped.value.code or 0, *(text.replace(os.sep, "/") for text in capsys.readouterr()))

    return run


def stored(run):
    return checkpoint.load(Path(run) / "checkpoints" / "last.pt")


def test_a_run_writes_all_files(train):
    code, out, err = train()
    assert code == 0
    run = Path("runs/tiny-toy")
    assert "results are in runs/tiny-toy" in out
    assert "--weights runs/tiny-toy;" in out  # there is no test split
    assert "6 images" in err
    assert err.count("step ") == 3
    names = {path.relative_to(run).as_posix().split(".tfevents")[0] for path in run.rglob("*") if path.is_file()}
    assert names == {
        "config.yaml", "environment.json", "metrics.jsonl", "results.csv", "events.out",
        "checkpoints/last.pt", "checkpoints/best.pt", "plots/curves.png",
    }  # fmt: skip
    assert load_config(run / "config.yaml") == stored(run).config
    assert json.loads((run / "environment.json").read_text())["command"][:2] == ["yolo9k", "train"]


def test_names_of_runs(train):
    for _ in range(2):
        train("--steps", 1, "--name", "mine")
    train("--steps", 1, "--runs", "elsewhere")
    assert sorted(path.as_posix() for path in Path().glob("*/*/checkpoints")) == [
        "elsewhere/tiny-toy/checkpoints", "runs/mine-2/checkpoints", "runs/mine/checkpoints",
    ]  # fmt: skip


def test_options_set_config_keys(train):
    code, _, err = train(
        "--epochs", 0.5, "--batch", 2, "--size", "96x64", "--lr", "1e-4", "--device", "cpu", "--seed", 7,
        "--workers", 1, "--set", "train.ema=0.5", "--set", "train.eval_every=1", "--patience", 9, "--name", "a",
        "--precision", "float32",
    )  # fmt: skip
    assert code == 0, err
    config = stored("runs/a").config
    assert (config.train.epochs, config.train.steps, config.train.batch) == (0.5, None, 2)
    assert (config.data.size, config.data.sizes, config.data.workers) == ((96, 64), (), 1)
    assert (config.train.lr, config.train.seed, config.train.ema, config.train.patience) == (1e-4, 7, 0.5, 9)
    assert stored("runs/a").training["next_step"] == 2  # half of 6 images, batch size 2


def test_size_replaces_multi_scale_sizes(train):
    Path("many.yaml").write_text("extends: tiny.yaml\ndata: {sizes: [64, 96]}\n")
    train("--size", 64, "--steps", 1, "--name", "a", config="many.yaml")
    assert stored("runs/a").config.data.training_sizes == ((64, 64),)


def test_steps_replace_epochs(train):
    Path("long.yaml").write_text("extends: tiny.yaml\ntrain: {steps: null, epochs: 900}\n")
    train("--steps", 1, "--name", "a", config="long.yaml")
    assert (stored("runs/a").config.train.steps, stored("runs/a").config.train.epochs) == (1, None)


def test_a_folder_is_a_data_set(train):
    code, _, err = train("--dataset", "toy", "--name", "a", "--steps", 1)
    assert code == 0, err
    assert stored("runs/a").config.data.dataset.name == "toy"


def test_a_dry_run_writes_nothing(train, here):
    before = sorted(here.rglob("*"))
    code, out, _ = train("--dry-run")
    assert code == 0
    assert sorted(here.rglob("*")) == before
    for word in ("parameters", "operations", "memory", "estimated time", "0.0 min"):
        assert word in out


def test_loaded_weights_are_reported(train):
    train("--name", "a", "--steps", 1)
    _, _, err = train("--name", "b", "--steps", 1, "--weights", "runs/a", "--set", "model.num_anchors=1")
    assert "from runs/a: " in err
    assert "new: none; unused: none" in err


def test_a_dry_run_loads_the_weights(train):
    train("--name", "a", "--steps", 1)
    code, _, err = train("--dry-run", "--weights", "runs/a")
    assert code == 0
    assert "from runs/a: " in err
    assert train("--dry-run", "--weights", "nowhere.pt")[0] == 4


def test_resuming_a_finished_run(train):
    train("--name", "a")
    code, _, err = train("--resume", "runs/a", config=None)
    assert (code, err) == (
        0,
        "runs/a: finished, all 3 steps are done; for more, use --steps or --epochs\n",
    )
    code, _, err = train("--resume", "runs/a", "--steps", 2, config=None)
    assert (code, err) == (2, "error: runs/a: 3 steps are done, more than the 2 requested\n")
    code, _, err = train("--resume", "runs/a", "--batch", 0, config=None)
    assert (code, err) == (2, "error: --batch 0: must be at least 1, not 0\n")


def test_resuming_with_more_steps(train):
    train("--name", "a")
    code, _, err = train("--resume", "runs/a", "--steps", 5, config=None)
    assert code == 0, err
    assert "steps 3 to 5" in err
    assert stored("runs/a").training["next_step"] == 5


def test_resume_requires_a_run(train):
    code, _, err = train("--resume", "tiny.yaml", config="")
    message = "tiny.yaml: is not in the folder checkpoints of a run; --weights starts a new run from a file"
    assert (code, err) == (4, f"error: {message}\n")


def test_resuming_from_an_earlier_checkpoint(train):
    train("--name", "a", "--set", "train.checkpoint_every=1")
    code, _, err = train("--resume", "runs/a/checkpoints/step2.pt", config=None)
    assert code == 0, err
    assert "steps 2 to 3" in err
    assert stored("runs/a").training["next_step"] == 3


def test_auto_resume_starts_goes_on_and_says_when_it_is_finished(train):
    command = ("--name", "a", "--auto-resume")
    assert "steps 0 to 3" in train(*command)[2]
    assert "runs/a: finished, all 3 steps are done" in train(*command)[2]
    code, _, err = train(*command, "--steps", 4)
    assert code == 0, err
    assert err.startswith("--auto-resume: runs/a exists and is resumed\n")
    assert "steps 3 to 4" in err
    assert [path.name for path in Path("runs").iterdir()] == ["a"]


def test_auto_resume_takes_a_folder_that_has_no_checkpoint_yet(train):
    Path("runs/a/checkpoints").mkdir(parents=True)
    Path("runs/a/config.yaml").touch()
    assert train("--name", "a", "--auto-resume")[0] == 0
    assert [path.name for path in Path("runs").iterdir()] == ["a"]
    Path("runs/b").mkdir()
    Path("runs/b/somebody.txt").touch()
    assert train("--name", "b", "--auto-resume")[0] == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["a", "b", "b-2"]


def test_resuming_with_other_data_or_conditions_says_so(train, monkeypatch):
    train("--name", "a")
    path = Path("runs/a/checkpoints/last.pt")
    before = checkpoint.load(path)
    state = dict(before.training)
    state["data"] = {"summary": "9 images with 9 boxes", "images": [9]}
    state["conditions"] = {**state["conditions"], "threads": 99}
    checkpoint.save(replace(before, training=state), path)
    _, _, err = train("--resume", "runs/a", "--steps", 4, config=None)
    assert "the training data have changed since the checkpoint: 9 images with 9 boxes before, " in err
    assert "instead of 99: the results can differ in their last digits" in err


BAD = [
    (["--set", "train.lrr=1"], 2, "--set train.lrr=1: unknown key; did you mean train.lr?"),
    (["--set", "oops"], 2, "--set oops: must be KEY=VALUE"),
    (["--set", "=3"], 2, "--set =3: must be KEY=VALUE"),
    (["--set", "train.lr=[1"], 2, "--set train.lr=[1: the value must be YAML"),
    (["--set", "train.lr=2001-99-99"], 2, "train.lr=2001-99-99: must be a number"),
    (["--set", "train=5"], 2, "--set train=5: must be a section with keys (batch, "),
    (["--set", "train.epochs=3"], 2, "--set train.epochs=3: train.epochs and steps: give only one"),
    (["--name", "../x"], 2, "--name ../x: must be the name of a folder inside --runs, not a path"),
    (["--size", "100000"], 2, "--size 100000: width and height must be at most 8192, not 100000x100000"),
    (["--size", "50"], 2, "--size 50: width and height must be multiples of 32, not 50x50"),
    (["--batch", "0"], 2, "--batch 0: must be at least 1, not 0"),
    (["--lr", "1e30"], 2, "--lr 1e+30: must be at most 1000000, not 1e+30"),
    (["--workers", "-1"], 2, "--workers -1: must be 'auto' or at least 0, not -1"),
    (["--patience", "3"], 2, "--patience 3: needs eval_every above 0"),
    (["--dataset", "nope"], 2, "nope: no such data set file, and not in the catalogue"),
    (["--set", "data.augment.transforms=[{Nope: {}}]"], 2, "'Nope' is not an albumentations transform"),
    (["--set", "data.dataset={kind: voc, root: gone, splits: {train: [all]}}"], 3, "gone: no such folder"),
    (["--weights", "nope.pt"], 4, "nope.pt: no such file or run, and not in the catalogue"),
    (
        ["--weights", "tiny.yaml"],
        4,
        "tiny.yaml: neither a checkpoint nor a Darknet weights file",
    ),
    (["--device", "nope"], 6, "device 'nope' is not available; available: cpu"),
    (["--device", "99"], 6, "device 'cuda:99' is not available; available: cpu"),
    (["--precision", "fp16"], 6, "precision: fp16 needs a GPU"),
    (["--runs", "tiny.yaml"], 6, "--runs tiny.yaml: cannot be written: it is a file, a folder is needed"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=[" ".join(arguments) for arguments, *_ in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(train, here, arguments, code, message):
    found, out, err = train(*arguments)
    assert (found, out) == (code, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not list(here.glob("runs/*"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "data.dataset: is missing"),
        (["--config", "nope"], 2, "nope: no such config file, and not in the catalogue"),
        (["--resume", "nope"], 4, "nope: no such run folder"),
        (
            ["--resume", "nope", "--dataset", "toy"],
            2,
            "--resume continues a run with its own settings: remove --dataset",
        ),
        (
            ["--resume", "nope", "--runs", "elsewhere"],
            2,
            "--resume continues a run with its own settings: remove --runs",
        ),
    ],
)
def test_bad_input_without_the_config(train, arguments, code, message):
    found, _, err = train(*arguments, config=None)
    assert found == code
    assert message in err
    assert err.count("\n") == 1


def voc(folder, xmin="1"):
    """A VOC data set of truncated images: only their headers are read before training."""
    (folder / "Annotations").mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    for name in "abcd":
        image = folder / "JPEGImages" / f"{name}.jpg"
        Image.new("RGB", (64, 64)).save(image)
        image.write_bytes(image.read_bytes()[:-20])
        (folder / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename><size><width>64</width><height>64</height></size>"
            f"<object><name>cat</name><bndbox><xmin>{xmin}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
            "</object></annotation>"
        )
    return f"data.dataset={{kind: voc, root: {folder.resolve()}, splits: {{train: [all]}}}}"


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image(train, here, workers):
    code, _, err = train("--set", voc(Path("cats")), "--workers", workers)
    assert code == 3
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert ".jpg: cannot be read as an image: image file is truncated" in line
    assert line.endswith("; yolo9k data check lists all unusable images and labels")
    assert "Traceback" not in err
    assert not list(here.glob("runs/*"))


def test_text_in_a_coordinate(train):
    code, _, err = train("--set", voc(Path("cats"), xmin="left"))
    assert code == 3
    assert err.count("\n") == 1
    assert ".xml" in err
    assert "'left'" in err


def test_a_diverging_run(train):
    code, out, err = train("--lr", "1e6", "--steps", 100, "--set", "train.warmup=0", "--name", "a")
    assert (code, out) == (5, "")
    error = err.splitlines()[-1]
    assert error.startswith("error: step ")
    assert ".jpg" in error
    (dump_file,) = Path("runs/a").glob("diverged-step*.pt")
    assert f"yolo9k train --replay {dump_file} " in error
    assert all(value.isfinite().all() for value in stored("runs/a").weights.values())
    code, out, err = train("--replay", dump_file, config="")
    assert (code, err) == (5, f"error: {dump_file}: step {dump_file.stem[13:]} is not finite again\n")
    assert "first layer whose output is not finite: " in out
    assert train("--replay", dump_file, "--lr", 1, config="")[0] == 2


def start(*arguments):
    script = Path(sys.executable).with_name("yolo9k")
    command = [script, "train", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signals to other processes")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("to_all", [False, True])  # a batch system also signals the workers
def test_a_signal_stops_and_saves(train, signum, code, to_all):
    process = start("--config", "tiny.yaml", "--steps", 10**6, "--workers", 1, "--name", "a")
    while "step 3 " not in process.stderr.readline():
        assert process.poll() is None
    os.killpg(process.pid, signum) if to_all else process.send_signal(signum)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == code
    (line,) = [line for line in err.splitlines() if not line.startswith("step ")]
    assert line.startswith("error: stopped after step ")
    assert line.endswith("resume with: yolo9k train --resume runs/a")
    step = stored("runs/a").training["next_step"]
    assert f"after step {step};" in line
    assert train("--resume", "runs/a", "--steps", step + 2, config=None)[0] == 0


def fill(path):
    """Write a file that fills the disk."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(handle, bytes(4096))
    os.close(handle)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_keeps_the_last_checkpoint(train, here):
    disk = here / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        assert train("--runs", disk, "--name", "a", "--steps", 1)[0] == 0
        filler = disk / "filler"
        fill(filler)
        code, _, err = train("--resume", disk / "a", "--steps", 3, config=None)
        assert code == 6
        assert "Traceback" not in err
        assert err.splitlines()[-1].startswith("error: ")
        assert "No space left on device" in err.splitlines()[-1]
        assert stored(disk / "a").training["next_step"] == 1
        filler.unlink()
        assert train("--resume", disk / "a", "--steps", 3, config=None)[0] == 0
        assert stored(disk / "a").training["next_step"] == 3
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)  # a checkpoint may still be mapped


OVERFIT = {
    "model": {"name": "yolov2", "width": 0.15, "num_anchors": 3, "norm": {"momentum": 0.1}},
    "data": {"size": 128, "workers": 0, "augment": {"geometry": "none"}},
    "loss": {"anchor_warmup": 0},
    "train": {
        "batch": 6, "steps": 160, "warmup": 20, "lr": 0.01, "device": "cpu", "precision": "float32",
        "clip_grad": 10, "eval_every": 0, "log_every": 40,
    },
    "eval": {"split": "train"},
}  # fmt: skip


@pytest.mark.slow
def test_overfit_six_images(train, here, monkeypatch, capsys):
    """Train, evaluate and detect on the same images, with the commands."""
    Path("overfit.yaml").write_text(yaml.safe_dump(OVERFIT))
    code, _, err = train("--dataset", "toy.yaml", "--name", "a", config="overfit.yaml")
    assert code == 0, err

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["yolo9k", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert not stopped.value.code
        return capsys.readouterr().out

    scores = json.loads(run("eval", "--weights", "runs/a", "--split", "train", "--json", "-"))
    assert scores["map50"] > 0.8
    assert scores["weights"] == "runs/a"
    found = json.loads(run("detect", "toy/images/train", "--weights", "runs/a", "--json", "-", "--no-draw"))
    assert len(found["images"]) == 6
    boxes = sum(len(path.read_text().splitlines()) for path in Path("toy/labels/train").glob("*.txt"))
    assert sum(len(image["detections"]) for image in found["images"]) >= 0.8 * boxes


def test_joint_training_from_the_command_line(train, zoo):
    code, _, err = train("--dataset", zoo / "joint.yaml", "--name", "joint", "--set", "train.batch=3")
    assert code == 0, err
    assert "kinds: 6 images with image-level labels, sampling weight 2 of 3" in err
    assert "image" in err.partition("step 1 ")[2].partition("\n")[0]  # the loss of image-level labels
    assert yaml.safe_load(Path("runs/joint/config.yaml").read_text())["data"]["dataset"]["sources"][1]["weight"] == 2
    code, _, err = train("--resume", "runs/joint", "--steps", "5", config="")
    assert code == 0, err
    assert "steps 3 to 5" in err
