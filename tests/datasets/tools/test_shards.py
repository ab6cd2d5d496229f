"""Write shards: check their contents, and that reading them returns the same data set."""

import itertools
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo9k.config import DatasetConfig, load_dataset_config
from yolo9k.config.datasets import TreeLabels
from yolo9k.datasets.autodetect import image_folder, open_image_dataset
from yolo9k.datasets.load import read_images
from yolo9k.datasets.tools import shards as shard_tool
from yolo9k.datasets.tools.shards import ShardOptions, write_shards
from yolo9k.errors import ConfigError, DataError, MachineError
from yolo9k.images import read_image

SMALL = ShardOptions(size_mb=0.02)  # about four images


@pytest.fixture
def folder(tmp_path) -> DatasetConfig:
    rng = np.random.default_rng(0)
    for kind, count in (("b", 7), ("a c", 5), ("7", 3)):
        for number in range(count):
            path = tmp_path / "kinds" / "train" / kind / ("deep" if number % 2 else ".") / f"{kind}.{number}.PNG"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (30 + number, 50, 3), np.uint8)).save(path)
    (tmp_path / "kinds" / "val" / "b").mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(tmp_path / "kinds" / "val" / "b" / "1.jpg")
    return image_folder(tmp_path / "kinds")


def same_images(one: DatasetConfig, other: DatasetConfig, split: str = "train") -> int:
    """Assert that both data sets have the same images, in order, with the same labels; return their number."""
    first, second = read_images(one, split), read_images(other, split)
    assert first.labels.names == second.labels.names
    assert len(first.records) == len(second.records)
    for i in range(len(first.records)):
        a, b = first.records[i], second.records[i]
        assert (a.image_label, a.source.read_bytes()) == (b.image_label, b.source.read_bytes()), (a, b)
    return len(first.records)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_shards_contain_the_images_of_the_folder(folder, tmp_path):
    out = tmp_path / "out"
    packed = write_shards(folder, "train", out, SMALL)
    assert (packed.images, packed.classes, packed.unreadable) == (15, 3, 0)
    assert len(packed.shards) > 2
    assert names_in(out) == ["classes.txt", "shards.yaml", *(path.name for path in packed.shards)]
    assert (out / "classes.txt").read_text() == "7\na c\nb\n"
    config = load_dataset_config(str(packed.config))
    assert config.splits == {"train": (f"train-{{000000..{len(packed.shards) - 1:06d}}}.tar",)}
    assert same_images(folder, config) == 15


def test_splits_are_packed_by_separate_calls(folder, tmp_path):
    out = tmp_path / "out"
    for split in ("val", "train"):
        packed = write_shards(folder, split, out, ShardOptions())
    config = load_dataset_config(str(packed.config))
    assert config.splits == {"val": ("val-000000.tar",), "train": ("train-000000.tar",)}
    assert (same_images(folder, config), same_images(folder, config, "val")) == (15, 1)
    packed.config.unlink()
    assert image_folder(out).splits == config.splits  # from the names of the tar files


def test_a_folder_of_shards_may_be_moved(zoo):
    labels = TreeLabels(tree=str(zoo / "zoo.txt"))
    config = DatasetConfig(kind="folder", root=str(zoo), splits={"train": ("kinds",)}, labels=labels)
    write_shards(config, "train", zoo / "out", ShardOptions())
    (zoo / "out").rename(zoo / "moved")
    moved = open_image_dataset(str(zoo / "moved"))
    assert (moved.name, moved.root, moved.labels) == ("out", str(zoo / "moved"), labels)
    assert same_images(config, moved) == 6


def test_files_in_a_shard(folder, tmp_path):
    packed = write_shards(folder, "train", tmp_path / "out", ShardOptions())
    with tarfile.open(packed.shards[0]) as tar:
        entries = tar.getmembers()
        contents = [tar.extractfile(entry).read() for entry in entries]
    files = list(zip(entries, contents, strict=True))
    indices = []
    for (image, _), (label, text) in zip(files[::2], files[1::2], strict=True):
        assert image.name.partition(".")[0] == label.name.partition(".")[0]
        assert (image.name.endswith(".png"), label.name.endswith(".cls")) == (True, True)
        assert (image.mtime, image.uid, image.mode) == (0, 0, 0o644)
        kind = ["7", "a c", "b"][int(text)]
        assert image.name[8:].startswith(f"-{kind}_")
        indices.append(int(image.name[:8]))
    assert sorted(indices) == list(range(15))
    assert indices != sorted(indices)


