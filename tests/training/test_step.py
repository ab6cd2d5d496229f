import pytest
import torch

from yolo9k.config.schema import LossConfig, TrainConfig
from yolo9k.detection.codec import Codec
from yolo9k.detection.loss import RegionLoss
from yolo9k.models.yolov2 import yolov2_tiny
from yolo9k.samples import Batch
from yolo9k.training.step import Stepper
from yolo9k.training.tasks.detection import DetectionStep
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

LABELS = WordTree.flat(["a", "b"])
CPU = torch.device("cpu")


class FrozenStatistics(DetectionStep):
    """A step with fixed batch norm statistics, so that the images of a batch do not affect each other."""

    def forward(self, batch, images, seen):
        self.network.eval()
        return super().forward(batch, images, seen)


def stepper(batch_size=8, kind=DetectionStep, memory_format=torch.contiguous_format, precision="float32", **changes):
    torch.manual_seed(0)
    network = yolov2_tiny(torch.tensor([[0.5, 0.5], [1.0, 1.5]]), len(LABELS), width=0.1)
    network = network.to(memory_format=memory_format)
    loss = RegionLoss(Codec(network.anchors), HierarchicalSoftmax(LABELS, "softmax"), LossConfig(anchor_warmup=0))
    step = kind(network, loss, device=CPU, precision=precision, batch_size=batch_size)
    return Stepper(step, TrainConfig(**{"batch": batch_size, "momentum": 0, **changes}), memory_format)


def batch(images=8, seed=0):
    """Noise images, each with one box."""
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, 2, generator=random) * 30
    return Batch(
        images=torch.randint(0, 256, (images, 3, 64, 64), dtype=torch.uint8, generator=random),
        image_index=torch.arange(images),
        xyxy=torch.cat([corner, corner + 5 + torch.rand(images, 2, generator=random) * 25], dim=1),
        label=torch.arange(images) % 2,
        ignore=torch.zeros(images, dtype=torch.bool),
        labelled_image=torch.zeros(0, dtype=torch.int64),
        image_label=torch.zeros(0, dtype=torch.int64),
    )


def halves(whole):
    def half(first, last):
        own = (whole.image_index >= first) & (whole.image_index < last)
        return Batch(
            whole.images[first:last], whole.image_index[own] - first, whole.xyxy[own], whole.label[own],
            whole.ignore[own], whole.labelled_image, whole.image_label,
        )  # fmt: skip

    middle = len(whole) // 2
    return [half(0, middle), half(middle, len(whole))]


def test_micro_batches_give_the_same_update_as_the_whole_batch():
    whole, accumulated = stepper(kind=FrozenStatistics), stepper(kind=FrozenStatistics)
    losses = whole(0, [batch()], 0.5)
    accumulated_losses = accumulated(0, halves(batch()), 0.5)
    for name, value in losses.items():
        torch.testing.assert_close(accumulated_losses[name], value)
    before = stepper().network.state_dict()
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(accumulated.network.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert not torch.equal(before["head.conv.weight"], whole.network.state_dict()["head.conv.weight"])


def test_the_scaled_loss_of_half_precision_gives_the_same_update():
    """`GradScaler` multiplies the loss by 65,536, so that small gradients are no zeros; the update must not be."""
    whole, half = stepper(), stepper(precision="fp16")
    norms = [made(0, [batch()], 1e-3)["gradient_norm"].item() for made in (whole, half)]
    assert half.scaler.is_enabled()
    assert norms[1] == pytest.approx(norms[0], rel=0.05)
    before, whole, half = (each.network.state_dict()["head.conv.weight"] for each in (stepper(), whole, half))
    torch.testing.assert_close(half - before, whole - before, rtol=0.1, atol=0.05 * (whole - before).abs().max().item())


def test_the_state_of_earlier_versions_has_no_count_of_skipped_steps():
    made = stepper()
    state = made.state()
    del state["skipped"]
    made.restore(state)
    assert int(made.guard.skipped) == 0


def test_losses_are_per_image_of_the_step():
    once, twice = stepper(batch_size=8, kind=FrozenStatistics), stepper(batch_size=16, kind=FrozenStatistics)
    for name, value in once(0, [batch()], 0.0).items():
        torch.testing.assert_close(twice(0, [batch(), batch()], 0.0)[name], value)


def test_gradients_are_reset_after_each_step():
    made = stepper()
    made(0, [batch()], 0.01)
    assert all(parameter.grad is None for parameter in made.network.parameters())


def test_a_learning_rate_of_zero_changes_no_weight():
    made = stepper(momentum=0.9)
    before = {name: p.clone() for name, p in made.network.named_parameters()}
    made(0, [batch()], 0.0)
    assert all(torch.equal(p, before[name]) for name, p in made.network.named_parameters())


def test_clipping_bounds_the_update():
    made = stepper(clip_grad=1e-3, weight_decay=0)
    before = [p.clone() for p in made.network.parameters()]
    norm = made(0, [batch()], 1.0)["gradient_norm"]
    moved = torch.stack([(p - b).norm() for p, b in zip(made.network.parameters(), before, strict=True)]).norm()
    assert norm > 1e-2  # the norm before clipping
    assert moved.item() == pytest.approx(1e-3, rel=1e-2)


def test_seen_includes_the_current_micro_batch():
    made = stepper()
    recorded = []
    forward = made.training_step.forward

    def record(micro_batch, images, seen):
        recorded.append(seen)
        return forward(micro_batch, images, seen)

    made.training_step.forward = record
    made(0, halves(batch()), 0.01)
    made(5, [batch()], 0.01)
    assert recorded == [4, 8, 48]  # Darknet counts each micro-batch before its forward pass


def test_a_restored_stepper_continues_exactly():
    first, second = stepper(momentum=0.9), stepper(momentum=0.9)
    first(0, [batch()], 0.01)
    second.network.load_state_dict(first.network.state_dict())
    second.restore(first.state())
    for made in (first, second):
        made(1, [batch(seed=1)], 0.01)
    for name, value in first.network.state_dict().items():
        assert torch.equal(second.network.state_dict()[name], value), name


def test_a_restored_stepper_keeps_its_own_settings():
    made = stepper(momentum=0.5, weight_decay=0.25)
    other = stepper(momentum=0.9, weight_decay=0.125)
    made.restore(other.state())
    assert [(g["momentum"], g["weight_decay"]) for g in made.optimizer.param_groups] == [(0.5, 0.25), (0.5, 0.0)]


def test_a_restored_stepper_may_have_another_memory_format():
    """The fused kernels ignore strides, so the state needs the memory layout of the weights."""
    plain = stepper(momentum=0.9)
    plain(0, [batch()], 0.01)
    last = stepper(momentum=0.9, memory_format=torch.channels_last)
    last.network.load_state_dict(plain.network.state_dict())
    last.restore(plain.state())
    for made in (plain, last):
        made(1, [batch(seed=1)], 0.01)
    for name, value in plain.network.state_dict().items():
        torch.testing.assert_close(last.network.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_the_state_of_another_optimiser_is_an_error():
    with pytest.raises(ValueError, match="another optimiser"):
        stepper().restore(stepper(optimizer="adamw").state())
