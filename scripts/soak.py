#!/usr/bin/env python3
"""Train and detect for a long time, and check that neither memory nor open files grow.

    python scripts/soak.py [--minutes 60] [--detections 100000]

A training with two workers on the toy data of the demo (an evaluation per epoch, checkpoints), then one
`Detector.stream` over so many images, then as many calls of the detector. Every ten seconds the memory (resident,
without mapped files) and the open files of the process and its children are read from /proc, so this needs Linux.
After a warm-up the median of the last quarter is compared with that of the first: the exit code is 1 if memory rises by
more than 2 % or if there are more open files.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from yolo9k.config import dump, updated
from yolo9k.demo.toy_joint import write_toy_joint
from yolo9k.inference.detector import Detector

SETTINGS = (
    "model.name=yolov2-tiny", "model.width=0.2", "model.anchors=[[1,1],[2,2]]", "data.size=64", "data.workers=2",
    "train.batch=4", "train.eval_every=1", "train.log_every=10", "train.checkpoint_every=50", "train.ema=0.99",
    "train.device=cpu",
)  # fmt: skip
MAX_RISE = 0.02  # of the memory
MIN_SAMPLES = 8  # after the warm-up
MIB = 1 << 20
# Without mapped files, whose pages come and go. Not the proportional sizes: data workers begin with the pages of the
# training process and copy them one by one as they count references, which is no growth.
MEMORY = "RssAnon:", "RssShmem:"


@dataclass(frozen=True)
class Sample:
    """Memory in bytes and the number of open files of a process and its children, `at_s` seconds after the start."""

    at_s: float
    memory: int
    files: int


def process_tree(root: int) -> list[int]:
    """Return a process and all processes below it."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [root]
    for parent in found:
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found


def take_sample(root: int, at_s: float) -> Sample:
    """Read memory and open files of a process and its children."""
    memory = files = 0
    for process in process_tree(root):
        folder = Path("/proc") / str(process)
        with suppress(OSError):
            lines = (folder / "status").read_text().splitlines()
            memory += 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(MEMORY))
            files += len(list((folder / "fd").iterdir()))
    return Sample(at_s, memory, files)


def watch(root: int, every_s: float, is_done: Callable[[float], bool]) -> Iterator[Sample]:
    """Yield a sample at once and every few seconds; `is_done`: waits so many seconds and says whether to end."""
    start = time.monotonic()
    yield take_sample(root, 0)
    while not is_done(every_s):
        yield take_sample(root, time.monotonic() - start)


def report(name: str, samples: list[Sample], warmup_s: float) -> bool:
    """Print how memory and open files have changed; return whether they have grown."""
    warm = [sample for sample in samples if sample.at_s >= warmup_s]
    if len(warm) < MIN_SAMPLES:
        raise SystemExit(f"{name}: {len(warm)} samples after the warm-up are too few; run it longer")
    quarter = len(warm) // 4
    first, last = (statistics.median(each.memory for each in part) for part in (warm[:quarter], warm[-quarter:]))
    # the minimum: files that are open for a moment, such as checkpoints, are no leak
    files, later_files = (min(each.files for each in part) for part in (warm[:quarter], warm[-quarter:]))
    rise = last / first - 1
    print(
        f"{name}: {len(warm)} samples in {warm[-1].at_s - warm[0].at_s:.0f} s; memory {first / MIB:.1f} to "
        f"{last / MIB:.1f} MiB ({rise:+.2%}); open files {files} to {later_files}",
        flush=True,
    )
    return rise > MAX_RISE or later_files > files


def train(folder: Path, minutes: float, every_s: float) -> list[Sample]:
    """Train for some minutes after the first step, then stop the training."""
    joint = write_toy_joint(folder / "toy", scenes=60, singles=4, side_px=64).joint
    first, *others = joint.sources
    validated = updated(first, {"dataset.holdout": 0.2})
    (folder / "toy.yaml").write_text(dump(updated(joint, {"sources": (validated, *others)})))
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    options = ["--dataset", "toy.yaml", "--runs", str(folder), "--name", "run", "--steps", str(10**9), *sets]
    process = subprocess.Popen(
        [sys.executable, "-m", "yolo9k", "train", *options],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    errors: list[bytes] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()))
    reader.start()
    while process.poll() is None and not (folder / "run" / "metrics.jsonl").exists():
        time.sleep(0.1)
    deadline = time.monotonic() + 60 * minutes

    def is_done(seconds: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        return process.poll() is not None or time.monotonic() > deadline

    samples = list(watch(process.pid, every_s, is_done))
    process.terminate()
    code = process.wait()
    reader.join()
    if code != 128 + signal.SIGTERM:
        raise SystemExit(f"the training ended with exit code {code}: {errors[-1].decode().strip() if errors else ''}")
    return samples


def watched(work: Callable[[], object], every_s: float) -> list[Sample]:
    """Run some work in this process and return the samples."""
    done = threading.Event()
    samples: list[Sample] = []
    sampler = threading.Thread(target=lambda: samples.extend(watch(os.getpid(), every_s, done.wait)))
    sampler.start()
    try:
        work()
    finally:
        done.set()
        sampler.join()
    return samples


def stream_all(detector: Detector, images: list[Path], count: int) -> None:
    """Detect in so many images with one stream."""
    for _ in detector.stream(islice(cycle(images), count)):
        pass


def call_all(detector: Detector, images: list[Path], count: int) -> None:
    """Detect in so many images with one call each."""
    for image in islice(cycle(images), count):
        detector(image)


def main() -> None:
    """Run the training and the detections, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="of training")
    parser.add_argument("--detections", type=int, default=100_000, help="of the stream, and of the calls")
    parser.add_argument("--every", type=float, default=10, help="seconds between samples")
    parser.add_argument("--warmup", type=float, default=60, help="seconds of each part that are not compared")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        grows = [report("training", train(folder, options.minutes, options.every), options.warmup)]
        detector = Detector.load(folder / "run", device="cpu")
        images = sorted(folder.rglob("*.jpg"))
        for name, work in (("stream", stream_all), ("calls", call_all)):
            samples = watched(lambda work=work: work(detector, images, options.detections), options.every)  # type: ignore[misc]
            grows.append(report(name, samples, options.warmup))
    sys.exit(any(grows))


if __name__ == "__main__":
    main()
