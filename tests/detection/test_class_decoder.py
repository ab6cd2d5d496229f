import pytest
import torch

from yolo9k.detection.class_decoder import BestLabel, HierarchicalDescent, MultiLabel
from yolo9k.models.head import AnchorHead
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

B, A, C, H, W = 2, 3, 8, 3, 4
CPU = torch.device("cpu")


class Scene:
    """Predicted boxes over a label tree, with the logits and probabilities of all labels to compare with."""

    def __init__(self, tree, seed=0):
        torch.manual_seed(seed)
        self.tree, self.head, self.scores = tree, AnchorHead(C, A, len(tree)), HierarchicalSoftmax(tree)
        self.features = torch.randn(B, C, H, W) * 8
        grid = torch.meshgrid(*map(torch.arange, (B, A, H, W)), indexing="ij")
        self.positions = torch.stack([axis.flatten() for axis in grid], dim=1)[::2]
        self.objectness = torch.rand(len(self.positions))
        self.logits = self.head.class_logits(self.features, self.positions)
        self.probability = self.scores.absolute(self.logits).exp()

    @torch.no_grad()
    def decode(self, class_decoder, conf=0.0):
        return class_decoder(self.head, self.features, self.positions, self.objectness, conf)


@pytest.fixture(params=range(5))
def scene(request, random_tree):
    return Scene(random_tree(request.param), request.param)


def test_multi_label_returns_every_label_above_the_threshold(scene):
    decoded = scene.decode(MultiLabel(scene.tree, "softmax", CPU), conf=0.2)
    score = scene.objectness[:, None] * scene.probability
    box, label = (score > 0.2).nonzero().unbind(1)
    assert torch.equal(decoded.box, box)
    assert torch.equal(decoded.label, label)
    assert torch.allclose(decoded.score, score[box, label], atol=1e-6)


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_rows_that_cannot_enter_nms_are_dropped_without_another_effect(scene, limit, monkeypatch):
    decoder = MultiLabel(scene.tree, "softmax", CPU)
    every = scene.decode(decoder)
    for name, value in (("MAX_LOGITS", 3 * len(scene.tree)), ("MAX_ROWS", 5), ("MAX_CANDIDATES", limit)):
        monkeypatch.setattr(f"yolo9k.detection.class_decoder.{name}", value)
    few = scene.decode(decoder)
    for image in range(B):
        rows = []
        for decoded in (every, few):
            own = [row for row in range(len(decoded.box)) if scene.positions[decoded.box[row], 0] == image]
            best = sorted(own, key=lambda row: -decoded.score[row])[:limit]
            rows.append([(int(decoded.box[row]), int(decoded.label[row])) for row in best])
        assert rows[0] == rows[1]
    assert limit > 7 or len(few.box) < len(every.box)


def test_requested_nodes_have_the_same_scores_as_among_all_nodes(scene):
    nodes = list(range(len(scene.tree)))[::3][::-1]
    decoded = scene.decode(MultiLabel(scene.tree, "softmax", CPU, nodes))
    assert len(decoded.box) == len(scene.positions) * len(nodes)
    expected = scene.objectness * scene.probability[:, nodes].t()
    actual = torch.stack([decoded.score[decoded.label == node] for node in nodes])
    assert torch.allclose(actual, expected, atol=1e-6)


def test_best_label_returns_the_most_probable_leaf(scene):
    leaves = [node for node in range(len(scene.tree)) if scene.tree.leaves[node]]
    decoded = scene.decode(BestLabel(scene.tree, CPU, leaves))
    best = torch.where(torch.from_numpy(scene.tree.leaves), scene.probability, -1).max(1)
    assert torch.equal(decoded.label, best.indices)
    assert torch.allclose(decoded.score, scene.objectness * best.values, atol=1e-6)
    check_paths(scene, decoded)


def check_paths(scene, decoded):
    """Check that each path holds the absolute probabilities of the label and its ancestors, then NaN."""
    for box, label, path in zip(decoded.box, decoded.label.tolist(), decoded.path, strict=True):
        nodes = scene.tree.path(label)[::-1]
        assert torch.allclose(path[: len(nodes)], scene.probability[box, nodes], atol=1e-5)
        assert path[len(nodes) :].isnan().all()


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("rule", ["paper", "darknet"])
def test_descent_by_groups_equals_the_descent_on_all_probabilities(scene, rule, threshold):
    decoded = scene.decode(HierarchicalDescent(scene.tree, scene.scores, threshold, rule))
    dense = scene.scores.conditional(scene.logits).exp() if rule == "paper" else scene.probability
    assert torch.equal(decoded.label, scene.scores.descend(dense, threshold))
    of_label = scene.probability[torch.arange(len(decoded.label)), decoded.label]
    score = scene.objectness if rule == "darknet" else scene.objectness * of_label
    assert torch.allclose(decoded.score, score, atol=1e-6)
    check_paths(scene, decoded)


def test_a_score_must_be_above_the_confidence_threshold(scene):
    decoders = (
        HierarchicalDescent(scene.tree, scene.scores, 0.5),
        BestLabel(scene.tree, CPU, range(len(scene.tree))),
        MultiLabel(scene.tree, "softmax", CPU),
    )
    for decoder in decoders:
        highest = scene.decode(decoder).score.max().item()
        assert len(scene.decode(decoder, conf=highest).box) == 0
        assert len(scene.decode(decoder, conf=highest - 1e-6).box) > 0


def test_descent_under_some_nodes_returns_only_them_and_their_descendants(scene):
    starts = [0, len(scene.tree) // 2]
    allowed = {node for start in starts for node in scene.tree.subtree(start)}
    decoded = scene.decode(HierarchicalDescent(scene.tree, scene.scores, 0.1, under=starts))
    assert set(decoded.label.tolist()) <= allowed
    of_label = scene.probability[torch.arange(len(decoded.label)), decoded.label]
    assert torch.allclose(decoded.score, scene.objectness * of_label, atol=1e-6)
    check_paths(scene, decoded)


def test_no_boxes(scene):
    scene.positions, scene.objectness = scene.positions[:0], scene.objectness[:0]
    leaves = [node for node in range(len(scene.tree)) if scene.tree.leaves[node]]
    for class_decoder in (
        MultiLabel(scene.tree, "softmax", CPU),
        BestLabel(scene.tree, CPU, leaves),
        HierarchicalDescent(scene.tree, scene.scores, 0.5),
    ):
        decoded = scene.decode(class_decoder)
        assert len(decoded.box) == len(decoded.label) == len(decoded.score) == 0


def test_flat_labels_are_a_plain_softmax():
    scene = Scene(WordTree.flat(["a", "b", "c"]))
    decoded = scene.decode(MultiLabel(scene.tree, "softmax", CPU))
    assert torch.allclose(decoded.score, (scene.objectness[:, None] * scene.logits.softmax(1)).flatten(), atol=1e-6)
