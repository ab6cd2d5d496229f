import math

import pytest
import torch
from torch import nn

from yolo9k.config import updated
from yolo9k.config.schema import LossConfig
from yolo9k.detection.codec import Codec
from yolo9k.detection.loss import RegionLoss
from yolo9k.models.head import AnchorHead
from yolo9k.models.head import RawMap as HeadRawMap
from yolo9k.samples import Batch
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

PLAIN = LossConfig(rescore=False, anchor_warmup=0)
FLAT = WordTree.flat(["a", "b", "c"])


class RawMap(nn.Module):
    """A head for a raw map as features: (B, A, 5 + K, H, W)."""

    def geometry(self, features):
        return features[:, :, :5]

    def class_logits(self, features, positions, nodes=None):
        image, anchor, row, column = positions.unbind(1)
        logits = features[image, anchor, :, row, column][:, 5:]
        return logits if nodes is None else logits.gather(1, nodes)

    def class_maps(self, features, images, nodes):
        logits = features[images, :, 5:]
        if nodes is None:
            return logits
        return logits.gather(2, nodes[:, None, :, None, None].expand(-1, logits.shape[1], -1, *logits.shape[3:]))


def batch_of(boxes, images=1, ignore=None):
    """Boxes as rows of (image, left, top, right, bottom, label) in pixels."""
    table = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 6)
    none = torch.zeros(0, dtype=torch.int64)
    ignored = torch.zeros(len(table), dtype=torch.bool) if ignore is None else torch.tensor(ignore)
    return Batch(
        torch.zeros(images, 3, 20, 20), table[:, 0].long(), table[:, 1:5], table[:, 5].long(), ignored, none, none
    )


ONE = Codec(torch.tensor([[1.0, 1.0]]))


def region_loss(features, batch, options=PLAIN, seen=1, codec=ONE, kind="softmax", tree=FLAT):
    loss = RegionLoss(codec, HierarchicalSoftmax(tree, kind), options)
    return loss(RawMap(), features, batch, seen)


def zeros(images=1, anchors=1, labels=3):
    return torch.zeros(images, anchors, 5 + labels, 2, 2, requires_grad=True)


def test_two_by_two_grid_by_hand():
    # All raw values 0: every box is centred in its cell, one cell wide and high, objectness 1/2, labels 1/3.
    # The ground truth [12, 4, 18, 8] px is centred at (1.5, .6) cells: row 0, column 1, .6 wide and .4 high.
    # weight = 2 - (.6 / 2) * (.4 / 2) = 1.94; errors: x 0, y .6 - .5, w log .6, h log .4
    losses = region_loss(zeros(), batch_of([(0, 12, 4, 18, 8, 2)]))
    box = 0.5 * 1.94 * (0.1**2 + math.log(0.6) ** 2 + math.log(0.4) ** 2)
    objectness = 0.5 * 5 * 0.5**2 + 3 * 0.5 * 0.5**2
    assert set(losses) == {"box", "objectness", "classification"}
    assert losses["box"].item() == pytest.approx(box, rel=1e-5)
    assert losses["objectness"].item() == pytest.approx(objectness)
    assert losses["classification"].item() == pytest.approx(math.log(3))


def test_scales_multiply_their_terms():
    scales = {"object_scale": 2, "noobject_scale": 3, "class_scale": 4, "coord_scale": 5}
    options = LossConfig(**scales, rescore=False, anchor_warmup=0)
    one, other = (region_loss(zeros(), batch_of([(0, 12, 4, 18, 8, 2)]), o) for o in (PLAIN, options))
    assert other["box"].item() == pytest.approx(5 * one["box"].item())
    assert other["classification"].item() == pytest.approx(4 * one["classification"].item())
    assert other["objectness"].item() == pytest.approx(2 * 0.125 + 3 * 3 * 0.125)


