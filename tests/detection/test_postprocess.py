import pytest
import torch

from yolo9k.detection import postprocess
from yolo9k.detection.class_decoder import MultiLabel
from yolo9k.detection.codec import Codec
from yolo9k.detection.postprocess import Candidates, candidates, suppress
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


def every(names):
    return every_of(WordTree.flat(names))


def every_of(tree):
    return MultiLabel(tree, "softmax", torch.device("cpu"))


def found(rows):
    """Rows of (image, left, top, right, bottom, score, label)."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 7)
    return Candidates(table[:, 0].long(), table[:, 1:5], table[:, 5], table[:, 6].long())


def kept(rows, iou=0.45, agnostic=False, most=100):
    result = suppress(found(rows), Thresholds(iou=iou, agnostic=agnostic, max_detections=most))
    scores = [round(score, 4) for score in result.score.tolist()]
    return list(zip(result.image_index.tolist(), scores, result.label.tolist(), strict=True))


def test_candidates_by_hand():
    features = torch.full((2, 2, 7, 2, 3), -20.0)
    features[1, 1, :, 1, 2] = torch.tensor([0.0, 0, 0, 0, 1.3862944, 1.0986123, 0])  # objectness .8, labels 3/4, 1/4
    result = candidates(RawMap(), features, CODEC, (96, 64), every(["a", "b"]), conf=0.1)
    assert result.image_index.tolist() == [1, 1]
    assert result.label.tolist() == [0, 1]
    assert result.score.tolist() == pytest.approx([0.6, 0.2])
    assert result.xyxy.tolist() == [[48, 16, 112, 80]] * 2
    few = candidates(RawMap(), features, CODEC, (96, 64), every(["a", "b"]), conf=0.3)
    assert few.label.tolist() == [0]


def test_candidates_of_offsets_lie_where_these_say():
    features = torch.full((1, 2, 6, 2, 3), -20.0)
    features[0, 1, :, 1, 2] = torch.tensor([-1.0, 0.5, 0, 0, 2.0, 0])  # anchor 2 x 2 at (2.5, 1.5) + (-2, 1) cells
    result = candidates(RawMap(), features, Codec(ANCHORS, "offset"), (96, 64), every(["a"]), conf=0.1)
    assert result.xyxy.tolist() == [[-16, 48, 48, 112]]


def test_the_threshold_is_strict():
    features = torch.zeros(1, 2, 6, 1, 1)  # objectness .5, one label
    scores = every(["a"])
    assert len(candidates(RawMap(), features, CODEC, (32, 32), scores, conf=0.5).score) == 0
    assert len(candidates(RawMap(), features, CODEC, (32, 32), scores, conf=0.49).score) == 2


def test_a_label_of_a_tree_is_scored_by_its_path():
    features = torch.full((1, 1, 8, 1, 1), 0.0)
    scores = every_of(WordTree(tuple("rsx"), tuple("rsx"), (-1, -1, 0)))
    result = candidates(RawMap(), features, Codec(ANCHORS[:1]), (32, 32), scores, conf=0.1)
    assert result.score.tolist() == pytest.approx([0.25, 0.25, 0.25])


SAME = [(0, 0, 0, 10, 10, 0.9, 0), (0, 0, 0, 10, 9, 0.8, 0), (0, 0, 0, 10, 10, 0.7, 1), (1, 0, 0, 10, 10, 0.6, 0)]


def test_suppression_inside_label_and_image():
    assert kept(SAME) == [(0, 0.9, 0), (0, 0.7, 1), (1, 0.6, 0)]


def test_agnostic_suppression():
    assert kept(SAME, agnostic=True) == [(0, 0.9, 0), (1, 0.6, 0)]


def test_an_overlap_that_equals_the_threshold_is_kept():
    rows = [(0, 0, 0, 10, 10, 0.9, 0), (0, 0, 0, 10, 5, 0.8, 0)]
    assert len(kept(rows, iou=0.5)) == 2
    assert len(kept(rows, iou=0.49)) == 1


def test_most_detections_of_each_image():
    rows = [(image, 20 * i, 0, 20 * i + 9, 9, 0.1 * i + 0.05 * image, 0) for image in (0, 1) for i in range(1, 5)]
    assert kept(rows, most=2) == [(1, 0.45, 0), (0, 0.4, 0), (1, 0.35, 0), (0, 0.3, 0)]


def test_nothing_found():
    assert kept([]) == []
    assert kept([], agnostic=True) == []


def test_a_suppressed_box_suppresses_nothing():
    rows = [(0, 0, 0, 10, 10, 0.9, 0), (0, 4, 0, 14, 10, 0.8, 0), (0, 8, 0, 18, 10, 0.7, 0)]
    assert kept(rows, iou=0.4) == [(0, 0.9, 0), (0, 0.7, 0)]


@pytest.mark.parametrize("far", [float("inf"), 1e7])
def test_a_huge_box_does_not_blur_the_others(far):
    # Groups are kept apart by the largest coordinate: in float32 small boxes would melt together.
    rows = [(0, -far, -far, far, far, 0.99, 0)]
    rows += [(1, x, 100, x + 8, 108, 0.9 - 0.01 * x, 50) for x in (0, 4, 8)]
    assert [row[:2] for row in kept(rows, iou=0.3)] == [(0, 0.99), (1, 0.9), (1, 0.82)]


def test_boxes_left_of_the_image_stay_in_their_label():
    rows = [(0, -100, -100, 0, 0, 0.9, 1), (0, -99, -99, 0, 0, 0.8, 0), (0, -100, -100, 1, 1, 0.7, 2)]
    assert len(kept(rows, iou=0.1)) == 3


def test_the_number_of_candidates_is_limited_in_each_image(monkeypatch):
    monkeypatch.setattr(postprocess, "MAX_CANDIDATES", 2)
    rows = [(0, 20 * i, 0, 20 * i + 9, 9, 0.9 - 0.1 * i, 0) for i in range(4)] + [(1, 0, 0, 9, 9, 0.1, 0)]
    assert [row[:2] for row in kept(rows)] == [(0, 0.9), (0, 0.8), (1, 0.1)]


# roots a, b; below a: c, d; below c: e
TREE = WordTree(tuple("abcde"), tuple("abcde"), (-1, -1, 0, 0, 2))
PLACE = (0, 0, 0, 10, 10)


@pytest.mark.parametrize(
    ("labels", "survive"),
    [
        ([4, 0], [4]),  # an ancestor
        ([0, 4], [0]),  # a descendant
        ([2, 3], [2, 3]),  # siblings
        ([1, 0, 4], [1, 0]),  # another branch stays, the lineage of a goes
        ([3, 3], [3]),
    ],
)
def test_in_a_tree_a_label_and_its_ancestors_suppress_each_other(labels, survive):
    rows = [(*PLACE, 0.9 - 0.1 * place, label) for place, label in enumerate(labels)]
    spans = torch.from_numpy(TREE.spans)
    result = suppress(found(rows), Thresholds(), spans=spans)
    assert result.label.tolist() == survive


def test_suppression_in_a_tree_keeps_images_apart_and_counts_them():
    rows = [
        (image, left, 0, left + 5, 5, 0.9 - left / 1000 - image / 2000, 4) for image in (0, 1) for left in (0, 20, 40)
    ]
    rows += [(0, 1, 0, 6, 5, 0.5, 0)]  # overlaps the first, but a third of it only
    spans = torch.from_numpy(TREE.spans)
    result = suppress(found(rows), Thresholds(max_detections=2), spans=spans)
    assert result.image_index.tolist() == [0, 1, 0, 1]
    assert result.xyxy[:, 0].tolist() == [0, 0, 20, 20]
    everything = suppress(found(rows), Thresholds(iou=0.7), spans=spans)
    assert len(everything.label) == 7
