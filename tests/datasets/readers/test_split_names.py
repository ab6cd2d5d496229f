import pytest

from yolo9k.datasets.readers.split_names import differ_in_split, split_of, split_of_path


@pytest.mark.parametrize(
    ("name", "split"),
    [("train", "train"), ("Train2017", "train"), ("training_set", "train"), ("TrainImages", "train"), ("valid", "val"),
     ("validation", "val"), ("eval", "val"), ("dev", "val"), ("hold-out", "val"), ("holdout", "val"), ("test", "test"),
     ("instances_val2017", "val"), ("aeroplane_train", "train"), ("2007_test", "test"), ("trainers", None),
     ("contest", None), ("latest", None), ("values", None), ("cells", None), ("device", None), ("test_val", "val")],
)  # fmt: skip
def test_split_of(name, split):
    assert split_of(name) == split


def test_the_last_part_with_a_split_decides():
    assert split_of_path("train/valid/images") == "val"
    assert split_of_path("my-test/train") == "train"
    assert split_of_path("images/all") is None


def test_names_that_differ_in_their_split_alone():
    for name, other in (("train", "valid"), ("train2017", "val2014"), ("train_images", "val_images"), ("Train", "dev")):
        assert differ_in_split(name, other)
    for name, other in (
        ("train", "training"),
        ("my_test_project", "train"),
        ("train_images", "val_masks"),
        ("a", "val"),
    ):
        assert not differ_in_split(name, other)
