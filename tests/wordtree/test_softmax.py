import json
import math

import pytest
import torch
import torch.nn.functional as F

from yolo9k.errors import DataError
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

# roots a and b; children of a: c, d, e; only child of b: f
TREE = WordTree(tuple("abcdef"), tuple("abcdef"), (-1, -1, 0, 0, 0, 1))
# softmax of the roots is (3/4, 1/4), of a's children (1/6, 2/6, 3/6), of b's only child 1
LOGITS = torch.tensor([[math.log(3), 0.0, 0.0, math.log(2), math.log(3), 42.0]])


def random_logits(rows, columns, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 5


def test_conditional_probabilities_by_hand():
    found = HierarchicalSoftmax(TREE).conditional(LOGITS).exp()
    assert found[0].tolist() == pytest.approx([3 / 4, 1 / 4, 1 / 6, 2 / 6, 3 / 6, 1])


def test_absolute_probabilities_by_hand():
    found = HierarchicalSoftmax(TREE).absolute(LOGITS).exp()
    assert found[0].tolist() == pytest.approx([3 / 4, 1 / 4, 1 / 8, 1 / 4, 3 / 8, 1 / 4])


@pytest.mark.parametrize(
    ("label", "expected"),
    [(0, -math.log(3 / 4)), (3, -math.log(3 / 4) - math.log(1 / 3)), (5, -math.log(1 / 4))],
)
def test_loss_sums_over_the_path(label, expected):
    assert HierarchicalSoftmax(TREE).loss(LOGITS, torch.tensor([label])).item() == pytest.approx(expected)


def test_descendants_of_the_label_get_no_gradient():
    logits = random_logits(1, 6).requires_grad_()
    HierarchicalSoftmax(TREE).loss(logits, torch.tensor([0])).sum().backward()
    assert (logits.grad[0, :2] != 0).all()
    assert (logits.grad[0, 2:] == 0).all()


def test_gradient_is_probability_minus_target_on_the_path():
    logits = random_logits(1, 6).requires_grad_()
    scores = HierarchicalSoftmax(TREE)
    scores.loss(logits, torch.tensor([3])).sum().backward()
    target = torch.tensor([1.0, 0, 0, 1, 0, 0])
    in_path_group = torch.tensor([1.0, 1, 1, 1, 1, 0])
    expected = (scores.conditional(logits.detach()).exp() - target) * in_path_group
    assert torch.allclose(logits.grad, expected, atol=1e-6)


def test_flat_equals_log_softmax():
    logits, labels = random_logits(7, 5), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    scores = HierarchicalSoftmax(WordTree.flat(list("abcde")))
    assert torch.equal(scores.conditional(logits), F.log_softmax(logits, 1))
    assert torch.equal(scores.absolute(logits), F.log_softmax(logits, 1))
    assert torch.allclose(scores.loss(logits, labels), F.cross_entropy(logits, labels, reduction="none"))


def test_the_code_for_trees_equals_softmax_for_flat_labels():
    scores = HierarchicalSoftmax(WordTree.flat(list("abcde")))
    logits = random_logits(7, 5)
    expected = scores.conditional(logits)
    scores.flat = False
    assert torch.allclose(scores.conditional(logits), expected, atol=1e-6)


def test_a_single_label_has_probability_one():
    scores = HierarchicalSoftmax(WordTree.flat(["a"]))
    assert scores.absolute(torch.tensor([[-50.0]])).item() == 0
    assert scores.loss(torch.tensor([[-50.0]]), torch.tensor([0])).item() == 0


@pytest.mark.parametrize("tree", [TREE, WordTree.flat(list("abcdef"))])
def test_large_logits_and_no_rows(tree):
    scores = HierarchicalSoftmax(tree)
    far = torch.tensor([[1e4, -1e4, 3e4, 0, 1e4, -3e4]])
    assert scores.absolute(far).isfinite().all()
    assert scores.absolute(far.to(torch.bfloat16)).dtype == torch.float32
    assert scores.absolute(torch.zeros(0, 6)).shape == (0, 6)
    assert scores.loss(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64)).shape == (0,)