def test_with_rescore_the_objectness_target_is_the_iou():
    # Predicted [10, 0, 20, 10], ground truth [10, 0, 20, 5]: IoU .5 = objectness: only the three negatives have a loss.
    losses = region_loss(zeros(), batch_of([(0, 10, 0, 20, 5, 0)]), LossConfig(anchor_warmup=0))
    assert losses["objectness"].item() == pytest.approx(3 * 0.125)


def test_a_box_above_the_ignore_threshold_is_no_background():
    # Anchor 0 fits exactly: positive. Anchor 1 has an IoU of .8 > .6: ignored.
    codec = Codec(torch.tensor([[1.0, 1.0], [1.0, 0.8]]))
    losses = region_loss(zeros(anchors=2), batch_of([(0, 0, 0, 10, 10, 0)]), codec=codec)
    assert losses["objectness"].item() == pytest.approx(5 * 0.125 + 6 * 0.125)
    strict = LossConfig(rescore=False, anchor_warmup=0, thresh=0.9)
    losses = region_loss(zeros(anchors=2), batch_of([(0, 0, 0, 10, 10, 0)]), strict, codec=codec)
    assert losses["objectness"].item() == pytest.approx(5 * 0.125 + 7 * 0.125)


def test_ignored_ground_truth_is_neither_positive_nor_background():
    features = zeros()
    losses = region_loss(features, batch_of([(0, 10, 0, 20, 10, 1)], ignore=[True]))
    assert losses["box"].item() == losses["classification"].item() == 0
    assert losses["objectness"].item() == pytest.approx(3 * 0.125)
    sum(losses.values()).backward()
    assert (features.grad[0, 0, :, 0, 1] == 0).all()


def test_if_ground_truths_share_a_predicted_box_the_last_one_is_learnt():
    first, later = (0, 2, 2, 8, 8, 0), (0, 1, 3, 6, 9, 2)
    both, alone = (region_loss(zeros(), batch_of(boxes)) for boxes in ([first, later], [later]))
    for term in both:
        assert both[term].item() == pytest.approx(alone[term].item())


def test_logistic_learns_the_labels_of_all_ground_truths_in_one_predicted_box():
    first, later = (0, 2, 2, 8, 8, 0), (0, 1, 3, 6, 9, 2)
    features = zeros()
    losses = region_loss(features, batch_of([first, later, first]), kind="logistic")
    losses["classification"].backward()
    assert losses["classification"].item() == pytest.approx(3 * math.log(2))
    assert features.grad[0, 0, 5:, 0, 0].tolist() == [-0.5, 0.5, -0.5]
    assert features.grad[0, 0, 5:].abs().sum() == 1.5


def test_ignored_ground_truth_adds_no_logistic_label():
    features = zeros()
    boxes = batch_of([(0, 2, 2, 8, 8, 0), (0, 1, 3, 6, 9, 2)], ignore=[False, True])
    region_loss(features, boxes, kind="logistic")["classification"].backward()
    assert features.grad[0, 0, 5:, 0, 0].tolist() == [-0.5, 0.5, 0.5]


@pytest.mark.parametrize("ignore", [[False, True], [True, False]])
def test_ignored_ground_truth_removes_no_logistic_label(ignore):
    features = zeros()
    boxes = batch_of([(0, 2, 2, 8, 8, 1), (0, 1, 3, 6, 9, 1)], ignore=ignore)
    region_loss(features, boxes, kind="logistic")["classification"].backward()
    assert features.grad[0, 0, 5:, 0, 0].tolist() == [0.5, -0.5, 0.5]


def test_ground_truth_on_the_bottom_right_border():
    losses = region_loss(zeros(), batch_of([(0, 19, 19, 21, 21, 0)]))  # its centre is the corner of the image
    box = 0.5 * (2 - 0.1 * 0.1) * (2 * 0.5**2 + 2 * math.log(0.2) ** 2)
    assert losses["box"].item() == pytest.approx(box, rel=1e-5)


def test_images_without_boxes_are_background():
    losses = region_loss(zeros(images=2), batch_of([], images=2))
    assert losses["objectness"].item() == pytest.approx(8 * 0.125)
    assert losses["box"].item() == losses["classification"].item() == 0
    sum(losses.values()).backward()


