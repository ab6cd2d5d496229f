import pytest
import torch

from yolo9k.models import head as head_module
from yolo9k.models.head import AnchorHead, RawMap

B, A, K, H, W, C = 2, 3, 4, 2, 5, 6


@pytest.fixture
def head() -> AnchorHead:
    torch.manual_seed(0)
    return AnchorHead(C, A, K)


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(B, C, H, W, generator=torch.Generator().manual_seed(1))


def all_positions():
    grid = torch.meshgrid(*map(torch.arange, (B, A, H, W)), indexing="ij")
    return torch.stack([axis.flatten() for axis in grid], dim=1)


def test_dense_is_anchor_major(head, features):
    dense = head.dense(features).view(B, A, 5 + K, H, W)
    weight, bias = head.conv.weight[:, :, 0, 0], head.conv.bias
    row = 2 * (5 + K) + 5 + 1  # anchor 2, label 1
    assert dense[1, 2, 5 + 1, 0, 3].item() == pytest.approx((weight[row] @ features[1, :, 0, 3] + bias[row]).item())


def test_geometry_and_class_logits_agree_with_the_dense_map(head, features):
    dense = head.dense(features).view(B, A, 5 + K, H, W)
    assert torch.allclose(head.geometry(features), dense[:, :, :5], atol=1e-6)
    logits = head.class_logits(features, all_positions())
    expected = dense[:, :, 5:].permute(0, 1, 3, 4, 2).reshape(-1, K)
    assert torch.allclose(logits, expected, atol=1e-6)


def test_class_logits_of_some_labels_at_some_boxes(head, features):
    dense = head.dense(features).view(B, A, 5 + K, H, W)
    positions = torch.tensor([[1, 2, 0, 4], [0, 0, 1, 0], [1, 2, 0, 4]])
    logits = head.class_logits(features, positions, torch.tensor([3, 0]))
    expected = [dense[b, a, [5 + 3, 5], row, column] for b, a, row, column in positions.tolist()]
    assert torch.allclose(logits, torch.stack(expected), atol=1e-6)


def gradients(head, features, forward):
    features = features.clone().requires_grad_()
    head.zero_grad()
    forward(features).square().sum().backward()
    return features.grad, head.conv.weight.grad.clone(), head.conv.bias.grad.clone()


def test_gradients_agree_with_the_dense_map(head, features):
    def in_parts(x):
        return torch.cat([head.geometry(x).flatten(), head.class_logits(x, all_positions()).flatten()])

    for dense, parts in zip(gradients(head, features, head.dense), gradients(head, features, in_parts), strict=True):
        assert torch.allclose(dense, parts, atol=1e-4)


def test_no_positions(head, features):
    assert head.class_logits(features, torch.zeros(0, 4, dtype=torch.int64)).shape == (0, K)


def test_a_new_head_predicts_anchors_with_low_objectness(head):
    head.initialise()
    geometry = head.geometry(torch.zeros(1, C, 1, 1))
    assert geometry[0, :, 4].sigmoid().flatten().tolist() == pytest.approx([0.1] * A)
    assert (geometry[0, :, :4] == 0).all()


def test_class_logits_of_different_labels_per_box(head, features):
    expected, nodes = head.class_logits(features, all_positions()), torch.randint(0, K, (B * A * H * W, 3))
    expected = expected.gather(1, nodes)
    assert torch.allclose(head.class_logits(features, all_positions(), nodes), expected, atol=1e-6)
    raw = RawMap(A, K).class_logits(head.dense(features), all_positions(), nodes)
    assert torch.allclose(raw, expected, atol=1e-6)


def test_class_maps_of_some_images(head, features):
    dense, images = head.dense(features).view(B, A, 5 + K, H, W)[:, :, 5:], torch.tensor([1, 0, 1])
    nodes = torch.tensor([[0, 3], [2, 2], [1, 0]])
    expected = torch.stack([dense[b][:, own] for b, own in zip(images, nodes, strict=True)])
    for some_head, inputs in ((head, features), (RawMap(A, K), head.dense(features))):
        assert torch.allclose(some_head.class_maps(inputs, images, nodes), expected, atol=1e-6)
        assert torch.allclose(some_head.class_maps(inputs, images, None), dense[images], atol=1e-6)


def test_many_rows_are_computed_anchor_by_anchor(head, features, monkeypatch):
    few = gradients(head, features, lambda x: head.class_logits(x, all_positions()))
    monkeypatch.setattr(head_module, "MAX_DENSE_ROWS", 1)
    many = gradients(head, features, lambda x: head.class_logits(x, all_positions()))
    for all_at_once, per_anchor in zip(few, many, strict=True):
        assert torch.allclose(all_at_once, per_anchor, atol=1e-5)
    assert head.class_logits(features, torch.zeros(0, 4, dtype=torch.int64)).shape == (0, K)
