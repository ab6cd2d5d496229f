import dataclasses
import os
import pickle
import stat
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from yolo9k import checkpoint
from yolo9k.checkpoint import Checkpoint, find, load, save
from yolo9k.config import load_config
from yolo9k.errors import MachineError, WeightsError
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.supervision import Supervision


@pytest.fixture
def stored() -> Checkpoint:
    config = load_config(None, ["model.anchors=[[1, 2], [3, 4]]", "data.size=96x64", "data.dataset=voc"])
    labels = WordTree(("a", "b"), ("cat", "dog"), (-1, 0), {"puss": 0})
    weights = {"x": torch.arange(4.0).view(2, 2).t(), "n": torch.tensor(3)}
    training = {"step": 7, "optimizer": {"lr": 0.1, "m": torch.ones(2)}}
    return Checkpoint(config, labels, weights, training, supervision=Supervision(boxes=(0,), images=(1,)))


def names(folder):
    return [path.name for path in folder.iterdir()]


def test_written_and_read(tmp_path, stored):
    path = tmp_path / "new" / "a.pt"
    save(stored, path)
    found = load(path)
    assert (found.config, found.labels) == (stored.config, stored.labels)
    assert {name: value.tolist() for name, value in found.weights.items()} == {"x": [[0, 2], [1, 3]], "n": 3}
    assert found.supervision == stored.supervision
    assert found.training["step"] == 7
    assert found.training["optimizer"]["m"].tolist() == [1, 1]
    assert names(path.parent) == ["a.pt"]


def test_others_may_read_it_as_any_other_file(tmp_path, stored):
    save(stored, tmp_path / "a.pt")
    (tmp_path / "b").touch()
    assert stat.S_IMODE((tmp_path / "a.pt").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("enforce fail\nat x")])
def test_an_interrupted_write_leaves_the_old_file(tmp_path, stored, monkeypatch, error):
    path = tmp_path / "a.pt"
    save(stored, path)
    before = path.read_bytes()

    def break_off(_stored, file):
        file.write(b"half")
        raise error

    monkeypatch.setattr(checkpoint.torch, "save", break_off)
    with pytest.raises(MachineError, match=r"a\.pt: checkpoint cannot be written: (No space|enforce fail$)"):
        save(stored, path)
    assert path.read_bytes() == before
    assert names(tmp_path) == ["a.pt"]


def test_ctrl_c_leaves_no_half_file(tmp_path, stored, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.torch, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(stored, tmp_path / "a.pt")
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path, stored):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="checkpoint cannot be written: "):
        save(stored, tmp_path / "file" / "a.pt")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello world", b"<!DOCTYPE html><html></html>", b'{"a": 1}', b"\x80\x02", b"0", b"PK\x03\x04 not a zip"],
)
def test_files_that_are_no_checkpoint(tmp_path, content):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"a\.pt: not a readable checkpoint"):
        load(path)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.99])
