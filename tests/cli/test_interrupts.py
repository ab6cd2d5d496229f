"""Commands that work on many images: the first stop signal ends them with what they have, the second at once."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from yolo9k import checkpoint, cli
from yolo9k.build import build_classifier, build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.cli import interrupts
from yolo9k.cli.interrupts import StoppableWork
from yolo9k.config import ClassifierConfig, load_config
from yolo9k.config.loading import load_of
from yolo9k.errors import DataError, Stopped
from yolo9k.wordtree import WordTree

TINY = "model={name: yolov2-tiny, width: 0.1, anchors: [[1, 1], [2, 2]]}", "data.size=64"


@pytest.fixture
def signal_in(monkeypatch):
    """`signal_in(n)`: SIGTERM arrives while the image with index n is worked on; a second number is of later rounds."""

    def arrange(*indices):
        rounds = iter(indices)

        def track(items, description, total=None):
            index = next(rounds, None)
            for number, item in enumerate(items):
                if number == index:
                    signal.raise_signal(signal.SIGTERM)
                yield item

        monkeypatch.setattr(interrupts, "track", track)

    return arrange


@pytest.fixture
def detector(zoo):
    torch.manual_seed(0)
    config, labels = load_config(None, [*TINY, f"data.dataset={zoo / 'boxes.yaml'}"]), WordTree.flat(["hound", "car"])
    checkpoint.save(Checkpoint(config, labels, build_network(config.model, labels).state_dict()), zoo / "flat.pt")
    return zoo / "flat.pt"


@pytest.fixture
def yolo9k(zoo, monkeypatch, capsys):
    monkeypatch.chdir(zoo)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["yolo9k", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return (stopped.value.code, *capsys.readouterr())

    return run


def part_of(path):
    found = json.loads(path.read_text())
    return found, (found["partial"], found["images_done"], found["images_total"])


def test_detect_writes_the_images_before_the_signal(yolo9k, zoo, detector, signal_in):
    signal_in(1)
    outputs = "--json", "found.json", "--csv", "found.csv", "--txt", "labels", "--out", "drawn"
    code, _, err = yolo9k("detect", "boxes/train", "--weights", detector, "--conf", "0.01", "--device", "cpu", *outputs)
    assert (code, err) == (143, "error: stopped after 2 of 4 images; the outputs contain these\n")
    found, part = part_of(zoo / "found.json")
    assert part == (True, 2, 4)
    assert [image["file"] for image in found["images"]] == ["boxes/train/0.png", "boxes/train/1.png"]
    assert sorted(path.name for path in (zoo / "drawn").iterdir()) == ["0.jpg", "1.jpg"]
    assert sorted(path.name for path in (zoo / "labels").iterdir()) == ["0.txt", "1.txt"]
    files = {line.split(",")[0] for line in (zoo / "found.csv").read_text().splitlines()[1:]}
    assert files == {"boxes/train/0.png", "boxes/train/1.png"}


def test_a_signal_during_the_last_image_still_stops_loops_of_a_shell(yolo9k, zoo, detector, signal_in):
    signal_in(3)
    code, _, err = yolo9k("detect", "boxes/train", "--weights", detector, "--device", "cpu", "--json", "found.json")
    assert (code, err) == (143, "error: stopped after 4 of 4 images; the outputs contain these\n")
    assert part_of(zoo / "found.json")[1] == (False, 4, 4)


def test_eval_scores_the_images_before_the_signal(yolo9k, zoo, detector, signal_in):
    signal_in(2)
    options = "--split", "train", "--device", "cpu", "--json", "s.json", "--results", "r.json", "--conf", "0.01"
    code, out, err = yolo9k("eval", "--weights", detector, "--dataset", "boxes.yaml", *options)
    assert (code, err) == (143, "error: stopped after 3 of 4 images; the scores are those of these images\n")
    assert "train: PARTIAL, first 3 of 4 images" in out
    found, part = part_of(zoo / "s.json")
    assert part == (True, 3, 4)
    assert (found["all"]["images"], found["all"]["boxes"]) == (3, 6)
    assert {entry["image_id"] for entry in json.loads((zoo / "r.json").read_text())} <= {1, 2, 3}


def test_eval_on_a_coco_file_compares_only_the_images_before_the_signal(yolo9k, zoo, detector, signal_in, monkeypatch):
    """The file of the whole split is the ground truth of COCO's metrics: without its other images."""
    images = [{"id": 10 + i, "file_name": f"{i}.png", "width": 64, "height": 48} for i in range(4)]
    boxes = [
        {"id": i + 1, "image_id": 10 + i, "category_id": 1, "bbox": [4, 4, 30, 30], "area": 900, "iscrowd": 0}
        for i in range(4)
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "hound"}]}
    (zoo / "val.json").write_text(json.dumps(content))
    (zoo / "coco.yaml").write_text(
        f"kind: coco\nroot: {zoo}\nsplits: {{val: [{{annotations: val.json, images: boxes/train}}]}}\n"
    )
    used = []
    monkeypatch.setattr("yolo9k.evaluation.coco.coco_statistics", lambda given, *_: used.append(given) or {"AP": 0.5})
    signal_in(1)
    code, _, _ = yolo9k("eval", "--weights", detector, "--dataset", "coco.yaml", "--device", "cpu")
    assert code == 143
    assert [image["id"] for image in used[0]["images"]] == [10, 11]
    assert [box["image_id"] for box in used[0]["annotations"]] == [10, 11]


