import time

import numpy as np
import pytest
from PIL import Image

from yolo9k.datasets.readers import sizes
from yolo9k.datasets.readers.records import BadFile, IssueCollector, Record
from yolo9k.datasets.readers.sizes import match_sizes
from yolo9k.images import read_image
from yolo9k.samples import BoxLabels

STORED_WH, BOX = (48, 32), (6, 4, 26, 14)


def record(path, size_wh, box=BOX):
    return Record(path, size_wh, BoxLabels.of([box], [0]), "a")


def save(path, orientation=1):
    """Save a black image with a white box, with an EXIF orientation."""
    image = np.zeros((STORED_WH[1], STORED_WH[0], 3), np.uint8)
    image[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(path, exif=exif)
    return path


def white_box(image):
    rows, columns = np.nonzero(image[..., 0] > 128)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_of_the_stored_image_are_turned_to_the_upright_one(tmp_path, orientation):
    path = save(tmp_path / "a.png", orientation)
    issues = IssueCollector()
    (turned,) = match_sizes([record(path, STORED_WH)], issues)
    image = read_image(path)
    assert turned.size_wh == (32, 48) == (image.shape[1], image.shape[0])
    assert turned.boxes.xyxy.tolist() == [white_box(image)]
    assert "1 of 1 images have another size than annotated" in issues.warnings[0].message


@pytest.mark.parametrize("factor", [2, 0.5, 3.7])
@pytest.mark.parametrize("orientation", [1, 6])
def test_boxes_are_scaled_to_the_real_size(tmp_path, factor, orientation):
    path = save(tmp_path / "a.png", orientation)
    box = [side * factor for side in BOX]
    size_wh = (round(48 * factor), round(32 * factor))
    (scaled,) = match_sizes([record(path, size_wh, box)], IssueCollector())
    np.testing.assert_allclose(scaled.boxes.xyxy, [white_box(read_image(path))], atol=0.3)


def test_annotations_of_the_upright_image_stay(tmp_path):
    upright = record(save(tmp_path / "a.png", 6), (32, 48))
    issues = IssueCollector()
    assert match_sizes([upright], issues) == [upright]
    assert not issues.warnings


@pytest.mark.parametrize("size_wh", [(32, 48), (48, 48), (640, 480)])
def test_another_aspect_ratio_is_an_error(tmp_path, size_wh):
    path = save(tmp_path / "a.png")
    with pytest.raises(BadFile, match=rf"a.png: is 48x32, but annotated as {size_wh[0]}x{size_wh[1]}"):
        match_sizes([record(path, size_wh)], IssueCollector())
    issues = IssueCollector("skip")
    assert match_sizes([record(path, size_wh)], issues) == []
    assert [issue.kind for issue in issues.errors] == ["wrong size"]


def test_the_first_error_does_not_wait_for_all_headers(tmp_path, monkeypatch):
    read = []

    def read_slowly(path):
        read.append(path)
        time.sleep(0.01)
        return 10, 99

    monkeypatch.setattr(sizes, "read_image_size_wh", read_slowly)
    path = save(tmp_path / "a.png")
    with pytest.raises(BadFile, match="is 10x99, but annotated as 64x64"):
        match_sizes([record(path, (64, 64))] * 1000, IssueCollector(), all_sizes=True)
    assert len(read) < 100
