import numpy as np
import pytest
from PIL import Image

from yolo9k.config import DatasetConfig
from yolo9k.datasets.tools.check import check_dataset
from yolo9k.datasets.tools.check_plots import image_mosaic, pick_evenly, plot_dataset
from yolo9k.errors import DataError, MachineError


@pytest.fixture
def report(tmp_path):
    Image.new("RGB", (40, 20), (200, 30, 30)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 .5 .5 .5 .5")
    splits = {"train": (".",)}
    return check_dataset(DatasetConfig(kind="yolo", root=str(tmp_path), splits=splits, labels=("cat", "dog")))


def test_plots_are_written(report, tmp_path):
    paths = plot_dataset(report, tmp_path / "plots")
    assert [path.name for path in paths] == ["classes.png", "box-sizes.png", "images.jpg"]
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) > 200


def test_a_data_set_without_boxes_can_be_plotted(report, tmp_path):
    (tmp_path / "a.txt").write_text("")
    config = DatasetConfig(kind="yolo", root=str(tmp_path), splits={"train": (".",)}, labels=("cat",))
    plot_dataset(check_dataset(config), tmp_path / "plots")


def test_a_folder_that_cannot_be_written(report, tmp_path):
    (tmp_path / "plots").write_text("a file")
    with pytest.raises(MachineError, match=r"classes.png: the plot cannot be written"):
        plot_dataset(report, tmp_path / "plots")


def test_mosaic_needs_a_readable_image(report, tmp_path):
    records = report.annotations["train"].records
    assert image_mosaic(records, report.labels).dtype == np.uint8
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(DataError, match="none of the images can be read"):
        image_mosaic(records, report.labels)


def test_pick_evenly_includes_first_and_last():
    assert pick_evenly(list(range(10)), 4) == [0, 3, 6, 9]
    assert pick_evenly([1, 2], 12) == [1, 2]