def test_a_checkpoint_that_is_cut_off(tmp_path, stored, share):
    path = tmp_path / "a.pt"
    save(stored, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        load(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_noticed_or_does_not_matter(tmp_path, stored, data):
    path = tmp_path / "a.pt"
    save(stored, path)
    content = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    length = data.draw(st.sampled_from((1, 16, 4096)))
    for position in range(start, min(start + length, len(content))):
        content[position] = 0 if length > 1 else content[position] ^ (1 << data.draw(st.integers(0, 7)))
    path.write_bytes(content)
    try:
        found = load(path)
    except WeightsError:
        return
    assert found.config == stored.config
    assert all(torch.equal(found.weights[name], value) for name, value in stored.weights.items())


def test_one_flipped_bit_of_the_weights_is_noticed(tmp_path, stored):
    path = tmp_path / "a.pt"
    save(stored, path)
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda entry: entry.file_size)
        value = archive.read(entry)
    content = path.read_bytes()
    start = content.index(value)
    flipped = bytes([content[start] ^ 1])
    path.write_bytes(content[:start] + flipped + content[start + 1 :])
    with pytest.raises(WeightsError, match=f"it is damaged, the checksum of {entry.filename} is wrong$"):
        load(path)


def test_the_error_of_a_damaged_file_names_the_newest_whole_one(tmp_path, stored):
    for age, name in enumerate(("newest-damaged.pt", "new.pt", "old.pt")):
        save(stored, tmp_path / name)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    for name in ("newest-damaged.pt", "damaged.pt"):
        (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(WeightsError, match=r"damaged\.pt: .*cut off.*; the newest whole checkpoint is .*[/\\]new\.pt"):
        load(tmp_path / "damaged.pt")


def test_a_missing_file(tmp_path):
    with pytest.raises(WeightsError, match=r"a\.pt: no such checkpoint$"):
        load(tmp_path / "a.pt")


class Evil:
    """Unpickled without care, it makes a file."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_file_does_not_run(tmp_path, write):
    path, trace = tmp_path / "a.pt", tmp_path / "trace"
    write({"format": "yolo9k", "version": 1, "weights": Evil(trace)}, path)
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        load(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "a PyTorch file, but not a checkpoint of yolo9k"),
        ({"version": 99}, "checkpoint version 99; this program reads version 1"),
        ({"config": {"model": {"nmae": 1}}}, r"checkpoint is incomplete: .*model\.nmae"),
        ({"labels": {"ids": []}}, "checkpoint is incomplete: 'names'"),
        ({"labels": {"ids": ["a", "a"], "names": ["a", "a"], "parents": [-1, -1]}}, "'a' was already label 0"),
        ({"labels": 3}, "checkpoint is incomplete"),
        ({"labels": {"ids": [1], "names": ["a"], "parents": [-1]}}, "ids, names and aliases must be texts"),
        ({"labels": {"ids": "a", "names": ["a"], "parents": [-1.0]}}, "must be whole numbers"),
        ({"labels": {"ids": ["a"], "names": ["a"], "parents": [-1], "aliases": [3]}}, "incomplete"),
        ({"labels": {"ids": ["a"], "names": ["a"], "parents": [-1], "aliases": {"b": 1}}}, "must be 0 to 0"),
        ({"labels": {"ids": ["a"], "names": [["a"]], "parents": [-1]}}, "must be texts"),
        ({"supervision": {"boxes": [9], "images": []}}, "node 9: the tree has nodes 0 to 1"),
        ({"supervision": {"boxes": [float("inf")], "images": []}}, "must be whole numbers"),
        ({"supervision": [1]}, "incomplete"),
        ({"supervision": 7}, "incomplete"),
        ({"config": [1]}, "incomplete"),
        ({"weights": None}, "checkpoint is incomplete"),
    ],
)
def test_checkpoints_with_a_wrong_part(tmp_path, stored, change, message):
    path = tmp_path / "a.pt"
    save(stored, path)
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(WeightsError, match=r"a\.pt: .*" + message) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_other_pytorch_files(tmp_path):
    torch.save(torch.ones(2), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="not a checkpoint of yolo9k"):
        load(tmp_path / "a.pt")


def test_what_weights_means(tmp_path):
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    with pytest.raises(WeightsError, match=r"run: a folder without checkpoints/best\.pt or checkpoints/last\.pt"):
        find(tmp_path / "run")
    (folder / "last.pt").touch()
    assert find(str(tmp_path / "run")) == folder / "last.pt"
    (folder / "best.pt").touch()
    assert find(tmp_path / "run") == folder / "best.pt"
    assert find(folder / "last.pt") == folder / "last.pt"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the file is empty"), (b"PK\x03\x04 half", "it is cut off"), (b"hello", "")],
)
def test_the_error_says_what_is_wrong_with_the_file(tmp_path, content, reason):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"a\.pt: not a readable checkpoint.*{reason}"):
        load(tmp_path / "a.pt")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "a.pt")
    for path, kind in ((tmp_path / "a.pt", "a named pipe"), (tmp_path, "a folder")):
        with pytest.raises(WeightsError, match=f"is {kind}; a file is needed"):
            load(path)


def test_a_compressed_archive_is_refused(tmp_path, stored):
    save(stored, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as source,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    with pytest.raises(WeightsError, match=r"b\.pt: not a readable checkpoint: its archive is compressed"):
        load(tmp_path / "b.pt")


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"x": torch.zeros(1).expand(1 << 40)}, "its weights claim 4,398,046,511,104 bytes, more than the file has"),
        ({"x": 3}, "its weights are not tensors by name"),
        ({"x": torch.eye(3).to_sparse()}, "its weights must be dense tensors"),
        (7, "incomplete"),
    ],
)
def test_weights_that_are_none_are_refused(tmp_path, stored, weights, reason):
    save(stored, tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    torch.save({**content, "weights": weights}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=rf"a\.pt: checkpoint is incomplete: .*{reason}|incomplete"):
        load(tmp_path / "a.pt")


def test_weights_that_no_training_gives_are_warnings(tmp_path, stored, caplog):
    weights = {
        "good.weight": torch.ones(2, 2), "bad.bias": torch.tensor([1, float("nan")]), "count": torch.tensor(3),
        "worse.weight": torch.tensor([[float("-inf"), 1]]), "norm.running_var": torch.tensor([1.0, -0.1]),
        "empty.weight": torch.zeros(3, 3), "zero.bias": torch.zeros(3), "none.weight": torch.zeros(0, 3),
    }  # fmt: skip
    save(dataclasses.replace(stored, weights=weights), tmp_path / "a.pt")
    load(tmp_path / "a.pt")
    assert [message.removeprefix(f"{tmp_path}/a.pt: ") for message in caplog.messages] == [
        "NaN or infinite weights in bad, worse", "negative variances in norm", "all weights are 0 in empty",
    ]  # fmt: skip
    many = {f"layer{index}.weight": torch.full((2, 2), float("nan")) for index in range(50)}
    (warning,) = checkpoint.weight_warnings(many)
    assert warning.endswith("layer5, … 50 in total")


@pytest.mark.parametrize("key", ["format", "version", "training", "darknet"])
@pytest.mark.parametrize("value", [7, "x\x1b[31m", [1], torch.zeros(2), float("nan"), {"x": 1}, {1: 2}])
def test_parts_of_the_wrong_type_are_refused(tmp_path, stored, key, value):
    path = tmp_path / "x.pt"
    save(stored, path)
    torch.save({**torch.load(path), key: value}, path)
    if (key, type(value)) == ("training", dict) and "x" in value:
        assert load(path).training == value  # what resuming needs is checked when it resumes
    else:
        with pytest.raises(WeightsError, match=r"x\.pt: "):
            load(path)


def test_a_checkpoint_of_another_user(tmp_path, stored, monkeypatch):
    save(stored, tmp_path / "a.pt")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WeightsError, match=r"a\.pt: cannot be read: Permission denied$"):
        load(tmp_path / "a.pt")
