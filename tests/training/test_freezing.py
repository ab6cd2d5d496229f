"""Layers that are frozen, unfrozen later, or trained with their own learning rate."""

import pytest
import torch
from torch import nn

from yolo9k import darknet
from yolo9k.config.schema import NormConfig, TrainConfig
from yolo9k.errors import ConfigError
from yolo9k.models.norms import norm_layer
from yolo9k.models.yolov2 import yolov2
from yolo9k.samples import Batch
from yolo9k.training.ema import Ema
from yolo9k.training.freezing import Freezing, find_layers
from yolo9k.training.step import Stepper, TrainingStep

ANCHORS = torch.tensor([[1.0, 2.0]])
CPU = torch.device("cpu")
CONV = "[conv]\nbatch_normalize=1\nfilters=8\nsize=3\npad=1\nactivation=leaky\n"


class SquareStep(TrainingStep):
    """The loss is the sum of the squares of all outputs."""

    loss_names = ("square",)

    def losses(self, batch, images, seen):
        return {"square": self.network(images).square().mean((1, 2, 3)).sum()}


def network(kind="batch"):
    torch.manual_seed(0)
    return yolov2(ANCHORS, 2, width=0.05, norm=norm_layer(NormConfig(kind=kind, momentum=0.5)))


def stepper(net, steps_per_epoch=1.5, **changes):
    config = TrainConfig(**{"batch": 2, "weight_decay": 0.5, "momentum": 0.5, **changes})
    step = SquareStep(net, device=CPU, precision="float32", batch_size=2)
    return Stepper(step, config, torch.contiguous_format, steps_per_epoch)


def batch(seed=0):
    images = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    none = torch.zeros(0, dtype=torch.int64)
    return Batch(images, none, torch.zeros(0, 4), none, none.bool(), none, none)


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, module):
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


# --- names


def test_true_is_not_a_number_of_layers():
    with pytest.raises(ValueError, match="must be a number of layers or layer names, not true"):
        TrainConfig(freeze=True)


def layers_of(**changes):
    return Freezing(network(), TrainConfig(**changes)).frozen


def test_freeze_takes_names_counts_and_patterns():
    everything = Freezing(network(), TrainConfig()).layers
    assert layers_of() == layers_of(freeze=0) == layers_of(freeze="") == ()
    assert layers_of(freeze="backbone") == layers_of(freeze=18) == everything[:18]
    assert layers_of(freeze=("backbone.fine", "backbone.coarse.*")) == everything[:18]
    assert layers_of(freeze=3) == ("backbone.fine.0.0", "backbone.fine.1.1", "backbone.fine.2.1")
    assert layers_of(freeze="neck.deepen.?") == ("neck.deepen.0", "neck.deepen.1")
    assert layers_of(freeze=("head", "neck.join")) == ("neck.join", "head")  # in the order of the network


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("bakbone", "train.freeze: no layer is named 'bakbone'; did you mean backbone, "),
        (("backbone", "neck.jion"), "train.freeze: no layer is named 'neck.jion'; did you mean neck.join"),
        ("zzz.*", "train.freeze: no layer is named 'zzz.*'; did you mean backbone, neck, head?"),
        (23, "train.freeze: must be from 1 to 22 layers, not 23"),
        (-1, "train.freeze: must be from 1 to 22 layers, not -1"),
        (("backbone", "neck", "head"), "train.freeze: backbone, neck, head selects all layers"),
    ],
)
def test_names_that_are_errors(freeze, message):
    with pytest.raises(ConfigError) as refused:
        layers_of(freeze=freeze)
    assert str(refused.value).startswith(message)


def test_brackets_are_patterns():
    assert find_layers(["a.1", "a.2", "a.3"], "a.[12]", "key") == ["a.1", "a.2"]


# --- frozen


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_frozen_layers_do_not_change(optimizer):
    net = network()
    made = stepper(net, freeze="backbone", optimizer=optimizer)
    before = state(net)
    for step in range(3):
        made(step, [batch(step)], 0.01)
    names = changed(before, net)
    assert not any(name.startswith("backbone.") for name in names)
    assert {"neck.join.conv.weight", "neck.join.norm.running_mean", "head.conv.bias"} <= names