def test_large_logits_keep_their_precision():
    tree = WordTree(("a", "b", "c", "d"), ("a", "b", "c", "d"), (-1, -1, 0, 0))
    logits = torch.full((1, 4), 1e4)
    assert HierarchicalSoftmax(tree).loss(logits, torch.tensor([2])).item() == pytest.approx(2 * math.log(2), rel=1e-6)


def test_logistic_labels_are_independent():
    scores = HierarchicalSoftmax(WordTree.flat(["a", "b"]), "logistic")
    logits = torch.tensor([[0.0, math.log(3)]])
    assert scores.absolute(logits).exp()[0].tolist() == pytest.approx([1 / 2, 3 / 4])
    loss = scores.loss_logistic(logits, torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(math.log(2) + math.log(4))


@pytest.mark.parametrize("name", ["hand9", "subset60"])
def test_probabilities_and_descents_equal_those_of_darknet(shared, name):
    case = json.loads(shared("golden", "wordtree", f"hier_{name}.json").read_text())
    ids, parents = zip(*(line.split() for line in case["tree"]), strict=True)
    tree = WordTree(ids, ids, tuple(map(int, parents)))
    assert tree.group.tolist() == case["group"]
    assert tree.child_group.tolist() == case["child"]
    assert tree.group_start.tolist() == [*case["group_offset"], case["n"]]
    assert tree.leaves.astype(int).tolist() == case["leaf"]
    scores = HierarchicalSoftmax(tree)
    for vector in case["vectors"]:
        conditional = torch.tensor(vector["conditional"])
        if vector["logits"] is not None:
            logits = torch.tensor(vector["logits"])[None]
            assert torch.allclose(scores.conditional(logits).exp()[0], conditional, rtol=1e-5)
        absolute = scores.absolute(conditional.log()[None]).exp()[0]
        assert torch.allclose(absolute, torch.tensor(vector["absolute"]), rtol=1e-5, atol=1e-12)
        changed = {tree.find(name) for name in case["changed_leaves"]}
        for key, selected in (("leaves", set(tree.leaves.nonzero()[0].tolist())), ("changed_leaves", changed)):
            field = "absolute_only_leaves_nonzero" if key == "leaves" else "absolute_changed_leaves_nonzero"
            found = {str(node): absolute[node].item() for node in selected if absolute[node] > 0}
            assert found == pytest.approx(dict(vector[field].items()), rel=1e-5), key
        for field, probability in (
            ("top_on_conditional", conditional),
            ("top_on_absolute_as_region_layer_does", torch.tensor(vector["absolute"])),
        ):
            found = [scores.descend(probability[None], threshold).item() for threshold in vector["thresholds"]]
            assert found == vector[field]


@pytest.mark.parametrize("smoothing", [0.1, 0.5])
def test_smoothing_of_flat_labels_equals_pytorch(smoothing):
    logits, labels = random_logits(7, 5).requires_grad_(), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    found = HierarchicalSoftmax(WordTree.flat(list("abcde"))).loss(logits, labels, smoothing)
    expected = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    assert torch.allclose(found, expected, atol=1e-6)


def test_smoothing_spreads_the_target_within_each_group():
    logits, label = random_logits(3, 6).requires_grad_(), torch.tensor([3, 1, 5])
    scores = HierarchicalSoftmax(TREE)
    found = scores.loss(logits, label, 0.3)
    roots, below_a = (
        F.cross_entropy(logits[:1, columns], torch.tensor([own]), label_smoothing=0.3)
        for columns, own in ((slice(0, 2), 0), (slice(2, 5), 1))
    )
    others = F.cross_entropy(logits[1:, :2], torch.tensor([1, 1]), reduction="none", label_smoothing=0.3)
    # d is a child of a; b is a root; f is the only child of b, so its probability is always 1
    assert torch.allclose(found, torch.stack([roots + below_a, *others]), atol=1e-6)
    found.sum().backward()
    target = torch.tensor([[0.85, 0.15, 0.1, 0.8, 0.1, 0], [0.15, 0.85, 0, 0, 0, 0], [0.15, 0.85, 0, 0, 0, 1]])
    in_path_group = torch.tensor([[1.0, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 1]])
    expected = (scores.conditional(logits.detach()).exp() - target) * in_path_group
    assert torch.allclose(logits.grad, expected, atol=1e-6)


def test_smoothing_in_one_group_equals_that_of_flat_labels():
    scores = HierarchicalSoftmax(TREE)
    dense = random_logits(4, 6)[..., None].expand(4, 6, 2)
    label = torch.tensor([0, 1, 0, 1])
    logits = dense.gather(1, scores.path_group_nodes(label)[..., None].expand(-1, -1, 2))
    losses = scores.path_losses(logits, label, 0.2).sum(1)
    expected = F.cross_entropy(dense[:, :2, 0], label, reduction="none", label_smoothing=0.2)
    assert torch.allclose(losses, expected[:, None].expand(4, 2), atol=1e-6)


def test_logistic_labels_have_no_smoothing():
    scores = HierarchicalSoftmax(WordTree.flat(["a", "b"]), "logistic")
    with pytest.raises(ValueError, match="label smoothing: not possible for logistic labels"):
        scores.loss(torch.zeros(1, 2), torch.tensor([0]), 0.1)


def test_most_probable_leaves_and_their_path_probabilities():
    scores = HierarchicalSoftmax(TREE)
    absolute = scores.absolute(LOGITS)  # 3/4, 1/4, 1/8, 1/4, 3/8, 1/4
    assert scores.top_leaves(absolute, 1).tolist() == [[4]]
    assert scores.top_leaves(absolute, 9)[0].tolist()[0] == 4
    assert sorted(scores.top_leaves(absolute, 9)[0].tolist()) == [2, 3, 4, 5]  # a and b are inner nodes
    paths = scores.path_probabilities(absolute, torch.tensor([[4, 1]]))
    assert paths[0, 0].tolist() == pytest.approx([3 / 4, 3 / 8])
    assert paths[0, 1, 0].item() == pytest.approx(1 / 4)
    assert paths[0, 1, 1].isnan()
    assert scores.path_probabilities(absolute, torch.tensor([2]))[0].tolist() == pytest.approx([3 / 4, 1 / 8])


def test_a_chain_of_labels_is_allowed_up_to_a_table_size():
    ids = tuple(map(str, range(1000)))
    scores = HierarchicalSoftmax(WordTree(ids, ids, tuple(range(-1, 999))))
    probability = scores.absolute(torch.randn(2, 1000)).exp()
    assert torch.allclose(probability, torch.ones(2, 1000))
    ids = tuple(map(str, range(20_000)))
    with pytest.raises(DataError, match=r"20,000 nodes with up to 20,000 siblings .* too many for a network"):
        HierarchicalSoftmax(WordTree(ids, ids, tuple(range(-1, 19_999))))


def test_a_descent_changes_none_of_its_arguments():
    tree = WordTree(("a", "b", "c", "d"), ("a", "b", "c", "d"), (-1, -1, 0, 0))
    softmax = HierarchicalSoftmax(tree)
    conditional = torch.tensor([[0.9, 0.1, 0.8, 0.2]])
    start = torch.tensor([0.5])

    def of_group(rows, group):
        return conditional[rows[:, None], softmax.members[group]]

    found = softmax.descend_with(of_group, start, 0.2)
    assert (found.node.tolist(), start.tolist()) == ([2], [0.5])
    assert found.path[0].tolist() == pytest.approx([0.45, 0.36])


def test_the_groups_on_a_path_by_hand():
    """The own group first, then those of the ancestors; padded with node 0 and group 2, the length of a path."""
    softmax = HierarchicalSoftmax(TREE)
    assert softmax.group_nodes[[2, 5]].tolist() == [[2, 3, 4, 0, 1], [5, 0, 1, 0, 0]]
    assert softmax.group_on_path[[2, 5]].tolist() == [[0, 0, 0, 1, 1], [0, 1, 1, 2, 2]]


def test_the_size_of_a_tree_is_limited(monkeypatch):
    monkeypatch.setattr("yolo9k.wordtree.softmax.MAX_TABLE", 30)  # 6 nodes, 3 + 2 siblings on the longest path
    HierarchicalSoftmax(TREE)
    monkeypatch.setattr("yolo9k.wordtree.softmax.MAX_TABLE", 29)
    with pytest.raises(DataError, match="6 nodes with up to 5 siblings"):
        HierarchicalSoftmax(TREE)
