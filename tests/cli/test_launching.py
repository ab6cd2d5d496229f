"""Commands in several processes: what each prints, and that their results are those of one process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from several import in_processes
from toy_data import write_toy

from yolo9k import checkpoint, processes
from yolo9k.build import build_classifier, build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.cli import app, exit_code
from yolo9k.cli.launching import launch
from yolo9k.config import dump, load_classifier_config, load_config
from yolo9k.demo.toy import SHAPES
from yolo9k.errors import ConfigError
from yolo9k.wordtree import WordTree


def run_command(folder, *arguments):
    """Run a command; return its exit code, and what it printed on standard output and error."""
    rank = processes.launched_rank() if processes.is_launched() else "alone"
    os.chdir(folder)
    streams = [Path(f"{name}-{rank}.txt") for name in ("out", "err")]
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), number)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(number), "w", encoding="utf-8") for number in (1, 2))
    code = exit_code(app, "yolo9k", [str(argument) for argument in arguments]) or 0
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code, *(path.read_text(encoding="utf-8") for path in streams)


def together(count, folder, *arguments):
    return in_processes(count, run_command, folder, *arguments, joins=False)


def alone(folder, *arguments):
    [result] = in_processes(1, command_without_launcher, folder, *arguments, joins=False)
    return result


def command_without_launcher(folder, *arguments):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        del os.environ[name]
    return run_command(folder, *arguments)


def assert_close(one, several, place=""):
    """Two nested values are equal, numbers up to 1e-6."""
    if isinstance(one, dict):
        assert one.keys() == several.keys(), place
        for key in one:
            assert_close(one[key], several[key], f"{place}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(several), place
        for index, pair in enumerate(zip(one, several, strict=True)):
            assert_close(*pair, f"{place}.{index}")
    elif isinstance(one, float):
        assert several == pytest.approx(one, abs=1e-6, nan_ok=True), place
    else:
        assert one == several, place


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with images, a data set `toy.yaml`, a detector `d.pt` and a classifier `c.pt`, not trained."""
    folder = tmp_path_factory.mktemp("work")
    toy = write_toy(folder / "toy", {"train": 2, "val": 5}, side_px=64)
    (folder / "toy.yaml").write_text(dump(toy))
    torch.manual_seed(0)
    labels = WordTree.flat(list(SHAPES))
    settings = "model={name: yolov2-tiny, width: 0.1, anchors: [[1, 1], [2, 2]]}", "data.size=64"
    config = load_config(None, [*settings, "data.dataset=toy.yaml"])
    checkpoint.save(Checkpoint(config, labels, build_network(config.model, labels).state_dict()), folder / "d.pt")
    rng = np.random.default_rng(0)
    for index in range(5):
        path = folder / "kinds/val" / list(SHAPES)[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(path)
    config = load_classifier_config(None, ["model={name: darknet19, width: 0.1}", "data.size=64"])
    checkpoint.save(Checkpoint(config, labels, build_classifier(config.model, labels).state_dict()), folder / "c.pt")
    return folder


@pytest.mark.parametrize(
    ("count", "command"),
    [
        (2, ("detect", "toy/images", "--weights", "d.pt", "--conf", "0.02", "--batch", "2")),
        (3, ("detect", "toy/images/train", "--weights", "d.pt", "--conf", "0.02")),  # of two images
        (2, ("eval", "--weights", "d.pt", "--dataset", "toy.yaml", "--batch", "2")),
        (2, ("classify", "predict", "kinds/val", "--weights", "c.pt", "--batch", "2")),
        (3, ("classify", "eval", "--weights", "c.pt", "--dataset", "kinds/val", "--batch", "2")),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else str(value),
)
def test_results_are_those_of_one_process(work, count, command):
    code, expected, errors = alone(work, *command, "--device", "cpu", "--json", "one.json")
    assert code == 0, errors
    (code, out, errors), *others = together(count, work, *command, "--device", "cpu", "--json", "several.json")
    assert code == 0, errors
    assert [(code, out) for code, out, _ in others] == [(0, "")] * (count - 1)
    assert [errors for _, _, errors in others] == [""] * (count - 1)
    assert out == expected
    assert_close(*(json.loads((work / name).read_text()) for name in ("one.json", "several.json")))


def test_each_process_draws_its_images(work):
    results = together(2, work, "detect", "toy/images", "--weights", "d.pt", "--device", "cpu", "--out", "drawn")
    assert [code for code, _, _ in results] == [0, 0]
    assert len(list((work / "drawn").glob("*.jpg"))) == 7


def test_an_unreadable_image_is_reported_once(work):
    folder = work / "damaged"
    folder.mkdir()
    for index in range(3):
        (folder / f"{index}.jpg").write_bytes((work / "toy/images/val/val-0000.jpg").read_bytes())
    (folder / "1.jpg").write_bytes(b"no image")  # of the second process
    results = together(2, work, "detect", "damaged", "--weights", "d.pt", "--device", "cpu", "--no-draw")
    assert [code for code, _, _ in results] == [3, 3]
    assert results[0][2].strip().endswith("error: 1 of 3 images could not be read; first: damaged/1.jpg: "
                                          "not a readable image")  # fmt: skip
    assert results[1][2] == ""


def test_what_was_printed_before_an_error_is_not_lost(work, tmp_path):
    (tmp_path / "a.jpg").write_bytes((work / "toy/images/val/val-0000.jpg").read_bytes())
    (tmp_path / "b.jpg").write_bytes(b"no image")
    command = [sys.executable, "-m", "yolo9k", "detect", str(tmp_path), "--weights", "d.pt", "--no-draw", "--json", "-"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launched = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, cwd=work, env=buffered | launched, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done.stderr
    assert len(json.loads(done.stdout)["images"]) == 1


def test_a_wrong_option_is_reported_once(work):
    results = together(2, work, "detect", "toy/images", "--weights", "d.pt", "--conf", "7")
    assert [code for code, _, _ in results] == [2, 2]
    assert results[0][2].startswith("error: ")
    assert results[1][2] == ""


def test_other_commands_refuse_several_processes(work):
    results = together(2, work, "anchors", "--dataset", "toy.yaml")
    assert [(code, errors) for code, _, errors in results] == [
        (2, "error: anchors: runs in one process; start it without torchrun\n"), (2, ""),
    ]  # fmt: skip


# --- --devices


@pytest.fixture
def launches(monkeypatch):
    """Replace torch's launcher; return the number of processes of each launch."""
    counts = []

    def elastic_launch(config, entrypoint):
        counts.append(config.nproc_per_node)
        return lambda folder, count, arguments: None

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", elastic_launch)
    for name in ("OMP_NUM_THREADS", "TORCH_CPP_LOG_LEVEL", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "")  # is restored after the test
        monkeypatch.delenv(name)
    return counts


@pytest.mark.parametrize(
    ("gpus", "devices", "device", "count", "visible"),
    [
        (0, "3", "", 3, None), (0, "1", "auto", 1, None), (4, "2", "", 2, None), (4, "all", "cuda", 4, None),
        (4, "1,3", "", 2, "1,3"), (4, "3,0", "auto", 2, "3,0"), (4, "8", "cpu", 8, None),
    ],
)  # fmt: skip
def test_devices(launches, monkeypatch, gpus, devices, device, count, visible):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert launch(devices, device, 3) == 0
    assert launches == [count]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_devices_are_chosen_among_the_visible_ones(launches, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    launch("0,2", "", 3)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"


@pytest.mark.parametrize(
    ("gpus", "devices", "device", "message"),
    [
        (0, "all", "", "--devices all: must be a number of processes, GPUs such as 0,1, or all, which share the CPU"),
        (0, "0", "", "--devices 0: must be 1 or more processes"),
        (2, "3", "", "--devices 3: must be 1 or more processes; found 2 GPUs"),
        (0, "2", "cuda", "--devices 2: must be 1 or more processes; found 0 GPUs"),
        (2, "0,2", "", "--devices 0,2: no such GPUs; found 2 GPUs"),
        (2, "0,0", "", "--devices 0,0: must be a number"),
        (2, "a", "", "--devices a: must be a number"),
        (2, "1,", "", "--devices 1,: must be a number"),
        (2, "2", "cuda:1", "--device cuda:1: with --devices, only auto, cpu or cuda"),
    ],
)
def test_impossible_devices_are_refused(launches, monkeypatch, gpus, devices, device, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=f"^{message}"):
        launch(devices, device, 3)
    assert launches == []


TINY = (
    "train", "--dataset", "toy.yaml", "--device", "cpu", "--batch", "2", "--size", "64", "--workers", "0",
    "--set", "model={name: yolov2-tiny, width: 0.1, anchors: [[1, 1], [2, 2]]}", "--set", "train.eval_every=0",
)  # fmt: skip


def run_launched(work, *arguments):
    command = [sys.executable, "-m", "yolo9k", *TINY, "--devices", "2", *arguments]
    return subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=120)


def test_an_error_of_one_process_ends_all_without_a_restart(work):
    # Of three images of 32 pixels, the second process gets one: a single value per channel.
    done = run_launched(work, "--name", "alone", "--batch", "3", "--size", "32", "--steps", "2")
    assert done.returncode == 2, done.stderr
    assert "error: process 1: train.batch: batch norm needs more than one value per channel" in done.stderr
    assert "restart" not in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_of_all_processes_is_printed_once(work):
    done = run_launched(work, "--set", "train.lr=no")
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert "train.lr" in done.stderr


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in Linux's /proc")
def test_a_killed_process_restarts_all(work):
    command = [
        sys.executable, "-m", "yolo9k", *TINY, "--devices", "2", "--name", "killed", "--steps", "25",
        "--set", "train.checkpoint_every=1", "--set", "train.log_every=1",
    ]  # fmt: skip
    with (work / "killed.txt").open("w") as output:
        process = subprocess.Popen(command, cwd=work, stdout=output, stderr=output)
    try:
        metrics = work / "runs/killed/metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and len(metrics.read_text().splitlines()) > 2):
            time.sleep(0.02)
        assert process.poll() is None, (work / "killed.txt").read_text()
        os.kill(trainers(process.pid)[1], signal.SIGKILL)
        assert process.wait(120) == 0
    finally:
        process.kill()
    text = (work / "killed.txt").read_text()
    assert "warning: a process was killed; restart 1" in text
    assert f"restart: {Path('runs/killed')} is resumed" in text
    assert "Traceback" not in text
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 26))


def trainers(launcher):
    children = map(int, Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split())
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