def test_no_gradient_is_computed_for_a_frozen_backbone():
    net = network()
    stepper(net, freeze="backbone").freezing.apply(0)
    fine, coarse = net.backbone(torch.rand(2, 3, 32, 64))
    assert fine.grad_fn is None
    assert coarse.grad_fn is None
    assert net(torch.rand(2, 3, 32, 64)).grad_fn is not None


def test_gradients_flow_through_a_frozen_layer_in_the_middle():
    net = network()
    made = stepper(net, freeze="neck")
    before = state(net)
    made(0, [batch()], 0.01)
    names = changed(before, net)
    assert not any(name.startswith("neck.") for name in names)
    assert "backbone.fine.0.0.conv.weight" in names


def test_evaluation_in_between_changes_nothing():
    evaluated, undisturbed = network(), network()
    for net in (evaluated, undisturbed):
        made = stepper(net, freeze=5)
        for step in range(2):
            made(step, [batch(step)], 0.01)
            if net is evaluated:
                net.eval()
    assert changed(state(undisturbed), evaluated) == set()


def test_the_average_of_frozen_weights_does_not_change():
    net = network()
    made = stepper(net, freeze="backbone")
    before = state(net)
    ema = Ema(net, 0.9)
    for step in range(3):
        made(step, [batch(step)], 0.01)
        ema.update(net)
    assert not any(name.startswith("backbone.") for name in changed(before, ema.network))


# --- stopbackward


def test_with_stopbackward_weights_decay_and_statistics_update():
    net = network()
    made = stepper(net, freeze="backbone", freeze_mode="stopbackward")
    before = state(net)
    for step in range(2):
        made(step, [batch(step)], 0.25)
    after = net.state_dict()
    for name in before:
        if not name.startswith("backbone."):
            continue
        if name.endswith("conv.weight"):
            # v = .5 w, w = w - .25 v = .875 w; v = .5 (.5 w) + .5 (.875 w) = .6875 w, w = .875 w - .25 v = .703125 w
            torch.testing.assert_close(after[name], 0.703125 * before[name])
        elif name.endswith(("norm.weight", "norm.bias")):
            assert torch.equal(after[name], before[name]), name
        else:
            assert not torch.equal(after[name], before[name]), name


def test_no_gradient_passes_stopbackward():
    net = network()
    stepper(net, freeze="backbone", freeze_mode="stopbackward").freezing.apply(0)
    assert all(feature.grad_fn is None for feature in net.backbone(torch.rand(2, 3, 32, 64)))


def test_stopbackward_of_a_cfg_decays_as_in_darknet():
    """Darknet's update runs for earlier layers, too: their weights decay and their statistics update."""
    text = f"[net]\nwidth=32\nheight=32\nchannels=3\n{CONV}{CONV}stopbackward=1\n{CONV}"
    torch.manual_seed(0)
    net = darknet.load(darknet.parse_cfg(text)).initialise()
    before = state(net)
    stepper(net)(0, [batch()], 0.25)
    after = net.state_dict()
    for layer in ("layers.0", "layers.1"):
        torch.testing.assert_close(after[f"{layer}.conv.weight"], 0.875 * before[f"{layer}.conv.weight"])
        assert torch.equal(after[f"{layer}.norm.weight"], before[f"{layer}.norm.weight"])
        assert not torch.equal(after[f"{layer}.norm.running_mean"], before[f"{layer}.norm.running_mean"])
    assert not torch.allclose(after["layers.2.conv.weight"], 0.875 * before["layers.2.conv.weight"])


# --- unfreezing


def test_from_unfreeze_at_on_all_layers_are_trained():
    net = network()
    made = stepper(net, freeze="backbone", unfreeze_at=1.5)  # 1.5 epochs of 1.5 steps: frozen in steps 0, 1, 2
    before = state(net)
    for step in range(3):
        made(step, [batch(step)], 0.01)
    assert not any(name.startswith("backbone.") for name in changed(before, net))
    made(3, [batch(3)], 0.01)
    after = changed(before, net)
    assert all(name in after for name in before if name.startswith("backbone."))


