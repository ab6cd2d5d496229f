#!/usr/bin/env python3
"""Kill a training with SIGKILL at random moments and resume it, until it is done; compare it with an undisturbed one.

    python scripts/kill_training.py [--kills 50] [--steps 3000] [--seed 0] [--devices N]

The toy data of the demo: boxes of coarse classes and image-level labels over a tree. Each process runs until it is
killed, at a random time after its first step; then the same command with --auto-resume goes on. With --devices, one of
N processes that train together is killed, and their launcher starts all of them again. Exits with 1 if the final
weights, optimiser state or rows differ in one bit from the undisturbed run, or if a file is left behind.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from yolo9k import checkpoint
from yolo9k.config import dump, updated
from yolo9k.demo.toy_joint import write_toy_joint

SETTINGS = (
    "model.name=yolov2-tiny", "model.width=0.2", "model.anchors=[[1,1],[2,2]]", "data.size=64", "data.workers=1",
    "train.batch=4", "train.eval_every=1", "train.log_every=3", "train.checkpoint_every=5", "train.keep_every=100",
    "train.ema=0.99", "train.precision=float32", "train.device=cpu",
)  # fmt: skip
LONGEST_RUN_S = 1.5  # of a process after its first step


def command(folder: Path, name: str, steps: int, *options: str) -> list[str]:
    """Return the command that starts or resumes a run."""
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    length = ["--dataset", "toy.yaml", "--runs", str(folder), "--name", name, "--steps", str(steps)]
    return [sys.executable, "-m", "yolo9k", "train", *length, *options, *sets]


def run_killed(folder: Path, name: str, steps: int, rng: random.Random) -> bool:
    """Run the command and kill it at a random moment; return whether it was killed before its end."""
    started = time.time()
    process = subprocess.Popen(
        command(folder, name, steps, "--auto-resume"),
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if wait_for_steps(process, folder / name, started, rng):
        process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    if process.returncode not in (0, -signal.SIGKILL):
        raise SystemExit(f"exit code {process.returncode}: {errors.strip().splitlines()[-1]}")
    return process.returncode != 0


def wait_for_steps(process: subprocess.Popen[str], run: Path, started: float, rng: random.Random) -> bool:
    """Wait until a run has logged a step since `started`, and a random time longer; return whether it still runs."""
    metrics = run / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_mtime > started):
        time.sleep(0.02)
    deadline = time.time() + rng.uniform(0, LONGEST_RUN_S)
    while process.poll() is None and time.time() < deadline:
        time.sleep(0.01)
    return process.poll() is None


def run_with_kills(folder: Path, name: str, steps: int, options: argparse.Namespace, rng: random.Random) -> int:
    """Train in several processes and kill a random one, again and again; return the number of kills."""
    launched = ["--devices", str(options.devices), "--max-restarts", str(options.kills)]
    process = subprocess.Popen(
        command(folder, name, steps, *launched), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    kills, started, killed = 0, time.time(), set[int]()
    while kills < options.kills and wait_for_steps(process, folder / name, started, rng):
        members = trainers(process.pid)
        if len(members) == options.devices and not killed & set(members):
            started, killed = time.time(), set(members)
            os.kill(rng.choice(members), signal.SIGKILL)
            kills += 1
    if process.wait():
        raise SystemExit(f"exit code {process.returncode}")
    return kills


def trainers(launcher: int) -> list[int]:
    """Return the processes that a launcher has started to train (Linux)."""
    children = map(int, Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split())
    return [child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def state(run: Path) -> dict[str, object]:
    """Return weights, training state and logged rows of a run, without the speed."""
    stored = checkpoint.load(run / "checkpoints" / checkpoint.LAST)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("images_per_second", None)
    scores = (run / "results.csv").read_text()
    return {"weights": dict(stored.weights), "training": dict(stored.training or {}), "rows": rows, "scores": scores}


def differences(first: object, second: object, place: str = "") -> list[str]:
    """Return the places at which two nested states differ, in any bit."""
    if isinstance(first, torch.Tensor):
        return [] if torch.equal(first, second) else [place]  # type: ignore[arg-type]
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return [found for key in first for found in differences(first[key], second[key], f"{place}.{key}")]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        pairs = zip(first, second, strict=True)
        return [found for index, pair in enumerate(pairs) for found in differences(*pair, f"{place}.{index}")]
    return [] if first == second else [place]


def main() -> None:
    """Run both trainings and compare them."""
    options = parse()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_data(folder)
        whole = command(
            folder, "whole", options.steps, *(["--devices", str(options.devices)] if options.devices else [])
        )
        subprocess.run(whole, cwd=folder, check=True, stderr=subprocess.DEVNULL)
        if options.devices:
            kills = run_with_kills(folder, "killed", options.steps, options, rng)
        else:
            kills = run_and_resume(folder, "killed", options, rng)
        left = [str(path.relative_to(folder)) for path in (folder / "killed").rglob("*") if ".part" in path.name]
        left += [".lock"] * (folder / "killed" / ".lock").exists()
        found = differences(state(folder / "whole"), state(folder / "killed"))
    print(f"{kills} kills; {len(found)} differences {found[:3]}; {len(left)} files left behind {left[:3]}")
    sys.exit(bool(found or left))


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", type=int, default=0)
    return parser.parse_args()


def write_data(folder: Path) -> None:
    """Write the toy data and their config, toy.yaml."""
    joint = write_toy_joint(folder / "toy", scenes=60, singles=4, side_px=64).joint
    first, *others = joint.sources
    validated = updated(first, {"dataset.holdout": 0.2})
    (folder / "toy.yaml").write_text(dump(updated(joint, {"sources": (validated, *others)})))


def run_and_resume(folder: Path, name: str, options: argparse.Namespace, rng: random.Random) -> int:
    """Train in processes that are killed one after the other, then to the end; return the number of kills."""
    for kills in range(options.kills):
        if not run_killed(folder, name, options.steps, rng):
            return kills
    last = command(folder, name, options.steps, "--auto-resume")
    subprocess.run(last, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    return int(options.kills)


if __name__ == "__main__":
    main()
