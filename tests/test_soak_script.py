"""The soak script: what it measures, and that it notices growth."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soak
from PIL import Image
from soak import MIB, Sample, process_tree, report, take_sample, watched

from yolo9k.build import build_network
from yolo9k.config import load_config
from yolo9k.inference.detector import Detector
from yolo9k.wordtree import WordTree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def samples(memory, files):
    return [Sample(10.0 * i, round(memory(i) * MIB), files(i)) for i in range(40)]


@pytest.mark.parametrize(
    ("memory", "files", "grows"),
    [
        (lambda i: 100, lambda i: 9, False),
        (lambda i: 300 if i < 6 else 100, lambda i: 9 + (i == 38), False),  # a warm-up; a file open for a moment
        (lambda i: 100 + i % 7, lambda i: 9 - (i > 30), False),
        (lambda i: 100 + 0.15 * i, lambda i: 9, True),
        (lambda i: 100, lambda i: 9 + (i > 25), True),
    ],
)
def test_growth_is_noticed(capsys, memory, files, grows):
    assert report("x", samples(memory, files), warmup_s=60) == grows
    assert capsys.readouterr().out.startswith("x: 34 samples in 330 s; memory 10")


def test_too_few_samples_are_no_result():
    with pytest.raises(SystemExit, match="7 samples after the warm-up are too few"):
        report("x", samples(lambda i: 1, lambda i: 1)[:7], warmup_s=0)


def test_children_count(tmp_path):
    alone = take_sample(os.getpid(), 0)
    assert alone.memory > 10 * MIB
    code = "import sys; kept = b'x' * (64 << 20); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        assert child.pid in process_tree(os.getpid())
        both = take_sample(os.getpid(), 1)
        child.stdin.close()
    assert both.memory > alone.memory + 60 * MIB
    assert both.files >= alone.files + 3  # the child's streams


def test_detections_are_watched(tmp_path):
    config = load_config(None, ["model={name: yolov2-tiny, width: 0.1, anchors: [[1, 1]]}", "data.size=64"])
    labels = WordTree.flat(["cat"])
    detector = Detector.of_network(build_network(config.model, labels), labels, config, device="cpu")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.jpg")
    for work in (soak.stream_all, soak.call_all):
        seen = watched(lambda work=work: work(detector, [tmp_path / "a.jpg"], 3), every_s=0.2)
        assert seen
        assert all(sample.memory > 10 * MIB and sample.files > 2 for sample in seen)
