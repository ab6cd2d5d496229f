#!/usr/bin/env python3
"""Loading a weights file of 200 MB against reading it and copying it once: time as a ratio, and peak memory.

    python scripts/bench_weights.py [CFG]       # default: a cfg of yolov2's size

Prints the medians of several rounds, each of which times both, alternating.
"""

import statistics
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


def read_and_copy(path: Path) -> float:
    """Seconds to read the bytes and copy them once."""
    start = time.perf_counter()
    np.frombuffer(path.read_bytes(), np.uint8).copy()
    return time.perf_counter() - start


def load(cfg: Path, path: Path) -> float:
    """Seconds from files to a network that is ready."""
    start = time.perf_counter()
    darknet.load(cfg, path)
    return time.perf_counter() - start


def yolov2_cfg(folder: Path) -> Path:
    """A cfg of YOLOv2 with COCO's 80 classes."""
    config = load_config("coco")
    network = build_network(config.model, WordTree.flat([str(k) for k in range(80)]))
    path = folder / "yolov2.cfg"
    path.write_text(cfg_text(network, config))
    return path


def main() -> None:
    """Time both, and print what came out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cfg = Path(sys.argv[1]) if len(sys.argv) > 1 else yolov2_cfg(folder)
        path = folder / "net.weights"
        darknet.save(darknet.load(cfg), path)
        size = path.stat().st_size
        pairs = [(read_and_copy(path), load(cfg, path)) for _ in range(ROUNDS)]
        ratios = [loading / copying for copying, loading in pairs]
        print(
            f"{size:,} bytes; read and copy {statistics.median(p[0] for p in pairs):.3f} s, "
            f"load {statistics.median(p[1] for p in pairs):.3f} s, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})"
        )
        print(f"peak memory of a process that only loads: {peak_of_loading(cfg, path) / size:.2f} x the file")


def peak_of_loading(cfg: Path, path: Path) -> int:
    """Bytes by which loading raises the peak memory of a fresh process."""
    import subprocess

    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "import yolo9k.darknet.api as api\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) * 1024\n"
        "before = peak()\n"
        "net = api.load(sys.argv[1], sys.argv[2])\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(cfg), str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout)


if __name__ == "__main__":
    main()
