import numpy as np
import pytest

from yolo9k.config import load_dataset_config
from yolo9k.datasets.joint import read_training
from yolo9k.datasets.load import read_annotations
from yolo9k.demo.toy import COLOURS
from yolo9k.demo.toy_joint import COARSE_CLASSES, FINE_CLASSES, write_toy_joint
from yolo9k.errors import MachineError
from yolo9k.wordtree.taxonomy import open_tree

SIZES = {"scenes": 6, "singles": 2, "tests": 4, "side_px": 96}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return write_toy_joint(tmp_path_factory.mktemp("toy"), **SIZES, seed=3)


def test_boxes_have_coarse_labels_and_single_objects_fine_ones(toy):
    training = read_training(toy.joint)
    tree = training.labels
    assert len(tree) == len(COARSE_CLASSES) + sum(map(len, COARSE_CLASSES.values())) + len(FINE_CLASSES)
    supervision = training.supervision()
    assert {tree.names[node] for node in supervision.boxes} <= set(COARSE_CLASSES)
    assert [tree.names[node] for node in supervision.images] == [
        f"{colour} {shape}" for shapes in COARSE_CLASSES.values() for shape in shapes for colour in COLOURS
    ]
    assert [len(source.read.records) for source in training.sources] == [6, 2 * len(FINE_CLASSES)]
    assert training.errors == ()


def test_the_upper_bound_has_the_same_images_with_fine_labels(toy, tmp_path):
    full = write_toy_joint(tmp_path, **SIZES, seed=3, all_boxes=True)
    coarse, fine = read_training(toy.joint), read_training(full.joint)
    for one, other in zip(coarse.box_records, fine.box_records, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        assert np.array_equal(one.boxes.xyxy, other.boxes.xyxy)
        roots = [fine.labels.path(int(label))[-1] for label in other.boxes.label]
        assert [fine.labels.names[root] for root in roots] == [coarse.labels.names[n] for n in one.boxes.label]
    assert len(fine.sources) == 1
    assert fine.supervision().boxes == tuple(
        sorted({int(n) for record in fine.box_records for n in record.boxes.label})
    )


def test_test_images_have_fine_labels(toy):
    read = read_annotations(toy.test, "test")
    assert len(read.records) == 4
    assert read.errors == ()
    assert all(read.labels.leaves[label] for record in read.records for label in record.boxes.label)


def test_configs_are_written_too(toy):
    folder = toy.taxonomy.parent
    assert load_dataset_config(folder / "joint.yaml") == toy.joint
    assert load_dataset_config(folder / "test.yaml") == toy.test
    assert open_tree(toy.taxonomy).find("red star") == open_tree(toy.taxonomy).find("red_star")


def test_names_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="file: cannot be written"):
        write_toy_joint(tmp_path / "file", **SIZES)
