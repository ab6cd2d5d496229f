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
    """A step whose network does not look at the rest of the batch."""

    def forward(self, batch, images, seen):
        self.network.eval()
        return super().forward(batch, images, seen)


def stepper(images=8, kind=DetectionStep, memory_format=torch.contiguous_format, **changes):
    torch.manual_seed(0)
    network = yolov2_tiny(torch.tensor([[0.5, 0.5], [1.0, 1.5]]), len(LABELS), width=0.1)
    network = network.to(memory_format=memory_format)
    loss = RegionLoss(Codec(network.anchors), HierarchicalSoftmax(LABELS, "softmax"), LossConfig(anchor_warmup=0))
    step = kind(network, loss, device=CPU, precision="float32", images=images)
    return Stepper(step, TrainConfig(**{"batch": images, "momentum": 0, **changes}), memory_format)


def batch(images=8, seed=0):
    """Images of noise, each with a box of its own."""
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


def test_parts_learn_what_the_whole_batch_does():
    whole, parted = stepper(kind=FrozenStatistics), stepper(kind=FrozenStatistics)
    losses = whole(0, [batch()], 0.5)
    parts = parted(0, halves(batch()), 0.5)
    for name, value in losses.items():
        torch.testing.assert_close(parts[name], value)
    before = stepper().step.network.state_dict()
    for name, value in whole.step.network.state_dict().items():
        torch.testing.assert_close(parted.step.network.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert not torch.equal(before["head.conv.weight"], whole.step.network.state_dict()["head.conv.weight"])


def test_losses_are_per_image_of_the_update():
    once, twice = stepper(images=8, kind=FrozenStatistics), stepper(images=16, kind=FrozenStatistics)
    for name, value in once(0, [batch()], 0.0).items():
        torch.testing.assert_close(twice(0, [batch(), batch()], 0.0)[name], value)


def test_gradients_do_not_stay_for_the_next_step():
    made = stepper()
    made(0, [batch()], 0.01)
    assert all(parameter.grad is None for parameter in made.step.network.parameters())


def test_a_rate_of_zero_changes_no_weight():
    made = stepper(momentum=0.9)
    before = {name: p.clone() for name, p in made.step.network.named_parameters()}
    made(0, [batch()], 0.0)
    assert all(torch.equal(p, before[name]) for name, p in made.step.network.named_parameters())


def test_clipping_bounds_the_update():
    made = stepper(clip_grad=1e-3, weight_decay=0)
    before = [p.clone() for p in made.step.network.parameters()]
    norm = made(0, [batch()], 1.0)["gradient_norm"]
    moved = torch.stack([(p - b).norm() for p, b in zip(made.step.network.parameters(), before, strict=True)]).norm()
    assert norm > 1e-2  # what it was before
    assert moved.item() == pytest.approx(1e-3, rel=1e-2)


def test_seen_counts_this_update_too():
    made = stepper()
    noted = []
    forward = made.step.forward

    def note(part, images, seen):
        noted.append(seen)
        return forward(part, images, seen)

    made.step.forward = note
    made(0, halves(batch()), 0.01)
    made(5, [batch()], 0.01)
    assert noted == [4, 8, 48]  # Darknet counts each part before its forward pass


def test_a_restored_stepper_goes_on_alike():
    first, second = stepper(momentum=0.9), stepper(momentum=0.9)
    first(0, [batch()], 0.01)
    second.step.network.load_state_dict(first.step.network.state_dict())
    second.restore(first.state())
    for made in (first, second):
        made(1, [batch(seed=1)], 0.01)
    for name, value in first.step.network.state_dict().items():
        assert torch.equal(second.step.network.state_dict()[name], value), name


def test_a_restored_stepper_keeps_its_own_settings():
    made = stepper(momentum=0.5, weight_decay=0.25)
    other = stepper(momentum=0.9, weight_decay=0.125)
    made.restore(other.state())
    assert [(g["momentum"], g["weight_decay"]) for g in made.optimizer.param_groups] == [(0.5, 0.25), (0.5, 0.0)]


def test_a_restored_stepper_may_have_another_memory_format():
    """The fused kernels read memory in order, whatever the strides say: the state must be laid out as the weights."""
    plain = stepper(momentum=0.9)
    plain(0, [batch()], 0.01)
    last = stepper(momentum=0.9, memory_format=torch.channels_last)
    last.step.network.load_state_dict(plain.step.network.state_dict())
    last.restore(plain.state())
    for made in (plain, last):
        made(1, [batch(seed=1)], 0.01)
    for name, value in plain.step.network.state_dict().items():
        torch.testing.assert_close(last.step.network.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_the_state_of_another_optimiser_is_refused():
    with pytest.raises(ValueError, match="another optimiser"):
        stepper().restore(stepper(optimizer="adamw").state())
