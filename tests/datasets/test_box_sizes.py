from pathlib import Path

import numpy as np
import pytest

from yolo9k.datasets.box_sizes import fitted_sizes
from yolo9k.datasets.readers.records import Record
from yolo9k.errors import DataError
from yolo9k.samples import BoxLabels


def record(xyxy, ignore, size_wh=(640, 480)):
    return Record(Path("a.jpg"), size_wh, BoxLabels.of(xyxy, [0] * len(xyxy), ignore), "a")


def test_sizes_are_those_of_the_letterboxed_image():
    boxes = [[0, 0, 64, 32], [10, 10, 20, 20]]  # 640x480 on 320x320 is scaled by 1/2; the second is ignored
    assert fitted_sizes([record(boxes, [False, True])], (320, 320), 32).tolist() == [[1, 0.5]]


def test_no_boxes_is_an_error():
    for records in ([], [record([[0, 0, 9, 9]], [True])]):
        with pytest.raises(DataError, match="no box in"):
            fitted_sizes(records, (416, 416), 32)


def test_images_without_boxes_do_not_matter():
    sizes = fitted_sizes([record([], []), record([[0, 0, 64, 64]], [False])], (640, 640), 32)
    assert np.array_equal(sizes, [[2, 2]])
