#!/usr/bin/env python3
"""Compare loading a Darknet weights file with reading and copying its bytes: time ratio and peak memory.

    python scripts/bench_weights.py [CFG]       # default: YOLOv2 with 80 classes, a file of 200 MB

Prints the medians of several rounds; each round times both.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from yolo9k import darknet
from yolo9k.build import build_network
from yolo9k.config import load_config
from yolo9k.darknet.writer import cfg_text
from yolo9k.wordtree import WordTree

ROUNDS = 7
PRINT_PEAK_OF_LOADING = r"""
import re, sys
from pathlib import Path
import yolo9k.darknet.api as api
peak = lambda: int(re.search(r'VmHWM:\s+(\d+)', Path('/proc/self/status').read_text())[1]) * 1024
before = peak()
net = api.load(sys.argv[1], sys.argv[2])
print(peak() - before)
"""


def time_copy(path: Path) -> float:
    """Return the seconds to read the bytes of a file and copy them once."""
    start = time.perf_counter()
    np.frombuffer(path.read_bytes(), np.uint8).copy()
    return time.perf_counter() - start


def time_load(cfg: Path, path: Path) -> float:
    """Return the seconds to build the network of a cfg and load its weights."""
    start = time.perf_counter()
    darknet.load(cfg, path)
    return time.perf_counter() - start


def peak_of_loading(cfg: Path, path: Path) -> int:
    """Return the bytes by which loading raises the peak memory of a new process (Linux only)."""
    command = [sys.executable, "-c", PRINT_PEAK_OF_LOADING, str(cfg), str(path)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def write_yolov2_cfg(folder: Path) -> Path:
    """Write a cfg of YOLOv2 with COCO's 80 classes; returns its path."""
    config = load_config("coco")
    network = build_network(config.model, WordTree.flat([str(k) for k in range(80)]))
    path = folder / "yolov2.cfg"
    path.write_text(cfg_text(network, config))
    return path


def main() -> None:
    """Measure time and memory, and print both."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cfg = Path(sys.argv[1]) if len(sys.argv) > 1 else write_yolov2_cfg(folder)
        path = folder / "net.weights"
        darknet.save(darknet.load(cfg), path)
        size = path.stat().st_size
        times = [(time_copy(path), time_load(cfg, path)) for _ in range(ROUNDS)]
        ratios = [loading / copying for copying, loading in times]
        print(
            f"{size:,} bytes; read and copy {statistics.median(copying for copying, _ in times):.3f} s, "
            f"load {statistics.median(loading for _, loading in times):.3f} s, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
        print(f"peak memory of loading in a new process: {peak_of_loading(cfg, path) / size:.2f} x the file size")


if __name__ == "__main__":
    main()
