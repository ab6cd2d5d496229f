"""Which checkpoints of a run stay, and that writing them in the background loses nothing."""

import os

import pytest
import torch

from yolo9k import checkpoint
from yolo9k.checkpoint import LAST, Checkpoint
from yolo9k.config import load_config
from yolo9k.errors import MachineError, WeightsError
from yolo9k.training.output.checkpoints import RunCheckpoints, earlier_checkpoints, load_resumable
from yolo9k.wordtree import WordTree

CONFIG = load_config(None, ["model.anchors=[[1, 2]]", "data.dataset=voc"])
LABELS = WordTree(("a",), ("cat",), (-1,), {})


def state(step: int) -> Checkpoint:
    return Checkpoint(CONFIG, LABELS, {"x": torch.full((2,), float(step))}, {"next_step": step})


def step_of(path) -> int:
    return checkpoint.load(path).training["next_step"]


def saved(folder, steps, keep_last=1, keep_every=0, pinned=0):
    checkpoints = RunCheckpoints(folder, keep_last, keep_every)
    for step in steps:
        checkpoints.save_last(state(step), step, pinned)
    checkpoints.close()
    return {path.name: step_of(path) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [5]),
        ({"keep_last": 3}, [3, 4, 5]),
        ({"keep_every": 2}, [2, 4, 5]),
        ({"pinned": 1}, [1, 5]),
        ({"keep_last": 9}, [1, 2, 3, 4, 5]),
    ],
)
def test_which_checkpoints_stay(tmp_path, options, kept):
    assert saved(tmp_path, range(1, 7), **options) == {LAST: 6, **{f"step{step}.pt": step for step in kept}}


def test_the_same_step_is_replaced(tmp_path):
    assert saved(tmp_path, [1, 2, 2, 2]) == {LAST: 2, "step1.pt": 1}


def test_without_hard_links_the_file_is_renamed(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assert saved(tmp_path, [1, 2, 3]) == {LAST: 3, "step2.pt": 2}


def test_weights_that_change_while_they_are_written(tmp_path):
    checkpoints = RunCheckpoints(tmp_path, 1, 0)
    weights = torch.zeros(1_000_000)
    checkpoints.save_last(Checkpoint(CONFIG, LABELS, {"x": weights}, {"memory": [{"m": weights}]}), 1, 0)
    weights += 1
    checkpoints.close()
    found = checkpoint.load(tmp_path / LAST)
    assert not found.weights["x"].any()
    assert not found.training["memory"][0]["m"].any()


def test_a_failure_is_raised_once_and_the_next_save_may_succeed(tmp_path, monkeypatch):
    checkpoints = RunCheckpoints(tmp_path / "file", 1, 0)
    (tmp_path / "file").touch()
    checkpoints.save_last(state(1), 1, 0)
    with pytest.raises(MachineError, match="cannot be written"):
        checkpoints.wait()
    (tmp_path / "file").unlink()
    checkpoints.save_last(state(2), 2, 0)
    checkpoints.close()
    assert step_of(tmp_path / "file" / LAST) == 2


def test_going_on_from_an_earlier_checkpoint_forgets_the_later_ones(tmp_path):
    saved(tmp_path, [1, 2, 3, 4], keep_last=9)
    checkpoints = RunCheckpoints(tmp_path, 9, 0)
    checkpoints.continue_from(tmp_path / "step2.pt", 2)
    assert step_of(tmp_path / LAST) == 2
    checkpoints.save_last(state(3), 3, 0)
    checkpoints.close()
    assert {path.name: step_of(path) for path in tmp_path.iterdir()} == {LAST: 3, "step1.pt": 1, "step2.pt": 2}


def test_a_checkpoint_of_the_same_step_takes_no_place_of_an_earlier_one(tmp_path):
    saved(tmp_path, [1, 2, 3, 4], keep_last=9)
    checkpoints = RunCheckpoints(tmp_path, 1, 0)
    checkpoints.continue_from(tmp_path / "step2.pt", 2)
    checkpoints.save_last(state(3), 3, 0)  # step3.pt is from before
    checkpoints.close()
    assert {path.name for path in tmp_path.iterdir()} == {LAST, "step2.pt"}


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "zeros"])
def test_a_damaged_last_one_gives_way_to_the_newest_whole_one(tmp_path, damage):
    folder = tmp_path / "checkpoints"
    saved(folder, [1, 2, 3, 10], keep_last=3)
    (folder / "step3.pt").write_bytes(b"PK\x03\x04")
    path = folder / LAST
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            {"empty": b"", "cut": content[:-99], "zeros": content[:200] + bytes(4096) + content[4296:]}[damage]
        )
    found, stored, note = load_resumable(tmp_path)
    assert (found, stored.training["next_step"]) == (folder / "step2.pt", 2)
    assert note.startswith(f"warning: {path}: ")
    assert note.endswith(f"; resuming from step 2, {found}")
    assert "newest whole" not in note
    for _, earlier in earlier_checkpoints(folder):
        earlier.unlink()
    with pytest.raises(WeightsError, match=r"last\.pt"):
        load_resumable(tmp_path)


def test_a_whole_last_one_needs_no_note(tmp_path):
    saved(tmp_path / "checkpoints", [1, 2])
    for path, step in ((tmp_path, 2), (tmp_path / "checkpoints" / "step1.pt", 1)):
        _, stored, note = load_resumable(path)
        assert (stored.training["next_step"], note) == (step, "")
