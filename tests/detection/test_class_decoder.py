import pytest
import torch

from yolo9k.detection.class_decoder import BestLabel, HierarchicalDescent, MultiLabel
from yolo9k.models.head import AnchorHead
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

B, A, C, H, W = 2, 3, 8, 3, 4
CPU = torch.device("cpu")


class Asked:
    """Boxes over a tree: all logits, and what a labelling makes of them."""

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
    def label(self, class_decoder, conf=0.0):
        return class_decoder(self.head, self.features, self.positions, self.objectness, conf)


@pytest.fixture(params=range(5))
def asked(request, random_tree):
    return Asked(random_tree(request.param), request.param)


def test_every_label_above_the_threshold(asked):
    found = asked.label(MultiLabel(asked.tree, "softmax", CPU), conf=0.2)
    score = asked.objectness[:, None] * asked.probability
    box, label = (score > 0.2).nonzero().unbind(1)
    assert torch.equal(found.box, box)
    assert torch.equal(found.label, label)
    assert torch.allclose(found.score, score[box, label], atol=1e-6)


def test_chosen_nodes_have_the_scores_they_have_among_all(asked):
    nodes = list(range(len(asked.tree)))[::3][::-1]
    found = asked.label(MultiLabel(asked.tree, "softmax", CPU, nodes))
    assert len(found.box) == len(asked.positions) * len(nodes)
    expected = asked.objectness * asked.probability[:, nodes].t()
    got = torch.stack([found.score[found.label == node] for node in nodes])
    assert torch.allclose(got, expected, atol=1e-6)


def test_the_likeliest_leaf(asked):
    leaves = [node for node in range(len(asked.tree)) if asked.tree.leaves[node]]
    found = asked.label(BestLabel(asked.tree, CPU, leaves))
    best = torch.where(torch.from_numpy(asked.tree.leaves), asked.probability, -1).max(1)
    assert torch.equal(found.label, best.indices)
    assert torch.allclose(found.score, asked.objectness * best.values, atol=1e-6)
    check_paths(asked, found)


def check_paths(asked, found):
    """The path of each row holds the absolute probabilities of its label and the nodes above, and nothing else."""
    for box, label, path in zip(found.box, found.label.tolist(), found.path, strict=True):
        way = asked.tree.path(label)[::-1]
        assert torch.allclose(path[: len(way)], asked.probability[box, way], atol=1e-5)
        assert path[len(way) :].isnan().all()


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("rule", ["paper", "darknet"])
def test_descent_by_groups_ends_where_the_dense_one_does(asked, rule, threshold):
    found = asked.label(HierarchicalDescent(asked.tree, asked.scores, threshold, rule))
    dense = asked.scores.conditional(asked.logits).exp() if rule == "paper" else asked.probability
    assert torch.equal(found.label, asked.scores.descend(dense, threshold))
    of_label = asked.probability[torch.arange(len(found.label)), found.label]
    score = asked.objectness if rule == "darknet" else asked.objectness * of_label
    assert torch.allclose(found.score, score, atol=1e-6)
    check_paths(asked, found)


def test_only_under_some_nodes(asked):
    starts = [0, len(asked.tree) // 2]
    allowed = {node for start in starts for node in asked.tree.under(start)}
    found = asked.label(HierarchicalDescent(asked.tree, asked.scores, 0.1, under=starts))
    assert set(found.label.tolist()) <= allowed
    of_label = asked.probability[torch.arange(len(found.label)), found.label]
    assert torch.allclose(found.score, asked.objectness * of_label, atol=1e-6)
    check_paths(asked, found)


def test_no_boxes(asked):
    asked.positions, asked.objectness = asked.positions[:0], asked.objectness[:0]
    leaves = [node for node in range(len(asked.tree)) if asked.tree.leaves[node]]
    for class_decoder in (
        MultiLabel(asked.tree, "softmax", CPU),
        BestLabel(asked.tree, CPU, leaves),
        HierarchicalDescent(asked.tree, asked.scores, 0.5),
    ):
        found = asked.label(class_decoder)
        assert len(found.box) == len(found.label) == len(found.score) == 0


def test_flat_labels_are_the_plain_softmax():
    asked = Asked(WordTree.flat(["a", "b", "c"]))
    found = asked.label(MultiLabel(asked.tree, "softmax", CPU))
    assert torch.allclose(found.score, (asked.objectness[:, None] * asked.logits.softmax(1)).flatten(), atol=1e-6)
