import pytest
import torch

from yolo9k.boxes import cxcywh_to_xyxy
from yolo9k.detection.assign import GroundTruth, assign, max_overlap
from yolo9k.detection.codec import Codec
from yolo9k.samples import Batch

ANCHORS = torch.tensor([[1.0, 1.0], [3.0, 3.0]])
SHAPE = (2, 2, 3, 4)  # images, anchors, rows, columns


def ground_truth(rows, ignore=None):
    """Rows of (image, cx, cy, w, h) in cells; labels count up."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)
    ignored = torch.zeros(len(table), dtype=torch.bool) if ignore is None else torch.tensor(ignore)
    return GroundTruth(table[:, 0].long(), cxcywh_to_xyxy(table[:, 1:]), torch.arange(len(table)), ignored)


def decoded(anchors=ANCHORS):
    """Predicted boxes with the shape of their anchor, in the middle of their cell."""
    images, _, rows, columns = SHAPE
    return Codec(anchors).decode(torch.zeros(images, len(anchors), 5, rows, columns))


def assigned(targets, anchors=ANCHORS, boxes=None, **options):
    return assign(targets, boxes or decoded(anchors), anchors, **{"ignore_iou": 0.6, **options})


def test_cell_of_the_centre_and_anchor_of_the_shape():
    assignment = assigned(ground_truth([(0, 2.5, 1.9, 1.2, 0.9), (1, 0.1, 0.2, 2, 4)]))
    assert assignment.positions.tolist() == [[0, 0, 1, 2], [1, 1, 0, 0]]
    assert assignment.flat_index.tolist() == [6, ((1 * 2 + 1) * 3 + 0) * 4 + 0]
    assert assignment.active.all()


def test_the_first_of_two_equal_anchors_wins():
    equal = torch.tensor([[2.0, 1.0], [1.0, 2.0]])
    assert assigned(ground_truth([(0, 1, 1, 1, 1)]), equal).positions[0, 1] == 0


def test_a_centre_on_the_bottom_right_border_belongs_to_the_last_cell():
    assert assigned(ground_truth([(0, 4.0, 3.0, 1, 1)])).positions.tolist() == [[0, 0, 2, 3]]


def test_if_ground_truths_share_a_predicted_box_the_last_one_is_kept():
    rows = [(0, 1.2, 1.2, 1, 1), (0, 1.7, 1.1, 1, 1), (0, 1.5, 1.5, 3, 3), (1, 1.5, 1.5, 1, 1)]
    assert assigned(ground_truth(rows)).active.tolist() == [False, True, True, True]


def test_ignored_ground_truth_is_not_assigned():
    rows = [(0, 1.2, 1.2, 1, 1), (0, 1.7, 1.1, 1, 1), (0, 2.5, 2.5, 1, 1)]
    assignment = assigned(ground_truth(rows, [False, True, True]))
    assert assignment.active.tolist() == [True, False, False]
    assert assignment.positive.nonzero().tolist() == [[0, 0, 1, 1]]


def test_without_bias_match_predicted_shapes_are_compared():
    flipped = decoded(ANCHORS.flip(0))
    targets = ground_truth([(1, 2.5, 1.5, 1, 1), (1, 0.5, 0.5, 3, 3)])
    assert assigned(targets, boxes=flipped).positions[:, 1].tolist() == [0, 1]
    assert assigned(targets, boxes=flipped, bias_match=False).positions[:, 1].tolist() == [1, 0]
    flipped.w[1, :, 1, 2] = flipped.h[1, :, 1, 2] = ANCHORS[:, 0]  # only in that cell
    assert assigned(targets, boxes=flipped, bias_match=False).positions[:, 1].tolist() == [0, 0]


def test_each_predicted_box_is_positive_ignored_or_negative():
    # The ground truth fits anchor 0 of cell (row 1, column 2) and covers 1 / 9 of anchor 1 there.
    assignment = assigned(ground_truth([(0, 2.5, 1.5, 1, 1)]), ignore_iou=0.1)
    assert assignment.positive.nonzero().tolist() == [[0, 0, 1, 2]]
    # anchor 1, three cells wide and high, contains it in every cell around, too: IoU 1 / 9
    around = [[0, 1, row, column] for row in (0, 1, 2) for column in (1, 2, 3)]
    assert assignment.ignored.nonzero().tolist() == around
    masks = torch.stack([assignment.positive, assignment.ignored, assignment.negative])
    assert (masks.sum(0) == 1).all()
    assert torch.equal(assignment.anchored, ~assignment.positive)
    strict = assigned(ground_truth([(0, 2.5, 1.5, 1, 1)]), ignore_iou=0.2)
    assert not strict.ignored.any()


@pytest.mark.parametrize(("mode", "others_are_negative"), [("paper", False), ("darknet", True)])
def test_image_labels_return_new_masks(mode, others_are_negative):
    before = assigned(ground_truth([(0, 2.5, 1.5, 1, 1)]))
    best_box = torch.tensor([24 + 5])  # image 1, anchor 0, row 1, column 1
    after = before.with_image_labels(torch.tensor([1]), best_box, mode)
    assert torch.equal(after.negative[0], before.negative[0])
    assert torch.equal(after.anchored[0], before.anchored[0])
    is_best = torch.zeros(2, 3, 4, dtype=torch.bool)
    is_best[0, 1, 1] = True
    assert torch.equal(after.negative[1], ~is_best & others_are_negative)
    assert torch.equal(after.ignored[1], ~after.negative[1])
    assert not after.anchored[1].any()
    assert before.negative[1].all()  # unchanged
    assert before.anchored[1].all()


def test_without_image_labels_the_masks_stay_the_same():
    none = torch.zeros(0, dtype=torch.int64)
    before = assigned(ground_truth([(0, 2.5, 1.5, 1, 1), (1, 0.5, 0.5, 3, 3)]), ignore_iou=0.1)
    after = before.with_image_labels(none, none, "darknet")
    for name in ("positive", "ignored", "negative", "anchored"):
        assert torch.equal(getattr(after, name), getattr(before, name))


def test_no_ground_truth():
    assignment = assigned(ground_truth([]))
    assert assignment.positions.shape == (0, 4)
    assert assignment.active.shape == (0,)
    assert assignment.negative.all()
    assert (max_overlap(ground_truth([]), torch.rand(2, 5, 4)) == 0).all()


def test_ground_truth_of_a_batch_is_in_cells():
    none = torch.zeros(0, dtype=torch.int64)
    one = torch.tensor([1])
    xyxy = torch.tensor([[32.0, 32, 64, 96]])
    batch = Batch(torch.zeros(2, 3, 96, 128), one, xyxy, one, torch.tensor([False]), none, none)
    assert GroundTruth.of(batch, decoded()).xyxy.tolist() == [[1, 1, 2, 3]]


def test_overlaps_are_computed_per_image():
    boxes = torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3]]).expand(2, 2, 4)
    overlap = max_overlap(ground_truth([(1, 1, 1, 2, 2), (1, 1, 0.5, 2, 1)]), boxes)
    assert overlap[0].tolist() == [0, 0]
    assert overlap[1].tolist() == pytest.approx([1, 1 / 7])


def test_overlap_with_ignored_ground_truth_is_the_fraction_inside():
    boxes = torch.tensor([[[0.0, 0, 1, 1], [9, 0, 11, 1], [20, 20, 21, 21]]])
    crowd = ground_truth([(0, 5, 5, 10, 10)], [True])
    assert max_overlap(crowd, boxes)[0].tolist() == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize("max_pairs", [1, 50, 1 << 21])
def test_overlaps_in_parts_are_those_at_once(monkeypatch, max_pairs):
    corners = torch.rand(30, 2) * 8
    targets = GroundTruth(
        torch.randint(3, (30,)), torch.cat([corners, corners + torch.rand(30, 2) * 4], 1), torch.zeros(30).long(),
        torch.rand(30) < 0.3,
    )  # fmt: skip
    centres = torch.rand(3, 20, 2) * 8
    boxes = torch.cat([centres, centres + torch.rand(3, 20, 2) * 4], dim=2)
    each = torch.zeros(3, 20)
    for row in range(30):
        one = GroundTruth(*(field[row : row + 1] for field in vars(targets).values()))
        each = torch.maximum(each, max_overlap(one, boxes))
    monkeypatch.setattr("yolo9k.detection.assign.MAX_PAIRS", max_pairs)
    assert torch.equal(max_overlap(targets, boxes), each)