def test_the_same_call_makes_the_same_files(folder, tmp_path):
    one, same, other = (
        write_shards(folder, "train", tmp_path / name, ShardOptions(size_mb=0.02, seed=seed)).shards
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in same]
    assert [path.read_bytes() for path in one] != [path.read_bytes() for path in other]


@pytest.mark.parametrize("size_mb", [0.000001, 0.01, 0.03, 1])
def test_no_shard_exceeds_the_max_size(folder, tmp_path, size_mb):
    packed = write_shards(folder, "train", tmp_path / "out", ShardOptions(size_mb=size_mb))
    for path in packed.shards:
        with tarfile.open(path) as tar:
            single = len(tar.getnames()) == 2
        assert single or path.stat().st_size <= size_mb * 1e6 + tarfile.RECORDSIZE  # tar pads to a full record
    assert same_images(folder, load_dataset_config(str(packed.config))) == 15


def test_max_images_chooses_at_random(folder, tmp_path):
    packed = write_shards(folder, "train", tmp_path / "out", ShardOptions(max_images=6))
    read = read_images(load_dataset_config(str(packed.config)), "train")
    assert packed.images == len(read.records) == 6
    assert read.labels.names == ("7", "a c", "b")
    everything = read_images(folder, "train").records
    contents = [everything[i].source.read_bytes() for i in range(15)]
    chosen = [contents.index(read.records[i].source.read_bytes()) for i in range(6)]
    assert chosen == sorted(chosen)


def test_resize_shrinks_larger_images(folder, tmp_path):
    broken = tmp_path / "kinds" / "train" / "b" / "b.0.PNG"
    broken.write_text("text")
    packed = write_shards(folder, "train", tmp_path / "out", ShardOptions(resize=33))
    assert packed.unreadable == 1
    before, after = (read_images(c, "train").records for c in (folder, load_dataset_config(str(packed.config))))
    for i in range(15):
        if before[i].source == broken.resolve():
            assert after[i].source.read_bytes() == b"text"  # reading it raises an error
            continue
        image, smaller = read_image(before[i].source), read_image(after[i].source)
        if image.shape[0] <= 33:
            assert np.array_equal(image, smaller)
        else:
            assert smaller.shape[:2] == (33, round(50 * 33 / image.shape[0]))
            assert after[i].source.name.endswith(".jpg")