def test_the_step_from_which_layers_are_trained():
    """After two epochs of 1.5 steps: steps 0, 1, 2 are frozen."""
    net = network()
    freezing = Freezing(net, TrainConfig(freeze="backbone", unfreeze_at=2), 1.5)
    for step, is_trained in ((2, False), (3, True)):
        freezing.apply(step)
        assert {p.requires_grad for p in net.backbone.parameters()} == {is_trained}
        freezing.fill_gradients(step)
        assert all((p.grad is not None) == is_trained for p in net.backbone.parameters())


@pytest.mark.parametrize("mode", ["frozen", "stopbackward"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_resuming_across_unfreezing_is_exact(mode, optimizer):
    changes = {"freeze": "backbone", "unfreeze_at": 2, "freeze_mode": mode, "optimizer": optimizer}
    whole = stepper(network(), **changes)
    for step in range(6):
        whole(step, [batch(step)], 0.01)
    for stop in (2, 3, 4):  # before, at and after the first unfrozen step
        first = stepper(network(), **changes)
        for step in range(stop):
            first(step, [batch(step)], 0.01)
        second = stepper(network(), **changes)
        second.network.load_state_dict(first.network.state_dict())
        second.restore(first.state())
        for step in range(stop, 6):
            second(step, [batch(step)], 0.01)
        assert changed(state(whole.network), second.network) == set(), stop


def test_frozen_batch_norm_stays_frozen_after_its_layer_is_unfrozen():
    net = network("frozen")
    made = stepper(net, freeze="backbone", unfreeze_at=1, steps_per_epoch=1)
    before = state(net)
    for step in range(2):
        made(step, [batch(step)], 0.01)
    names = changed(before, net)
    assert "backbone.fine.0.0.conv.weight" in names
    assert not any(".norm." in name for name in names)


# --- notes


def test_a_note_lists_the_frozen_layers():
    net = network()
    (note,) = Freezing(net, TrainConfig(freeze="backbone", unfreeze_at=2), 1.25).notes()
    backbone, total = (sum(p.numel() for p in part.parameters()) for part in (net.backbone, net))
    assert note == (
        f"frozen until step 3: 18 of 23 layers, {backbone:,} of {total:,} parameters: "
        f"backbone.fine.0.0 to backbone.coarse.5"
    )
    (note,) = Freezing(net, TrainConfig(freeze="head", freeze_mode="stopbackward")).notes()
    assert note.endswith("head; their weights decay and their statistics update (stopbackward)")
    assert note.startswith("frozen: 1 of 23 layers")
    assert list(Freezing(net, TrainConfig()).notes()) == []


def test_a_note_warns_of_frozen_norms_without_statistics():
    net = network("frozen")
    (note,) = Freezing(net, TrainConfig()).notes()
    assert note.startswith("warning: 22 frozen norms have no statistics and change nothing, first: backbone.fine.0.0")
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean[0] = 0.5
    assert list(Freezing(net, TrainConfig()).notes()) == []


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_restored_run_may_have_other_lr_factors(optimizer):
    """Optimiser state stays with its parameter, even if the parameter groups differ."""
    before, after = {"backbone.fine.2.1": 0.5}, {"backbone.fine.2.2": 0.25, "head": 2.0}
    first = stepper(network(), optimizer=optimizer, lr_factors=before)
    for step in range(2):
        first(step, [batch(step)], 0.01)
    second = stepper(network(), optimizer=optimizer, lr_factors=after)
    second.network.load_state_dict(first.network.state_dict())
    second.restore(first.state())
    source = dict(first.network.named_parameters())
    target = dict(second.network.named_parameters())
    for name, parameter in target.items():
        for key, value in second.optimizer.state[parameter].items():
            assert torch.equal(value, first.optimizer.state[source[name]][key]), (name, key)
    factors = {name: group.get("lr_factor", 1) for group in second.optimizer.param_groups for name in target
           if any(target[name] is each for each in group["params"])}  # fmt: skip
    assert factors["backbone.fine.2.2.conv.weight"] == 0.25
    assert factors["backbone.fine.2.1.conv.weight"] == 1
    second(2, [batch(2)], 0.01)
    assert all(parameter.isfinite().all() for parameter in target.values())
