import pytest
import torch

from yolo9k.detection import postprocess
from yolo9k.detection.class_decoder import MultiLabel
from yolo9k.detection.codec import Codec
from yolo9k.detection.postprocess import Candidates, find_candidates, suppress
from yolo9k.detection.thresholds import Thresholds
from yolo9k.wordtree import WordTree

ANCHORS = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
CODEC = Codec(ANCHORS)


class RawMap:
    def geometry(self, features):
        return features[:, :, :5]

    def class_logits(self, features, positions, nodes=None):
        image, anchor, row, column = positions.unbind(1)
        return features[image, anchor, :, row, column][:, 5:]


def flat_decoder(names):
    return tree_decoder(WordTree.flat(names))


def tree_decoder(tree):
    return MultiLabel(tree, "softmax", torch.device("cpu"))


def boxes_of(rows):
    """Rows of (image, left, top, right, bottom, score, label)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 7)
    return Candidates(table[:, 0].long(), table[:, 1:5], table[:, 5], table[:, 6].long())


def kept(rows, iou=0.45, agnostic=False, max_detections=100):
    result = suppress(boxes_of(rows), Thresholds(iou=iou, agnostic=agnostic, max_detections=max_detections))
    scores = [round(score, 4) for score in result.score.tolist()]
    return list(zip(result.image_index.tolist(), scores, result.label.tolist(), strict=True))


def test_candidates_by_hand():
    features = torch.full((2, 2, 7, 2, 3), -20.0)
    features[1, 1, :, 1, 2] = torch.tensor([0.0, 0, 0, 0, 1.3862944, 1.0986123, 0])  # objectness .8, labels 3/4, 1/4
    result = find_candidates(RawMap(), features, CODEC, (96, 64), flat_decoder(["a", "b"]), conf=0.1)
    assert result.image_index.tolist() == [1, 1]
    assert result.label.tolist() == [0, 1]
    assert result.score.tolist() == pytest.approx([0.6, 0.2])
    assert result.xyxy.tolist() == [[48, 16, 112, 80]] * 2
    few = find_candidates(RawMap(), features, CODEC, (96, 64), flat_decoder(["a", "b"]), conf=0.3)
    assert few.label.tolist() == [0]


def test_candidates_of_the_offset_location():
    features = torch.full((1, 2, 6, 2, 3), -20.0)
    features[0, 1, :, 1, 2] = torch.tensor([-1.0, 0.5, 0, 0, 2.0, 0])  # anchor 2 x 2 at (2.5, 1.5) + (-2, 1) cells
    result = find_candidates(RawMap(), features, Codec(ANCHORS, "offset"), (96, 64), flat_decoder(["a"]), conf=0.1)
    assert result.xyxy.tolist() == [[-16, 48, 48, 112]]


def test_the_threshold_is_strict():
    features = torch.zeros(1, 2, 6, 1, 1)  # objectness .5, one label
    decoder = flat_decoder(["a"])
    assert len(find_candidates(RawMap(), features, CODEC, (32, 32), decoder, conf=0.5).score) == 0
    assert len(find_candidates(RawMap(), features, CODEC, (32, 32), decoder, conf=0.49).score) == 2


def test_the_score_of_a_label_in_a_tree_is_objectness_times_path_probability():
    features = torch.full((1, 1, 8, 1, 1), 0.0)
    decoder = tree_decoder(WordTree(tuple("rsx"), tuple("rsx"), (-1, -1, 0)))
    result = find_candidates(RawMap(), features, Codec(ANCHORS[:1]), (32, 32), decoder, conf=0.1)
    assert result.score.tolist() == pytest.approx([0.25, 0.25, 0.25])


SAME = [(0, 0, 0, 10, 10, 0.9, 0), (0, 0, 0, 10, 9, 0.8, 0), (0, 0, 0, 10, 10, 0.7, 1), (1, 0, 0, 10, 10, 0.6, 0)]


def test_nms_per_label_and_image():
    assert kept(SAME) == [(0, 0.9, 0), (0, 0.7, 1), (1, 0.6, 0)]


def test_agnostic_nms():
    assert kept(SAME, agnostic=True) == [(0, 0.9, 0), (1, 0.6, 0)]


def test_a_box_whose_iou_equals_the_threshold_is_kept():
    rows = [(0, 0, 0, 10, 10, 0.9, 0), (0, 0, 0, 10, 5, 0.8, 0)]
    assert len(kept(rows, iou=0.5)) == 2
    assert len(kept(rows, iou=0.49)) == 1


def test_max_detections_counts_per_image():
    rows = [(image, 20 * i, 0, 20 * i + 9, 9, 0.1 * i + 0.05 * image, 0) for image in (0, 1) for i in range(1, 5)]
    assert kept(rows, max_detections=2) == [(1, 0.45, 0), (0, 0.4, 0), (1, 0.35, 0), (0, 0.3, 0)]


def test_no_candidates():
    assert kept([]) == []
    assert kept([], agnostic=True) == []


def test_a_suppressed_box_suppresses_no_others():
    rows = [(0, 0, 0, 10, 10, 0.9, 0), (0, 4, 0, 14, 10, 0.8, 0), (0, 8, 0, 18, 10, 0.7, 0)]
    assert kept(rows, iou=0.4) == [(0, 0.9, 0), (0, 0.7, 0)]


@pytest.mark.parametrize("far", [float("inf"), 1e7])
def test_a_huge_box_does_not_blur_the_others(far):
    # NMS shifts groups by the largest coordinate: in float32, small boxes would become equal.
    rows = [(0, -far, -far, far, far, 0.99, 0)]
    rows += [(1, x, 100, x + 8, 108, 0.9 - 0.01 * x, 50) for x in (0, 4, 8)]
    assert [row[:2] for row in kept(rows, iou=0.3)] == [(0, 0.99), (1, 0.9), (1, 0.82)]


def test_boxes_with_negative_coordinates_do_not_suppress_other_labels():
    rows = [(0, -100, -100, 0, 0, 0.9, 1), (0, -99, -99, 0, 0, 0.8, 0), (0, -100, -100, 1, 1, 0.7, 2)]
    assert len(kept(rows, iou=0.1)) == 3


def test_max_candidates_counts_per_image(monkeypatch):
    monkeypatch.setattr(postprocess, "MAX_CANDIDATES", 2)
    rows = [(0, 20 * i, 0, 20 * i + 9, 9, 0.9 - 0.1 * i, 0) for i in range(4)] + [(1, 0, 0, 9, 9, 0.1, 0)]
    assert [row[:2] for row in kept(rows)] == [(0, 0.9), (0, 0.8), (1, 0.1)]


# roots a, b; children of a: c, d; child of c: e
TREE = WordTree(tuple("abcde"), tuple("abcde"), (-1, -1, 0, 0, 2))
SAME_BOX = (0, 0, 0, 10, 10)


@pytest.mark.parametrize(
    ("labels", "survive"),
    [
        ([4, 0], [4]),  # an ancestor
        ([0, 4], [0]),  # a descendant
        ([2, 3], [2, 3]),  # siblings
        ([1, 0, 4], [1, 0]),  # another branch stays; the descendant of a is suppressed
        ([3, 3], [3]),
    ],
)
def test_in_a_tree_a_label_and_its_ancestors_suppress_each_other(labels, survive):
    rows = [(*SAME_BOX, 0.9 - 0.1 * rank, label) for rank, label in enumerate(labels)]
    spans = torch.from_numpy(TREE.spans)
    result = suppress(boxes_of(rows), Thresholds(), spans=spans)
    assert result.label.tolist() == survive


def test_nms_in_a_tree_and_max_detections_are_per_image():
    rows = [
        (image, left, 0, left + 5, 5, 0.9 - left / 1000 - image / 2000, 4) for image in (0, 1) for left in (0, 20, 40)
    ]
    rows += [(0, 1, 0, 6, 5, 0.5, 0)]  # an ancestor; IoU 2 / 3 with the first
    spans = torch.from_numpy(TREE.spans)
    result = suppress(boxes_of(rows), Thresholds(max_detections=2), spans=spans)
    assert result.image_index.tolist() == [0, 1, 0, 1]
    assert result.xyxy[:, 0].tolist() == [0, 0, 20, 20]
    everything = suppress(boxes_of(rows), Thresholds(iou=0.7), spans=spans)
    assert len(everything.label) == 7


def test_no_candidates_in_a_tree():
    assert len(suppress(boxes_of([]), Thresholds(), spans=torch.from_numpy(TREE.spans)).label) == 0