def test_an_interrupted_call_is_resumed(folder, tmp_path, monkeypatch):
    whole = write_shards(folder, "train", tmp_path / "whole", SMALL)
    write, calls = shard_tool._write_shard, itertools.count()

    def interrupt(*args):
        if next(calls) == 2:
            args[0].with_name(f"{args[0].name}.part").write_bytes(b"half a shard")
            raise KeyboardInterrupt
        return write(*args)

    out = tmp_path / "out"
    monkeypatch.setattr(shard_tool, "_write_shard", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_shards(folder, "train", out, SMALL)
    assert len(list(out.glob("*.tar"))) == 2
    written = (out / "train-000000.tar").stat().st_mtime_ns
    for changed, message in (
        (ShardOptions(size_mb=0.5), "size_mb 0.02, not 0.5"),
        (ShardOptions(size_mb=0.02, resize=9), "resize 0, not 9"),
        (ShardOptions(size_mb=0.02, seed=1), "seed 0, not 1"),
    ):
        with pytest.raises(
            ConfigError, match=rf"train.unfinished.json: packing was started with {message}; use the same"
        ):
            write_shards(folder, "train", out, changed)
    resumed = write_shards(folder, "train", out, SMALL)
    assert (out / "train-000000.tar").stat().st_mtime_ns == written
    assert [path.read_bytes() for path in resumed.shards] == [path.read_bytes() for path in whole.shards]
    assert names_in(out) == ["classes.txt", "shards.yaml", *(path.name for path in resumed.shards)]


def test_other_images_cannot_resume(folder, tmp_path, monkeypatch):
    write, calls = shard_tool._write_shard, itertools.count()

    def stop(*args):
        if next(calls):
            raise KeyboardInterrupt
        return write(*args)

    monkeypatch.setattr(shard_tool, "_write_shard", stop)
    with pytest.raises(KeyboardInterrupt):
        write_shards(folder, "train", tmp_path / "out", SMALL)
    (tmp_path / "kinds" / "train" / "b" / "b.0.PNG").unlink()
    with pytest.raises(ConfigError, match="packing was started with other images"):
        write_shards(folder, "train", tmp_path / "out", SMALL)
    (tmp_path / "out" / "train.unfinished.json").write_text("[")
    with pytest.raises(DataError, match="not a valid plan file; remove it"):
        write_shards(folder, "train", tmp_path / "out", SMALL)


def test_nothing_is_overwritten(folder, tmp_path):
    out = tmp_path / "out"
    write_shards(folder, "train", out, SMALL)
    content = (out / "train-000000.tar").read_bytes()
    with pytest.raises(ConfigError, match=r"out: already contains shards of split 'train'; choose another folder$"):
        write_shards(folder, "train", out, SMALL)
    assert (out / "train-000000.tar").read_bytes() == content
    other = DatasetConfig(kind="folder", root=str(tmp_path / "kinds"), splits={"val": ("val",)})
    with pytest.raises(ConfigError, match=r"classes.txt: lists other classes than the data set; choose another"):
        write_shards(other, "val", out, SMALL)


def test_labels_in_a_tree_stay_in_the_tree(zoo):
    labels = TreeLabels(tree=str(zoo / "zoo.txt"), names={"car": "bus"})
    config = DatasetConfig(kind="folder", root=str(zoo), splits={"train": ("kinds",)}, labels=labels)
    packed = write_shards(config, "train", zoo / "out", ShardOptions())
    again = load_dataset_config(str(packed.config))
    assert isinstance(again.labels, TreeLabels)
    assert again.labels.names == {"car": "bus"}
    assert same_images(config, again) == 6


def test_shards_can_be_packed_again(folder, tmp_path):
    first = load_dataset_config(str(write_shards(folder, "train", tmp_path / "one", SMALL).config))
    second = load_dataset_config(str(write_shards(first, "train", tmp_path / "two", ShardOptions()).config))
    assert same_images(folder, second) == 15


def test_class_names_that_cannot_be_listed(folder, tmp_path):
    try:
        (tmp_path / "kinds" / "train" / "a\nb").mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(DataError, match="the name must be printable"):
        write_shards(folder, "train", tmp_path / "out", SMALL)


def test_a_missing_image(folder, tmp_path, monkeypatch):
    images = read_images(folder, "train")
    monkeypatch.setattr(shard_tool, "read_images", lambda *args: images)
    path = images.records[3].source
    path.unlink()
    with pytest.raises(DataError, match=rf"^{path}: no such image"):
        write_shards(folder, "train", tmp_path / "out", SMALL)


def test_a_full_disk(folder, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_tool, "_add", full)
    with pytest.raises(MachineError, match=r"train-000000\.tar: cannot be written: No space left on device$"):
        write_shards(folder, "train", tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()  # nothing was finished that a second call could use


def test_a_call_without_a_finished_shard_keeps_the_files_of_others(folder, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    write_shards(folder, "train", tmp_path / "out", SMALL)
    before = names_in(tmp_path / "out")
    monkeypatch.setattr(shard_tool, "_write_shard", stop)
    with pytest.raises(KeyboardInterrupt):
        write_shards(folder, "val", tmp_path / "out", SMALL)
    assert names_in(tmp_path / "out") == before


def test_names_of_any_length_and_letters(tmp_path):
    odd = os.fsdecode(b"\xff.") + "ä" * 90 + ".x.jpg"
    path = tmp_path / "kinds" / "a" / odd
    path.parent.mkdir(parents=True)
    try:
        Image.new("RGB", (9, 9)).save(path)
    except OSError:
        pytest.skip("this file system has names of Unicode only")
    folder = image_folder(tmp_path / "kinds")
    packed = write_shards(folder, "train", tmp_path / "out", ShardOptions())
    assert same_images(folder, load_dataset_config(str(packed.config))) == 1
