#!/usr/bin/env python3
"""Time a training step in one process and in several, on the CPU, and compute what the processes exchange.

    python scripts/scaling.py [--model yolov2-tiny] [--size 416] [--batch 8] [--repeats 5] [--json FILE]

Each case (processes x threads) repeats one step on one batch of the toy data, so no loading is measured; the cases
take turns, and the median of all steps but the first two of each turn counts. The gradients are exchanged in float32.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from yolo9k import processes
from yolo9k.config import load_config, updated
from yolo9k.datasets.loader.batches import make_batch
from yolo9k.demo.toy_joint import write_toy_joint
from yolo9k.models.layers import count_parameters
from yolo9k.training.run import prepare_run

STEPS = 8
SKIPPED = 2  # of each turn: memory is allocated, kernels are chosen
MEASURE = "YOLO9K_SCALING"  # environment variable: the options of a process that measures
BANDWIDTHS = {"10 Gbit/s": 10e9 / 8, "100 Gbit/s": 100e9 / 8, "NVLink, 300 GB/s": 300e9}


def measure(options: argparse.Namespace) -> None:
    """Time steps in this process, one of a group; the main one prints the seconds of each and the parameters."""
    settings = (
        f"model.name={options.model}", "model.anchors=[[1,1],[2,2],[3,3],[4,4],[5,5]]", f"data.size={options.size}",
        f"train.batch={options.batch}", "train.device=cpu", f"train.precision={options.precision}",
    )  # fmt: skip
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    with processes.joined():
        joint = write_toy_joint(Path(options.folder) / f"{os.getpid()}", scenes=options.batch, tests=0, all_boxes=True)
        run = prepare_run(updated(load_config(None, settings), {"data.dataset": joint.joint}), Path(options.folder))
        shares = run.sampler(0, 1).micro_batches(0, processes.rank())
        micro_batches = [make_batch(run.task.dataset, requests) for requests in shares]
        seconds = []
        for step in range(STEPS):
            start = time.perf_counter()
            run.stepper(step, micro_batches, 0.0)
            seconds.append(time.perf_counter() - start)
        if processes.is_main():
            print(json.dumps({"seconds": seconds[SKIPPED:], "parameters": count_parameters(run.network)}))


def time_case(count: int, threads: int, options: argparse.Namespace) -> dict[str, object]:
    """Run one turn of a case in processes of its own."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)] if count > 1 else []
    environment = {**os.environ, MEASURE: "1", "OMP_NUM_THREADS": str(threads), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    command = [sys.executable, *launcher, __file__, *sys.argv[1:], "--folder", options.folder]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def report_exchange(parameters: int) -> None:
    """Print the volume of the gradients of a step, and how long their exchange takes at usual bandwidths."""
    volume = parameters * 4
    print(
        f"\n{parameters:,} parameters: {volume / 1e6:.0f} MB of gradients; a ring of N processes sends 2 (N-1)/N of it"
    )
    print("processes  " + "  ".join(f"{name:>16}" for name in BANDWIDTHS))
    for count in (2, 4, 8, 16):
        sent = 2 * (count - 1) / count * volume
        times = (f"{1000 * sent / bandwidth:>13.1f} ms" for bandwidth in BANDWIDTHS.values())
        print(f"{count:>9}  " + "  ".join(times))


def main() -> None:
    """Measure all cases in turns, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolov2-tiny")
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if MEASURE in os.environ:
        measure(options)
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cases = [(1, cores), (1, 1), (cores, 1)]
    seconds: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    parameters = 0
    with tempfile.TemporaryDirectory() as options.folder:
        for _ in range(options.repeats):
            for case in cases:
                result = time_case(*case, options)
                seconds[case] += result["seconds"]  # type: ignore[operator]
                parameters = result["parameters"]  # type: ignore[assignment]
    medians = {case: statistics.median(values) for case, values in seconds.items()}
    print(f"{options.model}, {options.size}x{options.size}, batch {options.batch}, {options.precision}, {cores} cores")
    for (count, threads), median in medians.items():
        ratio = medians[cases[0]] / median
        print(f"{count} processes x {threads} threads: {1000 * median:7.0f} ms per step, {ratio:.2f} x the first")
    report_exchange(parameters)
    if options.json:
        rows = [{"processes": c, "threads": t, "seconds": values} for (c, t), values in seconds.items()]
        options.json.write_text(json.dumps({"parameters": parameters, "cases": rows}) + "\n")


if __name__ == "__main__":
    main()
