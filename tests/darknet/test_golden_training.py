"""Losses, gradients and five optimiser steps against Darknet's arrays (golden `train-*`, `classifier/*`)."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from yolo9k import darknet
from yolo9k.config.schema import TrainConfig
from yolo9k.darknet.recipe import config_from_cfg, train_values
from yolo9k.darknet.weights import conv_layers
from yolo9k.samples import Batch
from yolo9k.training.schedule import learning_rate
from yolo9k.training.step import Stepper
from yolo9k.training.tasks.classification import ClassificationStep
from yolo9k.training.tasks.detection import DetectionStep
from yolo9k.wordtree.prediction import predict_labels

LOOSE = 2e-4  # after five optimiser steps

V2 = [
    "base", "warm", "warm_last", "norescore", "nobiasmatch", "nobiasmatch_norescore_warm", "noabsolute",
    "thresh", "scales", "nosoftmax", "cut", "empty", "half_empty",
]  # fmt: skip
TREE = [
    "det", "det_warm", "cls", "cls_warm", "mix", "mix_warm", "inmix", "mapped", "mapped_mix", "norescore", "scales",
    "nosoftmaxflag",
]  # fmt: skip
RUNS = [("train-v2", run) for run in ("u_const", "u_cross", "u_steps", "u_subdiv")]
RUNS += [("train-9k", run) for run in ("u_mix", "u_cls", "u_det")]


@pytest.mark.parametrize(("folder", "name"), [("train-v2", n) for n in V2] + [("train-9k", n) for n in TREE])
def test_gradient_of_every_region_variant(golden, folder, name):
    case = golden(folder)
    variants = {variant["name"]: variant for variant in case.variants()["region_variants"]}
    assert set(variants) == set(V2 if folder == "train-v2" else TREE)
    variant = variants[name]
    loss = darknet.region_loss(case.folder / variant["cfg"])
    raw = torch.from_numpy(case.expected["region_in"]).requires_grad_()
    loss(raw, case.tensor(variant["truth"]), seen=variant["seen_during_forward"]).backward()
    case.equal(f"delta_pre_{name}", -raw.grad)
    # Darknet's delta is the gradient of the activated x, y and objectness; its cost is the sum of squared deltas.
    activated = loss.region.activate(raw.detach(), loss.scores)
    case.equal(variant["region_out"], activated)
    slope = activated * (1 - activated)
    slope[:, :, 2:4], slope[:, :, 5:] = 1, 1
    delta = -raw.grad / slope
    case.equal(f"delta_{name}", delta)
    assert delta.square().sum().item() == pytest.approx(float(case.expected[f"cost_{name}"]), rel=5e-5)


@pytest.mark.parametrize("folder", ["train-v2", "train-9k"])
@torch.no_grad()
def test_the_feature_map_of_a_batch_in_training(golden, folder):
    case = golden(folder)
    net = case.net().train()
    raw = net(case.tensor("image"))
    case.equal("region_in_cudnn", raw.reshape(case.expected["region_in_cudnn"].shape))


def cpu_training_norm(x, norm):
    """Normalise as Darknet's CPU build: unbiased variance, 1e-6 outside the root (`blas.c: normalize_cpu`)."""
    variance, mean = torch.var_mean(x, dim=(0, 2, 3), keepdim=True)
    return (x - mean) / (variance.sqrt() + 1e-6) * norm.weight[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize("folder", ["train-v2", "train-9k"])
@torch.no_grad()
def test_statistics_of_a_batch_on_the_cpu_build(golden, folder):
    """Replace the norms by the CPU build's, which this package does not have; the other layers must agree."""
    case = golden(folder)
    net = case.net().train()
    for index, layer in enumerate(net.layers):
        if isinstance(getattr(layer, "norm", None), nn.BatchNorm2d):

            def normalise(norm, inputs, _output, index=index):
                (x,) = inputs
                case.equal(f"bn_mean_L{index:02d}", x.mean(dim=(0, 2, 3)))
                case.equal(f"bn_variance_L{index:02d}", x.var(dim=(0, 2, 3)))
                return cpu_training_norm(x, norm)

            layer.norm.register_forward_hook(normalise)
    case.equal("region_in", net(case.tensor("image")).reshape(case.expected["region_in"].shape))


def named_tensors(net):
    """Yield the tensors of every convolution with their keys in the golden data, `Lnn_name`."""
    for layer in conv_layers(net):
        index = int(layer.name.split(".")[1])
        names = ("biases", "weights") if len(layer.tensors) == 2 else (
            "biases", "scales", "rolling_mean", "rolling_variance", "weights",
        )  # fmt: skip
        yield from ((f"L{index:02d}_{name}", tensor) for name, tensor in zip(names, layer.tensors, strict=True))


def compare_tensors(case, net, prefix, tolerance, values=lambda tensor: tensor.detach()):
    tensors = dict(named_tensors(net))
    keys = [key for key in case.expected if key.startswith(f"{prefix}_L")]
    assert keys
    for key in keys:
        case.equal(key, values(tensors[key.removeprefix(f"{prefix}_")]), tolerance)


@pytest.mark.parametrize(("folder", "run"), RUNS)
def test_five_steps_of_the_detector(golden, folder, run):
    case = golden(folder)
    log = next(r for r in case.variants()["update_runs"] if r["name"] == run and r["bn"] == "cudnn")
    net = case.net(cfg=f"net_{run}.cfg").train()
    config = config_from_cfg(net.cfg)
    loss = darknet.region_loss(net.cfg)
    images, targets = case.tensor(log["image"]), case.tensor(log["truth"])
    step = DetectionStep(net, loss.loss, device=torch.device("cpu"), precision="float32", batch_size=config.train.batch)
    stepper = Stepper(step, config.train, torch.contiguous_format)
    size = config.train.batch // config.train.accumulate
    micro_batches = [
        loss.batch(images[start : start + size], targets[start : start + size]) for start in range(0, len(images), size)
    ]
    first = log["seen_before_first"] // config.train.batch
    compare_first_gradient(case, net, step, micro_batches, log, f"grad1_{run}_cudnn", config.train.batch)
    for index, entry in enumerate(log["log"]):
        lr = learning_rate(first + index + 1, config.train.steps, 1.0, config.train)
        assert lr == pytest.approx(entry["rate"], rel=1e-6)
        assert (first + index + 1) * config.train.batch == entry["seen"]
        stepper(first + index, micro_batches, lr)
        if index in (0, 4):
            tolerance = LOOSE if index else 5e-5
            compare_tensors(case, net, f"after{index + 1}_{run}_cudnn", tolerance)


def compare_first_gradient(case, net, step, micro_batches, log, prefix, images):
    """Compare the gradient before the first step; Darknet's has the opposite sign and is a sum over images."""
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    seen = log["seen_before_first"]
    for micro_batch in micro_batches:
        seen += len(micro_batch)
        torch.stack(list(step(micro_batch, micro_batch.images, seen).values())).sum().backward()
    compare_tensors(case, net, prefix, 5e-5, values=lambda tensor: -tensor.grad * images)
    net.zero_grad(set_to_none=True)
    for name, buffer in net.named_buffers():
        buffer.copy_(buffers[name])


@pytest.mark.parametrize("folder", ["flat", "tree"])
@torch.no_grad()
def test_classifier_layers_and_scores(golden, folder):
    case = golden("classifier", folder)
    image, net = case.tensor("image"), case.net("cpu")
    outputs = net.layer_outputs(image)
    keys = [key for key in case.expected if key.startswith("L")]
    for key, output in zip(keys, outputs, strict=True):
        case.equal(key, output)
    case.equal("probs", outputs[-1])
    cudnn = case.net()
    case.equal("probs_cudnn", cudnn.layer_outputs(image)[-1])
    scores = net.scores()
    case.equal("topk", predict_labels(scores, net(image), case.expected["topk"].shape[1]).label)
    if folder == "tree":
        tree = net.labels
        absolute = scores.absolute(net(image)).exp()
        case.equal("abs_prob_all", absolute)
        case.equal("abs_prob_leaves", absolute * torch.from_numpy(tree.child_group < 0))
        arrays = {
            "parent": tree.parents, "group": tree.group, "child": tree.child_group, "leaf": tree.leaves.astype(int),
        }  # fmt: skip
        for name, values in arrays.items():
            case.equal(f"tree_{name}", values)
        thresholds = [float(value) for value in case.expected["top_thresholds"]]
        case.equal("top_thresholds", thresholds)
        for key, values in (("hierarchy_top", outputs[-1]), ("hierarchy_top_on_abs", absolute)):
            case.equal(key, torch.stack([scores.descend(values, value) for value in thresholds]))
        for row, value in zip(case.expected["hierarchy_top"], thresholds, strict=True):
            assert predict_labels(scores, net(image), 1, value).descent_label.tolist() == row.tolist()


@pytest.mark.parametrize("folder", ["flat", "tree"])
@torch.no_grad()
def test_the_logits_of_a_classifier_in_training_on_the_cpu_build(golden, folder):
    case = golden("classifier", folder)
    net = case.net().train()
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.register_forward_hook(lambda norm, inputs, _output: cpu_training_norm(inputs[0], norm))
    case.equal("train_logits", net(case.tensor("image")))


@pytest.mark.parametrize("folder", ["flat", "tree"])
def test_classifier_loss(golden, folder):
    case = golden("classifier", folder)
    net = case.net()
    scores, label = net.scores(), case.tensor("label").long()
    logits = torch.from_numpy(case.expected["train_logits"]).requires_grad_()
    loss = scores.path_losses(scores.gather_path(logits, label), label)
    loss.sum().backward()
    case.equal("train_delta", -logits.grad)
    assert loss.sum().item() == pytest.approx(float(case.expected["train_cost"]), rel=5e-5)
    elementwise = np.zeros_like(case.expected["train_loss"])
    rows = np.arange(len(label))[:, None]
    np.add.at(elementwise, (rows, scores.path[label].numpy()), loss.detach().numpy())
    case.equal("train_loss", elementwise)
    case.equal("train_probs", scores.conditional(logits).exp())


@pytest.mark.parametrize("folder", ["flat", "tree"])
def test_five_steps_of_the_classifier(golden, folder):
    case = golden("classifier", folder)
    (log,) = [run for run in case.variants()["update_runs"] if run["bn"] == "cudnn"]
    net = case.net().train()
    config = config_from_cfg(net.cfg).train
    step = ClassificationStep(
        net, net.scores(), smoothing=0.0, mixup=0.0, seed=0,
        device=torch.device("cpu"), precision="float32", batch_size=config.batch,
    )  # fmt: skip
    batch = labelled_batch(case.tensor("image"), case.tensor("label").long())
    stepper = Stepper(step, config, torch.contiguous_format)
    compare_first_gradient(case, net, step, [batch], {"seen_before_first": 0}, "grad1_cudnn", config.batch)
    for index, entry in enumerate(log["log"]):
        lr = learning_rate(index + 1, config.steps, 1.0, config)
        assert lr == pytest.approx(entry["rate"], rel=1e-6)
        cost = stepper(index, [batch], lr)["classification"] * config.batch
        assert cost.item() == pytest.approx(entry["cost"], rel=2e-4)
        if index in (0, 4):
            compare_tensors(case, net, f"after{index + 1}_cudnn", LOOSE if index else 5e-5)


def labelled_batch(images, label):
    """Return a batch with one image-level label per image and no boxes."""
    none = torch.zeros(0, dtype=torch.int64)
    return Batch(
        images=images, image_index=none, xyxy=torch.zeros(0, 4), label=none, ignore=none.bool(),
        labelled_image=torch.arange(len(images)), image_label=label,
    )  # fmt: skip


EXCLUDED = {
    "_cpu_": "training uses cuDNN's batch norm, which differs from the CPU build's",
    "train_cost": "compared as a scalar",
    "cost_": "compared as scalars",
}


@pytest.mark.parametrize("folder", ["train-v2", "train-9k", "classifier/flat", "classifier/tree"])
def test_all_arrays_are_compared(golden, folder):
    if folder.startswith("train"):
        for name in V2 if folder == "train-v2" else TREE:
            test_gradient_of_every_region_variant(golden, folder, name)
        test_the_feature_map_of_a_batch_in_training(golden, folder)
        test_statistics_of_a_batch_on_the_cpu_build(golden, folder)
        for _, run in (pair for pair in RUNS if pair[0] == folder):
            test_five_steps_of_the_detector(golden, folder, run)
        case = golden(folder)
    else:
        kind = folder.rpartition("/")[2]
        test_classifier_layers_and_scores(golden, kind)
        test_the_logits_of_a_classifier_in_training_on_the_cpu_build(golden, kind)
        test_classifier_loss(golden, kind)
        test_five_steps_of_the_classifier(golden, kind)
        case = golden("classifier", kind)
    missing = set(case.expected) - case.compared
    assert [key for key in missing if not any(part in key for part in EXCLUDED)] == []


def test_learning_rates_of_every_policy(shared):
    folder = shared("golden", "darknet", "lr")
    for case in json.loads((folder / "lr.json").read_text()):
        cfg = darknet.read_cfg(folder / case["cfg"])
        config = TrainConfig.model_validate(train_values(cfg.net))
        assert config.batch == case["net_batch"] * case["subdivisions"]
        pairs = list(zip(case["batch_num"], case["rate"], strict=True))
        pairs += [(seen // config.batch, rate) for seen, rate in case.get("seen_rate", [])]
        for step, expected in pairs:
            if step > config.steps and "poly" in case["name"]:
                continue  # Darknet's learning rate rises again after max_batches; a run ends there
            lr = learning_rate(step, config.steps, 1.0, config)
            assert math.isclose(lr, expected, rel_tol=1e-5, abs_tol=1e-6 * config.lr), (case["name"], step)