def test_warmup_pulls_all_but_positives_to_their_anchors():
    features = torch.full((1, 1, 8, 2, 2), 0.5, requires_grad=True)
    options = LossConfig(rescore=False, anchor_warmup=10)
    losses = region_loss(features, batch_of([(0, 12, 4, 18, 8, 2)]), options, seen=9)
    centre = 1 / (1 + math.exp(-0.5)) - 0.5
    assert losses["warmup"].item() == pytest.approx(3 * 0.005 * (2 * centre**2 + 2 * 0.5**2))
    assert "warmup" not in region_loss(features, batch_of([]), options, seen=10)


def test_offsets_by_hand():
    # Anchor 2 x 1 cells, all raw values .5: boxes are centred at cell + .5 + .5 * (2, 1). The ground truth
    # [12, 4, 18, 8] px is centred at (1.5, .6) cells, .6 x .4: the middle of column 1, .1 below that of row 0.
    codec = Codec(torch.tensor([[2.0, 1.0]]), "offset")
    features = torch.full((1, 1, 8, 2, 2), 0.5, requires_grad=True)
    losses = region_loss(features, batch_of([(0, 12, 4, 18, 8, 2)]), codec=codec)
    errors = 0.5 - 0, 0.5 - 0.1, 0.5 - math.log(0.6 / 2), 0.5 - math.log(0.4)
    assert losses["box"].item() == pytest.approx(0.5 * 1.94 * sum(error**2 for error in errors), rel=1e-5)
    losses["box"].backward()
    assert features.grad[0, 0, :4, 0, 1].tolist() == pytest.approx([1.94 * error for error in errors], rel=1e-5)


def test_offsets_are_pulled_to_the_middle_of_the_cell():
    codec = Codec(torch.tensor([[2.0, 1.0]]), "offset")
    features = torch.full((1, 1, 8, 2, 2), 0.5, requires_grad=True)
    losses = region_loss(features, batch_of([]), LossConfig(rescore=False, anchor_warmup=10), codec=codec)
    assert losses["warmup"].item() == pytest.approx(4 * 0.005 * 4 * 0.5**2)
    at_anchors = region_loss(zeros(), batch_of([]), LossConfig(rescore=False, anchor_warmup=10), codec=codec)
    assert at_anchors["warmup"].item() == 0


def test_rescore_uses_the_decoded_offset():
    # The box of cell (0, 0) is shifted one anchor to the right, to cell (0, 1): it does not overlap the ground truth.
    codec = Codec(torch.tensor([[1.0, 1.0]]), "offset")
    features = torch.zeros(1, 1, 8, 2, 2)
    features[0, 0, 0, 0, 0] = 1.0
    losses = region_loss(features, batch_of([(0, 0, 0, 10, 10, 0)]), LossConfig(anchor_warmup=0), codec=codec)
    assert losses["objectness"].item() == pytest.approx(5 * 0.125 + 3 * 0.125)  # target: IoU 0


def test_a_tree_learns_along_the_path():
    tree = WordTree(("r", "s", "x", "y"), ("r", "s", "x", "y"), (-1, -1, 0, 0))
    features = zeros(labels=4)
    losses = region_loss(features, batch_of([(0, 0, 0, 10, 10, 3)]), tree=tree)
    assert losses["classification"].item() == pytest.approx(2 * math.log(2))
    losses["classification"].backward()
    assert features.grad[0, 0, 5:, 0, 0].tolist() == pytest.approx([-0.5, 0.5, 0.5, -0.5])


def test_the_loss_of_a_batch_is_the_sum_over_its_images():
    torch.manual_seed(0)
    features = torch.randn(2, 1, 8, 2, 2)
    boxes = [(0, 1, 1, 9, 9, 0), (1, 8, 8, 19, 19, 1)]
    joint = region_loss(features, batch_of(boxes, images=2), LossConfig())
    first = region_loss(features[:1], batch_of(boxes[:1]), LossConfig())
    second = region_loss(features[1:], batch_of([(0, *boxes[1][1:])]), LossConfig())
    for term in joint:
        assert joint[term].item() == pytest.approx((first[term] + second[term]).item(), rel=1e-5)


