import pytest
import torch

from yolo9k.boxes import cxcywh_to_xyxy
from yolo9k.detection.assign import GroundTruth, assign, best_overlap

ANCHORS = torch.tensor([[1.0, 1.0], [3.0, 3.0]])
SHAPE = (2, 2, 3, 4)  # images, anchors, rows, columns


def truths(rows, ignore=None):
    """Rows of (image, cx, cy, w, h) in cells; labels count up."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    ignored = torch.zeros(len(table), dtype=torch.bool) if ignore is None else torch.tensor(ignore)
    return GroundTruth(table[:, 0].long(), cxcywh_to_xyxy(table[:, 1:]), torch.arange(len(table)), ignored)


def test_cell_of_the_centre_and_anchor_of_the_shape():
    found = assign(truths([(0, 2.5, 1.9, 1.2, 0.9), (1, 0.1, 0.2, 2, 4)]), ANCHORS, None, SHAPE)
    assert found.positions.tolist() == [[0, 0, 1, 2], [1, 1, 0, 0]]
    assert found.flat.tolist() == [6, ((1 * 2 + 1) * 3 + 0) * 4 + 0]
    assert found.active.all()


def test_the_first_of_two_equal_anchors_wins():
    same = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    assert assign(truths([(0, 1, 1, 1, 1)]), same, None, SHAPE).positions[0, 1] == 0


def test_a_centre_on_the_far_border_belongs_to_the_last_cell():
    found = assign(truths([(0, 4.0, 3.0, 1, 1)]), ANCHORS, None, SHAPE)
    assert found.positions.tolist() == [[0, 0, 2, 3]]


def test_of_two_truths_in_one_box_the_later_wins():
    rows = [(0, 1.2, 1.2, 1, 1), (0, 1.7, 1.1, 1, 1), (0, 1.5, 1.5, 3, 3), (1, 1.5, 1.5, 1, 1)]
    assert assign(truths(rows), ANCHORS, None, SHAPE).active.tolist() == [False, True, True, True]


def test_an_ignored_truth_takes_no_box():
    rows = [(0, 1.2, 1.2, 1, 1), (0, 1.7, 1.1, 1, 1), (0, 2.5, 2.5, 1, 1)]
    found = assign(truths(rows, [False, True, True]), ANCHORS, None, SHAPE)
    assert found.active.tolist() == [True, False, False]


def test_predicted_shapes_may_be_compared_instead():
    predicted = ANCHORS.flip(0)[None, :, None, None].expand(2, 2, 3, 4, 2).clone()
    found = assign(truths([(1, 2.5, 1.5, 1, 1), (1, 0.5, 0.5, 3, 3)]), ANCHORS, predicted, SHAPE)
    assert found.positions[:, 1].tolist() == [1, 0]
    predicted[1, :, 1, 2] = ANCHORS  # of that cell only
    assert assign(truths([(1, 2.5, 1.5, 1, 1)]), ANCHORS, predicted, SHAPE).positions[0, 1] == 0


def test_no_truths():
    nothing = truths([])
    found = assign(nothing, ANCHORS, None, SHAPE)
    assert found.positions.shape == (0, 4)
    assert found.active.shape == (0,)
    assert (best_overlap(nothing, torch.rand(2, 5, 4)) == 0).all()


def test_best_overlap_stays_inside_the_image():
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3]]).expand(2, 2, 4)
    found = best_overlap(truths([(1, 1, 1, 2, 2), (1, 1, 0.5, 2, 1)]), boxes)
    assert found[0].tolist() == [0, 0]
    assert found[1].tolist() == pytest.approx([1, 1 / 7])


def test_overlap_with_an_ignored_truth_is_the_share_inside():
    boxes = torch.tensor([[[0.0, 0, 1, 1], [9, 0, 11, 1], [20, 20, 21, 21]]])
    crowd = truths([(0, 5, 5, 10, 10)], [True])
    assert best_overlap(crowd, boxes)[0].tolist() == pytest.approx([1, 0.5, 0])
