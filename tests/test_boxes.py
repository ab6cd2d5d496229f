import numpy as np
import pytest
import torch

from yolo9k import boxes

LIBRARIES = [np.array, torch.tensor]


@pytest.mark.parametrize("array", LIBRARIES)
@pytest.mark.parametrize(
    ("there", "back", "expected"),
    [
        (boxes.xyxy_to_xywh, boxes.xywh_to_xyxy, [1.0, 2.0, 4.0, 6.0]),
        (boxes.xyxy_to_cxcywh, boxes.cxcywh_to_xyxy, [3.0, 5.0, 4.0, 6.0]),
    ],
)
def test_formats_and_back(array, there, back, expected):
    xyxy = array([[1.0, 2.0, 5.0, 8.0]])
    changed = there(xyxy)
    assert type(changed) is type(xyxy)
    assert changed.tolist() == [expected]
    assert back(changed).tolist() == xyxy.tolist()


@pytest.mark.parametrize("array", LIBRARIES)
def test_area_of_crossed_corners_is_zero(array):
    found = boxes.area(array([[0.0, 0.0, 2.0, 3.0], [2.0, 3.0, 0.0, 0.0], [1.0, 1.0, 1.0, 5.0]]))
    assert found.tolist() == [6, 0, 0]


@pytest.mark.parametrize("array", LIBRARIES)
def test_clip_does_not_change_its_argument(array):
    xyxy = array([[-5.0, -5.0, 50.0, 50.0], [20.0, 2.0, 30.0, 4.0]])
    assert boxes.clip(xyxy, (10, 20)).tolist() == [[0, 0, 10, 20], [10, 2, 10, 4]]
    assert xyxy[0, 0] == -5


@pytest.mark.parametrize("array", LIBRARIES)
def test_iou_of_all_pairs(array):
    a = array([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    b = array([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 1.0], [5.0, 5.0, 6.0, 6.0]])
    expected = [[1 / 7, 1 / 2, 0], [0, 0, 0]]
    assert np.allclose(boxes.iou(a[:, None], b[None]), expected)


@pytest.mark.parametrize("array", LIBRARIES)
def test_iou_of_two_empty_boxes_is_zero(array):
    nothing = array([[3.0, 3.0, 3.0, 3.0]])
    assert boxes.iou(nothing, nothing).tolist() == [0]


@pytest.mark.parametrize("array", LIBRARIES)
def test_shape_iou(array):
    assert np.allclose(
        boxes.shape_iou(array([[2.0, 2.0], [1.0, 4.0]]), array([[1.0, 2.0], [2.0, 2.0]])), [1 / 2, 1 / 3]
    )


def test_no_boxes():
    none = np.zeros((0, 4), np.float32)
    for change in (boxes.xyxy_to_xywh, boxes.cxcywh_to_xyxy, lambda b: boxes.clip(b, (4, 4))):
        assert change(none).shape == (0, 4)
    assert boxes.iou(none[:, None], np.ones((1, 3, 4))).shape == (0, 3)
