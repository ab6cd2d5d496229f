import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_data import write_toy

from yolo9k import cli
from yolo9k.boxes import area, intersection
from yolo9k.datasets.load import read_images
from yolo9k.datasets.readers.records import Annotations, Record
from yolo9k.datasets.tools.crops import CropOptions, is_covered, write_crops
from yolo9k.errors import DataError
from yolo9k.images import read_image
from yolo9k.samples import BoxLabels
from yolo9k.wordtree import WordTree

LABELS = WordTree.flat(["cat", "dog"])


@pytest.fixture
def annotations(tmp_path):
    """Two images of 80x60 pixels with four boxes each; the two dogs cover half of each other."""
    image = np.zeros((60, 80, 3), np.uint8)
    image[10:30, 20:50] = (255, 0, 0)
    records = []
    for index in range(2):
        path = tmp_path / f"folder{index}" / "image.png"
        path.parent.mkdir()
        cv2.imwrite(str(path), image[..., ::-1])
        boxes = [[20, 10, 50, 30], [0, 40, 20, 60], [10, 40, 30, 60], [70, 0, 74, 4]]
        records.append(Record(path, (80, 60), BoxLabels.of(boxes, [0, 1, 1, 0]), index))
    return Annotations(tuple(records), LABELS)


def test_crops_have_a_margin(annotations, tmp_path):
    config, counts = write_crops(annotations, tmp_path / "crops", CropOptions(margin=0.1, max_covered=1))
    assert counts == {"cat": 2, "dog": 4}
    crop = read_image(tmp_path / "crops" / "cat" / "image-0-0.jpg")
    assert crop.shape == (24, 36, 3)  # [17, 8, 53, 32]
    assert crop[12, 18, 0] > 200
    assert crop[0].max() < 60
    assert len(read_images(config, "train").records) == 6


def test_folders_of_ambiguous_names_are_called_by_id(annotations, tmp_path):
    labels = WordTree(("n1", "n2", "n3"), ("cup", "cup", "a/b"), (-1, -1, -1))
    for labelled, folder in ((labels, {"n1", "n2"}), (WordTree.flat(["a/b", "dog"]), {"a_b", "dog"})):
        same = Annotations(annotations.records, labelled)
        _, counts = write_crops(same, tmp_path / min(folder), CropOptions(max_covered=1))
        assert set(counts) == folder == {path.name for path in (tmp_path / min(folder)).iterdir()}


def test_covered_small_and_ignored_boxes_are_skipped(annotations, tmp_path):
    _, counts = write_crops(annotations, tmp_path / "a", CropOptions())
    assert counts == {"cat": 2}  # dogs cover each other, the last cat is too small
    _, counts = write_crops(annotations, tmp_path / "b", CropOptions(min_side=1))
    assert counts == {"cat": 4}
    ignored = [
        Record(r.path, r.size_wh, BoxLabels.of(r.boxes.xyxy, r.boxes.label, [1] * 4), 0) for r in annotations.records
    ]
    with pytest.raises(DataError, match="no box of 2 images fits the options; relax min_side or max_covered"):
        write_crops(Annotations(tuple(ignored), LABELS), tmp_path / "c", CropOptions())


@pytest.mark.parametrize("name", ["..", ".cat", "c\0t", "c\ud800", "x" * 256, "__MACOSX"])
def test_names_that_no_folder_can_have_are_refused_before_anything_is_written(annotations, tmp_path, name):
    labelled = Annotations(annotations.records, WordTree.flat([name, "dog"]))
    with pytest.raises(DataError, match=r"label 0: '.*' cannot be the name of a folder of crops"):
        write_crops(labelled, tmp_path / "crops", CropOptions())
    assert not (tmp_path / "crops").exists()


def test_two_classes_never_share_a_folder(annotations, tmp_path):
    labelled = Annotations(annotations.records, WordTree.flat(["a/b", "a_b"]))
    with pytest.raises(DataError, match=r"labels 0 and 1: their crops would be in one folder, 'a_b'"):
        write_crops(labelled, tmp_path / "crops", CropOptions(max_covered=1))


def test_in_place_fills_the_rest_with_the_median_colour(annotations, tmp_path):
    write_crops(annotations, tmp_path / "crops", CropOptions(margin=0, in_place=True))
    image = read_image(tmp_path / "crops" / "cat" / "image-1-0.jpg")
    assert image.shape == (60, 80, 3)
    assert image[20, 35, 0] > 200
    assert image[50, 70].max() < 10  # most of the image is black
    assert image[50, 10].max() < 10


def test_per_class_is_random_and_reproducible(annotations, tmp_path):
    names = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1), ("d", 2), ("e", 3)):
        options = CropOptions(per_class=1, max_covered=1, seed=seed)
        assert write_crops(annotations, tmp_path / folder, options)[1] == {"cat": 1, "dog": 1}
        names.append(sorted(path.name for path in (tmp_path / folder).rglob("*.jpg")))
    assert names[0] == names[1]
    assert len({tuple(each) for each in names}) > 1


def test_the_command(tmp_path, monkeypatch, capsys):
    write_toy(tmp_path / "toy", {"train": 4}, side_px=96)
    words = [
        "yolo9k",
        "data",
        "make",
        "crops",
        str(tmp_path / "toy"),
        "-o",
        str(tmp_path / "crops"),
        "--per-class",
        "1",
    ]
    codes = []
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(cli.sys, "exit", codes.append)
    cli.main()
    assert "images" in capsys.readouterr().out
    cli.main()
    assert codes == [None, 2]
    assert "already exists; choose a new folder" in capsys.readouterr().err


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.sampled_from([0, 1, 8, 300]), st.sampled_from([0.0, 0.3, 0.9]))
def test_covered_boxes_are_those_of_all_pairs(seed, count, longest, max_covered):
    rng = np.random.default_rng(seed)
    xy = rng.integers(0, 100, (count, 2)) * 0.5
    xyxy = np.concatenate([xy, xy + rng.integers(1, 40, (count, 2))], axis=1).astype(np.float32)
    chosen = np.flatnonzero(rng.random(count) < 0.7)
    fractions = intersection(xyxy[:, None], xyxy[None]) / area(xyxy)[:, None]
    np.fill_diagonal(fractions, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yolo9k.datasets.tools.crops.NUM_LONGEST", longest)
        covered = is_covered(xyxy, chosen, max_covered)
    assert covered.tolist() == (fractions > max_covered).any(axis=1)[chosen].tolist()


@pytest.mark.parametrize("spread", [1, 1000])
def test_an_image_of_20_000_boxes_is_cropped_within_bounds(spread):
    xy = np.random.default_rng(0).uniform(0, spread, (20_000, 2))
    xyxy = np.concatenate([xy, xy + 10], axis=1).astype(np.float32)
    tracemalloc.start()
    covered = is_covered(xyxy, np.arange(len(xyxy)), 0.3)
    assert tracemalloc.get_traced_memory()[1] < 400e6
    tracemalloc.stop()
    assert covered.mean() > 0.5


@pytest.mark.parametrize("existed", [False, True])
def test_crops_that_are_not_finished_do_not_stay(tmp_path, monkeypatch, existed):
    write_toy(tmp_path / "toy", {"train": 2})
    out = tmp_path / "out"
    if existed:
        out.mkdir()

    def write_one(annotations, folder, *_):
        (folder / "cat").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr("yolo9k.datasets.tools.crops.write_crops", write_one)
    monkeypatch.setattr("sys.argv", ["yolo9k", "data", "make", "crops", str(tmp_path / "toy"), "-o", str(out)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 130
    assert out.exists() == existed
    assert not existed or list(out.iterdir()) == []