def test_the_loss_of_half_precision_features_is_float32():
    features = zeros().detach().to(torch.bfloat16)
    assert region_loss(features, batch_of([(0, 12, 4, 18, 8, 2)]))["box"].dtype == torch.float32


# --- the sparse head


@pytest.mark.parametrize(("mode", "box"), [("paper", "fit"), ("paper", "objectness"), ("darknet", "fit")])
@pytest.mark.parametrize("boxes", [3, 60])  # few boxes read only the weights of their paths, many boxes all weights
@pytest.mark.parametrize("seed", range(4))
def test_sparse_equals_dense_with_gradients(random_tree, seed, boxes, mode, box):
    tree, rng = random_tree(seed), torch.Generator().manual_seed(seed)
    anchors, size = torch.tensor([[1.0, 1.0], [2.0, 1.0], [1.0, 2.0]]), 4 * 32
    head = AnchorHead(8, len(anchors), len(tree))
    features = torch.randn(5, 8, 4, 4, generator=rng)
    corners = torch.rand(boxes, 2, generator=rng) * 80
    batch = Batch(
        images=torch.zeros(5, 3, size, size),
        image_index=torch.randint(0, 3, (boxes,), generator=rng),
        xyxy=torch.cat([corners, corners + 10 + torch.rand(boxes, 2, generator=rng) * 30], dim=1),
        label=torch.randint(0, len(tree), (boxes,), generator=rng),
        ignore=torch.rand(boxes, generator=rng) < 0.1,
        labelled_image=torch.tensor([3, 4]),
        image_label=torch.randint(0, len(tree), (2,), generator=rng),
    )
    options = LossConfig(anchor_warmup=0, image_labels=mode, image_label_box=box)
    loss = RegionLoss(Codec(anchors), HierarchicalSoftmax(tree), options)
    results = []
    for some_head, prepare in ((head, lambda x: x), (HeadRawMap(len(anchors), len(tree)), head.dense)):
        head.zero_grad()
        x = features.clone().requires_grad_()
        losses = loss(some_head, prepare(x), batch, 1)
        torch.stack(list(losses.values())).sum().backward()
        results.append([*losses.values(), x.grad, head.conv.weight.grad.clone(), head.conv.bias.grad.clone()])
    for sparse, dense in zip(*results, strict=True):
        assert torch.allclose(sparse, dense, rtol=1e-4, atol=1e-5)
    assert results[0][3].item() > 0  # image_label


def test_the_probability_of_an_image_level_label_is_computed_at_all_boxes(random_tree):
    tree = random_tree(1)
    head = AnchorHead(8, 3, len(tree))
    features = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    scores, label = HierarchicalSoftmax(tree), torch.tensor([len(tree) - 1, 3])
    maps = head.class_maps(features, torch.tensor([1, 0]), scores.path_group_nodes(label))
    sparse = -scores.path_losses(maps.movedim(2, 1), label).sum(1)
    dense = head.dense(features).view(2, 3, 5 + len(tree), 4, 4)[[1, 0], :, 5:]
    absolute = scores.absolute(dense.movedim(2, -1).reshape(-1, len(tree))).view(2, 3, 4, 4, -1)
    for row, node in enumerate(label.tolist()):
        assert torch.allclose(sparse[row], absolute[row, ..., node], atol=1e-4)


