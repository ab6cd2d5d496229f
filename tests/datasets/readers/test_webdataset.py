"""Tar shards: labels, the order of images, patterns, and when the index cache is valid."""

import io
import json
import os
import tarfile
import tracemalloc
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from yolo9k.config import DatasetConfig
from yolo9k.config.classifier import ClassifierAugmentConfig
from yolo9k.config.datasets import TreeLabels
from yolo9k.datasets.load import is_held_out, read_annotations, read_images
from yolo9k.datasets.loader.batches import load_batches
from yolo9k.datasets.loader.dataset import TrainingDataset
from yolo9k.datasets.loader.sampler import SampleOrder, StepSampler
from yolo9k.datasets.readers import webdataset as shards
from yolo9k.datasets.readers.records import SplitRequest
from yolo9k.datasets.readers.webdataset import (
    expand_braces,
    find_tars,
    list_shard,
    list_shards,
    read_shards,
    scan_shard,
)
from yolo9k.datasets.transforms.classification import ClassificationTransform
from yolo9k.errors import ConfigError, DataError
from yolo9k.images import read_image

LONG_AGO = 1_000_000_000  # seconds: a modification time that a new change cannot have


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO9K_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


def pack(path: Path, *files: str | tuple[str, bytes | str], age: int = LONG_AGO) -> Path:
    """Write a tar file of images (with their name as content) and other files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for file in files:
            name, content = (file, file) if isinstance(file, str) else file
            content = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    os.utime(path, (age, age))
    return path


def labelled(number: int, label: object) -> list:
    return [f"{number:04d}.jpg", (f"{number:04d}.cls", str(label))]


def select(root: Path, *entries: str, labels=(), others=()) -> SplitRequest:
    return SplitRequest(root, entries or (".",), labels, (*(entries or (".",)), *others))


def found(request: SplitRequest) -> list[tuple[str, str]]:
    """Return name and class of each image, in order, and check its content."""
    read = read_shards(request)
    images = read.images({name: i for i, name in enumerate(read.classes)})
    records = [images[i] for i in range(len(images))]
    assert all(record.source.read_bytes().decode() == record.source.name for record in records)
    counts = np.bincount([record.image_label for record in records], minlength=len(read.classes))
    assert images.counts(len(read.classes)).tolist() == counts.tolist()
    return [(record.source.name, read.classes[record.image_label]) for record in records]


def errors(request: SplitRequest) -> list[tuple[str, str]]:
    return [(issue.kind, issue.message) for issue in read_shards(request).errors]


# --- labels


def test_labels_from_label_files(root):
    pack(
        root / "a.tar",
        *labelled(2, "cat"),
        *labelled(1, " dog\n"),
        ("0003.json", '{"label": "cat", "x": []}'),
        "0003.png",
    )
    assert found(select(root)) == [("0001.jpg", "dog"), ("0002.jpg", "cat"), ("0003.png", "cat")]


def test_files_of_a_sample_share_their_name_up_to_the_first_dot(root):
    pack(
        root / "a.tar",
        ("x.y/1.cls", "cat"),
        "x.y/1.seg.jpg",
        "x.y/1.JPG",
        ("1.cls", "dog"),
        "1.jpg",
        ("1.txt", "a dog"),
    )
    assert found(select(root)) == [("1.jpg", "dog"), ("x.y/1.JPG", "cat"), ("x.y/1.seg.jpg", "cat")]


@pytest.mark.parametrize("first", ["cls", "json"])
def test_cls_comes_before_json(root, first):
    files = [("1.cls", "cat"), ("1.json", '{"label": "dog"}')]
    pack(root / "a.tar", *(files if first == "cls" else files[::-1]), "1.jpg")
    assert found(select(root)) == [("1.jpg", "cat")]


@pytest.mark.parametrize("where", ["config", "classes.txt", "labels.txt"])
def test_numbers_are_class_indices(root, where):
    pack(
        root / "a.tar", *labelled(1, 1), *labelled(2, 0), "3.jpg", ("3.json", '{"class": 1}'), "4.jpg", ("4.cls", "dog")
    )
    names = ("dog", "cat")
    if where != "config":
        (root / where).write_text("dog\ncat\n")
        names = ()
    expected = [("0001.jpg", "cat"), ("0002.jpg", "dog"), ("3.jpg", "cat"), ("4.jpg", "dog")]
    assert found(select(root, labels=names)) == expected


def test_numbers_are_class_indices_even_if_classes_have_such_names(root):
    pack(root / "a.tar", *labelled(1, 1))
    assert found(select(root, labels=("1", "0"))) == [("0001.jpg", "0")]


def test_class_indices_need_class_names(root):
    path = pack(root / "a.tar", *labelled(1, "cat"), *labelled(2, 7))
    with pytest.raises(
        DataError, match=rf"^{path}: labels are class indices, such as 7, but there are no class names; .*classes.txt$"
    ):
        read_shards(select(root))


def test_labels_by_folder(root):
    pack(root / "a.tar", "./n1/b.JPEG", "./n1/deep/c.jpg", "n0/7.jpg", ("n0/notes.txt", "x"), "7/1.jpg")
    expected = [("7/1.jpg", "7"), ("n0/7.jpg", "n0"), ("n1/b.JPEG", "n1"), ("n1/deep/c.jpg", "n1")]
    contents = [("n1/b.JPEG", "./n1/b.JPEG"), ("n1/deep/c.jpg", "./n1/deep/c.jpg")]
    read = read_shards(select(root))
    images = read.images({name: i for i, name in enumerate(read.classes)})
    assert [(images[i].source.name, read.classes[images[i].image_label]) for i in range(4)] == expected
    assert [images[i].source.read_bytes().decode() for i in (2, 3)] == [content for _, content in contents]


def test_a_tar_file_with_only_images_is_a_class(root):
    pack(root / "n01440764.tar", "n01440764_2.JPEG", "n01440764_1.JPEG")
    pack(root / "n01443537.x.tar", "n01443537_9.JPEG")
    assert [kind for _, kind in found(select(root))] == ["n01440764", "n01440764", "n01443537"]


def test_images_without_a_label_are_errors(root):
    pack(root / "a.tar", *labelled(1, "cat"), "0002.jpg", *labelled(3, ""), *labelled(4, "a\nb"), "n/0005.jpg")
    pack(root / "b.tar", "0006.jpg", ("0006.txt", "a cat on a mat"))  # captions are not classes
    assert found(select(root)) == [("0001.jpg", "cat")]
    assert errors(select(root)) == [
        ("no label", "no readable label (4 images in this file)"),
        ("no label", "no readable label (1 image in this file)"),
    ]
    assert read_shards(select(root)).errors[0].location == f"{root.resolve() / 'a.tar'}: 0002.jpg"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1]", "7", '{"name": 1}', '{"label": null}', '{"label": true}', '{"label": [1]}', '{"label": 1.5}',
     "[" * 100_000, '{"label": ' + "1" * 5000 + "}", b"\xff\xfe{", '{"label": "' + "x" * (1 << 20) + '"}'],
    ids=range(13),
)  # fmt: skip
def test_json_without_a_valid_label(root, content):
    pack(root / "a.tar", *labelled(1, "cat"), "2.jpg", ("2.json", content))
    assert found(select(root)) == [("0001.jpg", "cat")]
    assert [kind for kind, _ in errors(select(root))] == ["no label"]


def test_unknown_classes(root):
    pack(
        root / "a.tar",
        *labelled(1, "cat"),
        *labelled(2, "wolf"),
        *labelled(3, "wolf"),
        *labelled(4, 1),
        *labelled(5, 2),
    )
    pack(root / "b.tar", *labelled(6, "wolf"))
    assert found(select(root, labels=("cat", "dog"))) == [("0001.jpg", "cat"), ("0004.jpg", "dog")]
    assert errors(select(root, labels=("cat", "dog"))) == [
        ("unknown class", "'wolf' is not one of the class names (2 images in this file)"),
        ("unknown class", "'class index 2' is not one of the class names (1 image in this file)"),
        ("unknown class", "'wolf' is not one of the class names (1 image in this file)"),
    ]


def test_hidden_files_are_skipped(root):
    hidden = ("a/._1.jpg", ".git/2.jpg", "__MACOSX/a/3.jpg", "a/.x/4.jpg", "@eaDir/1.jpg/SMALL.jpg", "a/@eaDir/5.jpg")
    pack(root / "a.tar", "a/1.jpg", "__x__/1.jpg", *hidden, ".", "./a/")
    assert found(select(root)) == [("__x__/1.jpg", "__x__"), ("a/1.jpg", "a")]


def test_the_last_of_equal_names_is_used(root):
    pack(root / "a.tar", ("1.jpg", "old"), ("1.cls", "cat"), "1.jpg", ("1.cls", "dog"))
    assert found(select(root)) == [("1.jpg", "dog")]


def test_links_to_images_are_refused(root):
    path = root / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("a/1.txt", "a/1.jpg"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(entry)
    with pytest.raises(DataError, match=rf"^{path}: byte 512: a/1.jpg: a link to an image; pack with --dereference"):
        read_shards(select(root))


# --- order


def test_images_are_sorted_by_name_in_any_packing(root):
    names = [f"{kind}/{number:03d}.jpg" for kind in "abc" for number in range(40)]
    mixed = [names[i] for i in np.random.default_rng(0).permutation(len(names))]
    pack(root / "one" / "0.tar", *names)
    for number in range(5):
        pack(root / "many" / f"{number}.tar", *mixed[number::5])
    expected = [(name, name[0]) for name in names]
    assert found(select(root, "one")) == found(select(root, "many")) == expected


def test_equal_names_are_in_the_order_of_the_tar_files(root):
    for name in ("b", "a"):
        pack(root / f"{name}.tar", *labelled(1, name), *labelled(2, name))
    assert [kind for _, kind in found(select(root))] == ["a", "b", "a", "b"]
    assert [kind for _, kind in found(select(root, "b.tar", "a.tar"))] == ["b", "a", "b", "a"]
    assert len(found(select(root, "b.tar", "b.tar"))) == 2  # each once


# --- finding tar files


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("a-{000..003}.tar", ["a-000.tar", "a-001.tar", "a-002.tar", "a-003.tar"]),
        ("{9..11}", ["9", "10", "11"]),
        ("{09..11}", ["09", "10", "11"]),
        ("{0..2}{8..10}", [f"{i}{j}" for i in range(3) for j in (8, 9, 10)]),  # a lone 0 does not pad
        ("{0..10..5}", ["0", "5", "10"]),
        ("{a..c}", ["a", "b", "c"]),
        ("{a,b{0..1}}", ["a", "b0", "b1"]),
        ("a\\{0..1}", ["a\\0", "a\\1"]),  # a path separator of Windows
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}-{0..1}", ["a-0", "a-1", "b-0", "b-1"]),
        ("x{,y}", ["x", "xy"]),
        ("{x}{1..}", ["{x}{1..}"]),
    ],
)
def test_braces(pattern, names):
    assert expand_braces(pattern) == names


TOO_MANY = (
    "{0..99999999999}",
    "{0..99999999999..1}",
    "{-99999999999..0}",
    "{0..99999999999\n}",
    "{0..999}{0..999}{0..9}",
    "{0..99}" * 30,
    "{a..z}" * 30,
    "{{0..99999999999},b}",
    "{{a,b},c,d}" * 30,
    "{{x,y}{z,w},{{a,b},c}}" * 9,
)


@pytest.mark.parametrize("pattern", TOO_MANY)
def test_braces_with_too_many_names(pattern):
    with pytest.raises(DataError, match="expands to more than 1000000 tar files"):
        expand_braces(pattern)


@pytest.mark.parametrize("pattern", ["a-{0..2.tar", "a}", "{{0..1}", "{" * 3000 + "}" * 3000, f"{{0..{'9' * 5000}}}"])
def test_invalid_braces(pattern):
    with pytest.raises(DataError, match=r"braces must be balanced, such as \{000\.\.146\} or \{a,b\}$"):
        expand_braces(pattern)


def test_files_folders_and_patterns(root):
    for name in ("a-0.tar", "a-1.tar", "deep/b.tar", "deep/.c.tar", "{0..1}.tar"):
        pack(root / name)
    (root / "deep" / "notes.txt").touch()
    assert [path.name for path in find_tars(root, "a-{0..1}.tar")] == ["a-0.tar", "a-1.tar"]
    assert [path.name for path in find_tars(root, "deep")] == ["b.tar"]
    assert [path.name for path in find_tars(root, "{0..1}.tar")] == ["{0..1}.tar"]  # an existing name is not a pattern
    assert find_tars(root, str(root / "a-0.tar")) == [root / "a-0.tar"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("none.tar", "none.tar: no such tar file or folder of tar files$"),
        ("a-{0..2}.tar", r"a-2.tar: no such tar file or folder of tar files \(of a-\{0..2\}.tar\)$"),
        ("empty", "empty: no tar files in this folder$"),
        ("packed", r"b.tar.gz: compressed \(gzip\): images need random access"),
    ],
)
def test_missing_tar_files(root, entry, message):
    for name in ("a-0.tar", "a-1.tar"):
        pack(root / name)
    (root / "empty").mkdir()
    (root / "packed").mkdir()
    (root / "packed" / "b.tar.gz").write_bytes(b"\x1f\x8b\x08" + bytes(600))
    with pytest.raises(DataError, match=message):
        read_shards(select(root, entry))


def test_a_broken_tar_file_is_an_error_with_its_location(root):
    for number in range(20):
        pack(root / f"{number:02d}.tar", *labelled(1, "cat"))
    path = root / "07.tar"
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DataError, match=rf"^{path}: byte 1024: the file ends without the end marker"):
        list_shards(find_tars(root, "."))


# --- the index cache


def listed(path: Path, monkeypatch) -> tuple[int, bool]:
    """Return the image count and whether the headers were read."""
    scans = []
    monkeypatch.setattr(shards, "scan_shard", lambda path: scans.append(path) or scan_shard(path))
    shard = list_shard(path)
    monkeypatch.undo()
    again = scan_shard(path.resolve())
    for field in fields(again):
        one, other = getattr(shard, field.name), getattr(again, field.name)
        if field.name == "names":
            one, other = ([names[i] for i in range(len(names))] for names in (one, other))
        np.testing.assert_array_equal(one, other)
    return len(shard), bool(scans)


@pytest.fixture
def undoable(tmp_path, monkeypatch):
    """A monkeypatch whose undo leaves those of other fixtures."""
    patch = pytest.MonkeyPatch()
    yield patch
    patch.undo()


def test_the_index_cache_is_valid_while_the_file_does_not_change(root, undoable):
    path = pack(root / "a.tar", *labelled(1, "cat"), ("2.jpg", ""), *labelled(3, 1))
    assert listed(path, undoable) == (3, True)
    assert listed(path, undoable) == (3, False)
    pack(path, *labelled(1, "dog"), ("2.jpg", ""), *labelled(3, 1), age=LONG_AGO + 1)  # same size
    assert listed(path, undoable) == (3, True)
    pack(path, *labelled(1, "dog"), *(f"n/{i}.jpg" for i in range(90)))  # same time
    assert listed(path, undoable) == (91, True)
    assert listed(path, undoable) == (91, False)
    pack(path)
    assert listed(path, undoable) == (0, True)
    assert listed(path, undoable) == (0, False)


def test_recent_changes_are_not_cached(root, undoable, cache):
    path = pack(root / "a.tar", *labelled(1, "cat"))
    os.utime(path)
    assert listed(path, undoable) == (1, True)
    assert not cache.exists()


def test_each_tar_file_has_its_own_cache(root, undoable):
    for name in ("a", "b"):
        path = pack(root / name / "x.tar", f"{name}/1.jpg")
        assert listed(path, undoable) == (1, True)
    assert list_shard(root / "a" / "x.tar").labels == ("a",)


@pytest.mark.parametrize("damage", ["empty", "cut", "pickled", "other arrays", "too short", "beyond the end", "labels"])
def test_a_broken_cache_is_rebuilt(root, undoable, cache, damage):
    path = pack(root / "a.tar", *labelled(1, "cat"), *labelled(2, "dog"))
    listed(path, undoable)
    (kept,) = cache.iterdir()
    content = kept.read_bytes()
    if damage in ("empty", "cut"):
        kept.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    else:
        with np.load(kept) as stored:
            arrays = dict(stored)
        if damage == "pickled":
            arrays["names"] = np.array([print, "x"], dtype=object)
        elif damage == "other arrays":
            arrays = {"version": arrays["version"]}
        elif damage == "too short":
            arrays["ends"] = arrays["ends"][:1]
        elif damage == "beyond the end":
            arrays["block"] = arrays["block"] + np.uint64(10**6)
        else:
            arrays["labels"] = arrays["labels"][:3]
        np.savez(kept, **arrays)
    assert listed(path, undoable) == (2, True)
    assert listed(path, undoable) == (2, False)


def test_many_images_need_little_memory(root):
    """Twenty thousand images need no object each, and each can be accessed."""
    numbers = np.random.default_rng(0).permutation(20_000)
    for number, part in enumerate(np.split(numbers, 4)):
        pack(root / f"{number}.tar", *(f"n{i % 100:08d}/n{i % 100:08d}_{i}.JPEG" for i in part))
    read = read_shards(select(root))
    labels = {name: i for i, name in enumerate(read.classes)}
    del read
    tracemalloc.start()
    images = read_shards(select(root)).images(labels)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(images) == 20_000
    assert held / len(images) < 60  # bytes, 27 of them the name
    names = sorted(f"n{i % 100:08d}/n{i % 100:08d}_{i}.JPEG" for i in range(20_000))
    for index in (0, 1, 777, 19_999):
        assert images[index].source.name == images[index].source.read_bytes().decode() == names[index]
        assert images[index].image_label == labels[names[index].partition("/")[0]]


def test_a_number_of_thousands_of_digits_is_no_class_index(root):
    pack(root / "a.tar", *labelled(1, "cat"), *labelled(2, "9" * 5000))
    ((kind, message),) = errors(select(root, labels=("cat", "dog")))
    assert kind == "unknown class"
    assert len(message) < 300


# --- as a data set


def draw(number: int) -> bytes:
    image = np.random.default_rng(number).integers(0, 256, (30 + number % 7, 40, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def twins(root):
    """The same images in class folders, and in shards with labels by folder and by class index."""
    images = {f"{kind}/{number}.png": draw(10 * i + number) for i, kind in enumerate("cba") for number in range(4)}
    for name, content in images.items():
        (root / "folders" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "folders" / name).write_bytes(content)
    mixed = [list(images)[i] for i in np.random.default_rng(0).permutation(12)]
    for number in range(3):
        pack(root / "by-folder" / f"{number}.tar", *((name, images[name]) for name in mixed[number::3]))
    for number in range(3):
        files = []
        for name in mixed[number::3]:
            key = f"{sorted(images).index(name):04d}"
            files += [(f"{key}.cls", str("abc".index(name[0]))), (f"{key}.png", images[name])]
        pack(root / "by-number" / f"train-{number}.tar", *files)
    (root / "by-number" / "classes.txt").write_text("a\nb\nc\n")
    return root


def config(root: Path, kind: str, *entries: str, **changes) -> DatasetConfig:
    return DatasetConfig(kind=kind, root=str(root), splits={"train": entries or (".",)}, **changes)


def first_batches(dataset: DatasetConfig, workers: int = 0):
    records = read_images(dataset, "train").records
    images = TrainingDataset([records], ClassificationTransform(ClassifierAugmentConfig()), seed=3)
    sampler = StepSampler(SampleOrder([len(records)], seed=3), 4, 1, ((32, 32),), 1, 0, 6)
    return list(load_batches(images, sampler, workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_and_folder_give_the_same_batches(twins, workers):
    same = first_batches(config(twins / "folders", "folder"))
    for shards_config in (
        config(twins / "by-folder", "shards"),
        config(twins / "by-number", "shards", "train-{0..2}.tar"),
    ):
        for one, other in zip(same, first_batches(shards_config, workers), strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.image_label, other.image_label)


def test_spawned_workers_read_shards(twins, monkeypatch):
    dataset = config(twins / "by-folder", "shards")
    expected = first_batches(dataset)
    context = torch.multiprocessing.get_context("spawn")
    loader = torch.utils.data.DataLoader
    monkeypatch.setattr(
        "yolo9k.datasets.loader.batches.DataLoader", lambda *a, **k: loader(*a, **k, multiprocessing_context=context)
    )
    for one, other in zip(expected, first_batches(dataset, 1), strict=True):
        assert torch.equal(one.images, other.images)


def test_labels_over_a_tree(zoo):
    names = {"poodle": "n1", "terrier": "terrier", "car": "car"}
    for kind, called in names.items():
        pack(zoo / "shards" / f"{kind}.tar", *((f"{called}/{n}.png", draw(n)) for n in range(2)))
    labels = TreeLabels(tree=str(zoo / "zoo.txt"))
    read = read_images(config(zoo / "shards", "shards", labels=labels), "train")
    assert {read.labels.names[read.records[i].image_label] for i in range(len(read.records))} == set(names)
    assert read_image(read.records[0].source).shape == (30, 40, 3)


def test_images_are_held_out_by_their_name_in_the_shard(root):
    names = [f"c/{number}.jpg" for number in range(40)]
    pack(root / "one" / "a.tar", *names)
    for number in range(3):
        pack(root / "many" / f"{number}.tar", *names[number::3])
    parts = {}
    for folder in ("one", "many"):
        dataset = config(root / folder, "shards", holdout=0.3)
        for split in ("train", "val"):
            records = read_images(dataset, split).records
            parts[folder, split] = [records[i].source.name for i in range(len(records))]
    assert parts["one", "val"] == parts["many", "val"] == [n for n in sorted(names) if is_held_out(n, 0.3)]
    assert sorted(parts["one", "val"] + parts["one", "train"]) == sorted(names)


def test_reading_errors_name_tar_file_and_image(root):
    path = pack(root / "a.tar", ("n/1.jpg", "text"), ("n/2.jpg", b""), ("n/3.png", draw(1)[:200]))
    records = read_images(config(root, "shards"), "train").records
    for index, message in (
        (0, "not a readable image"),
        (1, "not a readable image"),
        (2, "cannot be read as an im"),
    ):
        with pytest.raises(DataError, match=rf"^{path}: n/{index + 1}\.(jpg|png): {message}"):
            read_image(records[index].source)
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DataError, match=r"n/3\.png: cannot be read as an image: the file ends 200 bytes before"):
        read_image(records[2].source)
    path.unlink()
    with pytest.raises(DataError, match=r"a.tar: n/1.jpg: no such image$"):
        read_image(records[0].source)


def test_shards_have_no_boxes(root):
    pack(root / "a.tar", "n/1.jpg")
    with pytest.raises(ConfigError, match="its images have no boxes"):
        read_annotations(config(root, "shards", name="x"), "train")
    pack(root / "b.tar")
    with pytest.raises(DataError, match="no labelled image in split 'train'"):
        read_images(config(root, "shards", "b.tar"), "train")


def test_classes_are_from_all_splits(root):
    pack(root / "t.tar", "b/1.jpg")
    pack(root / "v.tar", "a/1.jpg")
    dataset = DatasetConfig(kind="shards", root=str(root), splits={"train": ("t.tar",), "val": ("v.tar",)})
    for split, label in (("train", 1), ("val", 0)):
        read = read_images(dataset, split)
        assert read.labels.names == ("a", "b")
        assert [read.records[i].image_label for i in range(len(read.records))] == [label]


def test_the_layout_of_other_tools(root):
    """The layout of `webdataset`'s own writer: keys of six digits, class indices, and metadata."""
    files = [
        (f"{n:06d}.{end}", text) for n in range(2) for end, text in (("cls", f"{n}"), ("json", json.dumps({"k": 1})))
    ]
    pack(root / "set-000000.tar", *files, "000000.jpg", "000001.jpg")
    (root / "classes.txt").write_text("tench\ngoldfish\n")
    assert found(select(root)) == [("000000.jpg", "tench"), ("000001.jpg", "goldfish")]


def test_a_duplicate_class_name(root):
    pack(root / "a.tar", *labelled(1, 1))
    (root / "classes.txt").write_text("crane\ntub\ncrane\n")
    with pytest.raises(DataError, match=r"classes\.txt: class 0 and class 2 are both called 'crane'"):
        read_images(config(root, "shards", name="birds"), "train")


@pytest.mark.parametrize("entry", ["x" * 5000, "{" * 3000, "a\0b"])
def test_entries_that_cannot_be_a_path(tmp_path, entry):
    with pytest.raises(DataError) as caught:
        find_tars(tmp_path, entry)
    assert len(str(caught.value)) < 2000
