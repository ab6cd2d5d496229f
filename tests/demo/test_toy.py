import numpy as np
import pytest
from toy_data import write_toy

from yolo9k.datasets.load import read_annotations
from yolo9k.demo.toy import COLOURS, DIAMETERS, FILLS, SHAPES, draw_scene

SPLITS = {"train": 6, "test": 3}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    return folder, write_toy(folder, SPLITS, side_px=128, seed=3)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_reads_back_without_errors(toy):
    _, config = toy
    for split, count in SPLITS.items():
        read = read_annotations(config, split)
        assert len(read.records) == count
        assert read.errors == ()
        assert read.labels.names == tuple(SHAPES)


def test_boxes_and_labels_are_those_of_the_scene(toy):
    _, config = toy
    record = sorted(read_annotations(config, "train").records, key=lambda r: str(r.path))[2]
    scene = draw_scene(np.random.default_rng([3, 0, 2]), 128)
    assert np.allclose(record.boxes.xyxy, [item.xyxy for item in scene.objects], atol=1e-3)
    assert [tuple(SHAPES)[label] for label in record.boxes.label] == [item.shape for item in scene.objects]


def test_files_depend_on_the_seed_only(toy, tmp_path):
    folder, _ = toy
    write_toy(tmp_path / "again", SPLITS, side_px=128, seed=3)
    write_toy(tmp_path / "other", SPLITS, side_px=128, seed=4)
    assert contents(tmp_path / "again") == contents(folder)
    assert contents(tmp_path / "other") != contents(folder)


def test_scenes_are_varied_and_in_range():
    scenes = [draw_scene(np.random.default_rng([1, i]), 128) for i in range(60)]
    objects = [item for scene in scenes for item in scene.objects]
    assert {item.shape for item in objects} == set(SHAPES)
    assert {item.fill for item in objects} == set(FILLS)
    assert {item.colour for item in objects} == set(COLOURS)
    assert all(scene.objects for scene in scenes)
    boxes = np.array([item.xyxy for item in objects])
    assert boxes.min() >= 0
    assert boxes.max() <= 128
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / 128
    assert sides.min() > DIAMETERS[0] / 2  # a triangle is smaller than its circle, a quarter may be covered
    assert sides.max() < DIAMETERS[1] * 1.25


def test_boxes_are_tight(monkeypatch):
    monkeypatch.setattr("yolo9k.demo.toy._draw_background", lambda rng, side, colour: np.zeros((side, side, 3)))
    monkeypatch.setattr("yolo9k.demo.toy._add_clutter", lambda rng, image: image.astype(np.float32))
    monkeypatch.setattr("yolo9k.demo.toy.FILLS", {"white": lambda rng, side, colour: np.full((side, side, 3), 255)})
    scene = draw_scene(np.random.default_rng(0), 128, max_objects=1)
    rows, columns = np.nonzero(scene.image.min(axis=2) > 127)
    drawn = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert np.allclose(scene.objects[0].xyxy, drawn, atol=1)