def test_which_box_learns_an_image_level_label():
    """One of two boxes has the higher objectness, the other the higher objectness x P(label)."""
    features = torch.full((1, 1, 8, 1, 2), -20.0)
    features[0, 0, 4, 0] = torch.tensor([2.0, 1.0])  # objectness .88 and .73
    features[0, 0, 5:, 0, 0] = torch.tensor([0.0, 2.0, 0.0])
    features[0, 0, 5:, 0, 1] = torch.tensor([2.0, 0.0, 0.0])
    none = torch.zeros(0, dtype=torch.int64)
    batch = Batch(
        torch.zeros(1, 3, 32, 64), none, torch.zeros(0, 4), none, none.bool(), torch.tensor([0]), torch.tensor([0])
    )
    learning = {}
    for choice in ("fit", "objectness"):
        x = features.clone().requires_grad_()
        options = updated(PLAIN, {"image_label_box": choice})
        region_loss(x, batch, options)["image_label"].backward()
        learning[choice] = x.grad[0, 0, 5:, 0].abs().sum(0).nonzero().flatten().tolist()
    assert learning == {"fit": [1], "objectness": [0]}


def labelled_images(*images):
    """Two images of 2 x 2 cells; the given ones have the image-level label 1, the others no object."""
    none = torch.zeros(0, dtype=torch.int64)
    label = torch.ones(len(images), dtype=torch.int64)
    return Batch(torch.zeros(2, 3, 20, 20), none, torch.zeros(0, 4), none, none.bool(), torch.tensor(images), label)


def features_with_objectness(*objectness):
    """Logits 0, and the given objectness in the cells of each image."""
    features = zeros(images=2).detach()
    features[:, 0, 4] = torch.tensor(objectness).logit().view(2, 2, 2)
    return features.requires_grad_()


def test_the_box_of_an_image_level_label_is_raised_to_an_objectness_of_3_tenths():
    # Image 1 is labelled. Its best box has objectness .2, .1 below the target: 5 / 2 * .1 ** 2, with the derivative
    # 5 * (.2 - .3) * .2 * (1 - .2) = -.08. Its other boxes have no loss; the four of image 0 are background.
    features = features_with_objectness([0.5] * 4, [0.1, 0.1, 0.2, 0.1])
    losses = region_loss(features, labelled_images(1))
    assert losses["objectness"].item() == pytest.approx(2.5 * 0.01 + 4 * 0.5 * 0.25)
    assert losses["image_label"].item() == pytest.approx(math.log(3))
    assert losses["box"].item() == losses["classification"].item() == 0
    losses["objectness"].backward()
    assert features.grad[1, 0, 4].flatten().tolist() == pytest.approx([0, 0, -0.08, 0])
    assert features.grad[0, 0, 4].flatten().tolist() == pytest.approx([0.125] * 4)


def test_a_box_of_an_image_level_label_above_the_target_is_left_alone():
    features = features_with_objectness([0.1, 0.4, 0.1, 0.1], [0.9, 0.2, 0.2, 0.2])
    losses = region_loss(features, labelled_images(0, 1))
    losses["objectness"].backward()
    assert losses["objectness"].item() == 0
    assert not features.grad.any()


def test_darknet_does_not_raise_the_box_and_counts_the_others_as_background():
    features = features_with_objectness([0.5] * 4, [0.1, 0.1, 0.2, 0.1])
    losses = region_loss(features, labelled_images(1), updated(PLAIN, {"image_labels": "darknet"}))
    assert losses["objectness"].item() == pytest.approx(4 * 0.5 * 0.25 + 3 * 0.5 * 0.01)
    losses["objectness"].backward()
    assert features.grad[1, 0, 4].flatten().tolist() == pytest.approx([0.009, 0.009, 0, 0.009])


@pytest.mark.parametrize("kind", ["softmax", "logistic"])
def test_more_ground_truths_than_predicted_boxes(kind):
    """Those that share a predicted box with a later one change nothing but the labels of logistic classes."""
    rows = [(0, 0, 0, 10, 10, 2), *((0, 0, 0, 10, 10, 0) for _ in range(20)), (0, 0, 0, 10, 10, 1)]
    features, few_features = zeros(), zeros()
    losses = region_loss(features, batch_of(rows), kind=kind)
    few = region_loss(few_features, batch_of([rows[0], rows[1], rows[-1]]), kind=kind)
    assert losses == few
    sum(losses.values()).backward()
    sum(few.values()).backward()
    assert torch.equal(features.grad, few_features.grad)