def test_a_stopped_eval_over_a_tree_has_the_depth_of_the_images_before(yolo9k, zoo, signal_in):
    config = load_config(None, [*TINY, f"data.dataset={zoo / 'boxes.yaml'}"])
    labels = WordTree(("animal", "car", "hound"), ("animal", "car", "hound"), (-1, -1, 0))
    checkpoint.save(Checkpoint(config, labels, build_network(config.model, labels).state_dict()), zoo / "tree.pt")
    signal_in(2)
    options = "--split", "train", "--device", "cpu", "--json", "s.json"
    code, out, err = yolo9k("eval", "--weights", zoo / "tree.pt", "--dataset", "boxes.yaml", *options)
    assert (code, err) == (143, "error: stopped after 3 of 4 images; the scores are those of these images\n")
    assert "PARTIAL, first 3 of 4 images" in out
    found, part = part_of(zoo / "s.json")
    assert part == (True, 3, 4)
    assert found["depth"]["boxes"] == found["all"]["boxes"] == 6


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_classifiers(yolo9k, zoo, signal_in, command):
    (zoo / "kinds.yaml").write_text(f"kind: folder\nroot: {zoo}\nsplits: {{val: [kinds]}}\n")
    labels = WordTree.flat(["car", "poodle", "terrier"])
    config = load_of(ClassifierConfig, None, ["model.width=0.1", "data.size=64", f"data.dataset={zoo / 'kinds.yaml'}"])
    checkpoint.save(Checkpoint(config, labels, build_classifier(config.model, labels).state_dict()), zoo / "c.pt")
    signal_in(1)
    subject = ["kinds"] if command == "predict" else ["--dataset", "kinds.yaml"]
    code, out, err = yolo9k(
        "classify", command, *subject, "--weights", zoo / "c.pt", "--device", "cpu", "--json", "s.json", "--batch", 1
    )
    assert code == 143
    assert err.startswith("error: stopped after 2 of 6 images; ")
    found, part = part_of(zoo / "s.json")
    assert part == (True, 2, 6)
    assert (len(found["images"]) if command == "predict" else found["images"]) == 2
    assert command == "predict" or "PARTIAL, first 2 of 6 images" in out


def test_data_check_reports_the_images_before_the_signal(yolo9k, zoo, signal_in):
    for name in ("train/0", "val/1"):
        path = zoo / "boxes" / f"{name}.png"
        path.write_bytes(path.read_bytes()[:-2000])
    signal_in(2)
    code, out, err = yolo9k("data", "check", "boxes.yaml", "--json", "s.json")
    assert (code, err) == (143, "error: stopped after 3 of 6 images; errors of the other images are missing\n")
    assert "PARTIAL, first 3 of 6 images" in out
    found, part = part_of(zoo / "s.json")
    assert part == (True, 3, 6)
    assert found["error_counts"]["unreadable image"] == 1


def test_before_the_first_image_there_is_nothing_to_write(yolo9k, zoo, detector, monkeypatch):
    def track(items, description, total=None):
        signal.raise_signal(signal.SIGINT)
        return items

    monkeypatch.setattr(interrupts, "track", track)
    code, _, err = yolo9k("detect", "boxes/train", "--weights", detector, "--device", "cpu", "--json", "found.json")
    assert (code, err) == (130, "error: stopped before the first image\n")
    assert not (zoo / "found.json").exists()


def test_unreadable_images_and_a_stop_are_one_message(signal_in):
    signal_in(1)
    with StoppableWork() as work:
        assert list(work.track("abc", "Reading", 3)) == ["a", "b"]
        with pytest.raises(Stopped, match=r"2 of 3 images; x; 1 of them could not be read"):
            work.finish("x", [DataError("b: broken")])


ENDED = """
import multiprocessing, signal, sys, time
from pathlib import Path
from yolo9k import signals
from yolo9k.cli.interrupts import StoppableWork, stop_signals
signals.REPEATED_S = -1
with stop_signals(), StoppableWork() as work:
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True).start()
    print(multiprocessing.active_children()[0].pid, flush=True)
    for item in work.track(range(9), "Working", 9):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="processes are forked")
def test_a_second_signal_ends_program_and_workers():
    done = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (143, "error: ended at once by a second signal")
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
