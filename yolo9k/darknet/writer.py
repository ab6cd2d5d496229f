"""A package model written as a cfg, so that it runs in Darknet."""

import math
from collections.abc import Iterator

import numpy as np
from torch import nn

from yolo9k.config.classifier import ClassifierConfig
from yolo9k.config.schema import Config, TrainConfig
from yolo9k.darknet.layers import EPS
from yolo9k.errors import WeightsError
from yolo9k.models.darknet19 import Backbone, Classifier
from yolo9k.models.layers import ConvBlock, MaxPool, Reorg
from yolo9k.models.norms import BatchNorm
from yolo9k.models.torchvision_backbone import TorchvisionBackbone
from yolo9k.models.yolov2 import DetectionNetwork, PassthroughNeck

Options = dict[str, object]


def cfg_text(network: DetectionNetwork, config: Config, tree: str = "") -> str:
    """The cfg of a network that `config` describes; `tree`: the name of its tree's file, where it has one.

    Its convolutions come in the order of a weights file. Raises `WeightsError` for what no cfg can say.
    """
    colours = {name: getattr(config.data.augment, name) for name in ("saturation", "exposure", "hue")}
    sections: list[tuple[str, Options]] = [("net", {**_net(config), **colours})]
    fine, coarse = _stages(network.backbone)
    sections += _plain(fine)
    last_fine = len(sections) - 2  # [net] has no number
    sections += _plain(coarse)
    if isinstance(network.neck, PassthroughNeck):
        sections += _passthrough_neck(network.neck, last_fine, len(sections) - 1)
    else:
        sections += _plain(network.neck)
    sections += [("convolutional", _last(network.head.conv)), ("region", _region(network, config, tree))]
    return "\n".join(_section(name, options) for name, options in sections)


def classifier_cfg_text(network: Classifier, config: ClassifierConfig, tree: str = "") -> str:
    """The cfg of a classifier, as `cfg_text`; the layers behind the last convolution are those of `darknet19.cfg`."""
    augment = config.data.augment
    changes: Options = {name: getattr(augment, name) for name in ("angle", "aspect", "saturation", "exposure", "hue")}
    changes["min_crop"], changes["max_crop"] = augment.crop_sizes(config.data.size)
    changes = changes if augment.geometry == "darknet" else {}
    sections: list[tuple[str, Options]] = [("net", {**_net(config), **changes})]
    for stage in _stages(network.backbone):
        sections += _plain(stage)
    ending: Options = {"groups": 1, **({"tree": tree} if tree else {})}
    sections += [
        ("convolutional", _last(network.last)),
        ("avgpool", {}),
        ("softmax", ending),
        ("cost", {"type": "sse"}),
    ]
    return "\n".join(_section(name, options) for name, options in sections)


def _stages(backbone: Backbone) -> tuple[nn.Module, nn.Module]:
    """The chain of layers up to stride 16, and what follows. Raises `WeightsError` for a backbone of torchvision."""
    if isinstance(backbone, TorchvisionBackbone):
        raise WeightsError(f"model.backbone: {backbone.name} of torchvision cannot be written as a Darknet cfg")
    return backbone.fine, backbone.coarse


def _section(name: str, options: Options) -> str:
    lines = [f"{key}={_written(value)}" for key, value in options.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return np.format_float_positional(np.float32(value), trim="-")  # the shortest that reads back equal
    return str(value)


def _net(config: Config | ClassifierConfig) -> Options:
    train, (width, height) = config.train, config.data.size
    options: Options = {
        "batch": train.batch, "subdivisions": train.accumulate, "width": width, "height": height, "channels": 3,
        "momentum": train.momentum, "decay": train.weight_decay,
        "learning_rate": train.lr, "burn_in": train.warmup,
        "power": train.warmup_power, "max_batches": train.steps or 0,
    }  # fmt: skip
    return {**options, **_policy(train)}


def _policy(train: TrainConfig) -> Options:
    """The schedule in Darknet's words, where it has them; else a constant rate."""
    schedule = train.schedule
    if schedule.policy == "steps" and schedule.unit == "step":
        at, scales = map(math.ceil, schedule.at), map(float, schedule.scales)
        return {"policy": "steps", "steps": ",".join(map(_written, at)), "scales": ",".join(map(_written, scales))}
    if schedule.policy == "poly" and schedule.power == train.warmup_power:
        return {"policy": "poly"}
    if schedule.policy == "step":
        return {"policy": "step", "step": schedule.every, "scale": schedule.gamma}
    if schedule.policy == "exp":
        return {"policy": "exp", "gamma": schedule.gamma}
    if schedule.policy == "sigmoid":
        return {"policy": "sigmoid", "gamma": schedule.gamma, "step": schedule.every}
    return {"policy": "constant"}


def _plain(module: nn.Module) -> Iterator[tuple[str, Options]]:
    """The layers of a part that is one chain."""
    for layer in module.modules():
        if isinstance(layer, ConvBlock):
            yield "convolutional", _convolution(layer)
        elif isinstance(layer, MaxPool):
            yield "maxpool", {"size": layer.size, "stride": layer.stride, "padding": layer.padding}
        elif isinstance(layer, Reorg):
            yield "reorg", {"stride": layer.stride}


def _convolution(block: ConvBlock) -> Options:
    conv, norm = block.conv, block.norm
    if isinstance(norm, nn.GroupNorm):
        raise WeightsError("model.norm.kind: Darknet has batch norm or none; a model with group norm cannot be written")
    if isinstance(norm, BatchNorm) and norm.eps != EPS:
        raise WeightsError(f"model.norm.eps: Darknet's is {EPS:g}; a model with {norm.eps:g} cannot be written")
    return {
        "batch_normalize": isinstance(norm, BatchNorm), "filters": conv.out_channels, "size": conv.kernel_size[0],
        "stride": conv.stride[0], "pad": True, "activation": "leaky",
    }  # fmt: skip


def _passthrough_neck(neck: PassthroughNeck, fine: int, start: int) -> Iterator[tuple[str, Options]]:
    """The neck, whose first layer has the number `start`; `fine` is the layer that is passed through."""
    deepen = list(_plain(neck.deepen))
    yield from deepen
    if neck.passthrough is not None:
        deep = start + len(deepen) - 1
        through = list(_plain(neck.passthrough))
        yield "route", {"layers": str(fine)}
        yield from through
        reorg = deep + 1 + len(through)
        yield "route", {"layers": f"{reorg},{deep}"}
    yield "convolutional", _convolution(neck.join)


def _last(conv: nn.Conv2d) -> Options:
    return {"filters": conv.out_channels, "size": 1, "stride": 1, "pad": True, "activation": "linear"}


def _region(network: DetectionNetwork, config: Config, tree: str) -> Options:
    if config.model.location != "direct":
        raise WeightsError(
            f"model.location: Darknet's is direct; a model with {config.model.location} cannot be written"
        )
    loss = config.loss
    options: Options = {
        "anchors": ",".join(_written(float(side)) for side in network.anchors.flatten().tolist()),
        "num": len(network.anchors), "classes": network.head.num_labels, "coords": 4,
        "softmax": config.model.classes == "softmax", "bias_match": loss.bias_match, "rescore": loss.rescore,
        "object_scale": loss.object_scale, "noobject_scale": loss.noobject_scale, "class_scale": loss.class_scale,
        "coord_scale": loss.coord_scale, "thresh": loss.thresh, "jitter": config.data.augment.jitter,
        "absolute": 1, "random": bool(config.data.sizes),
    }  # fmt: skip
    return {**options, "tree": tree} if tree else options
