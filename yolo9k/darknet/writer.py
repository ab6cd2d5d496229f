"""A package model written as a cfg, so that it runs in Darknet."""

import math
from collections.abc import Iterator

import numpy as np
from torch import nn

from yolo9k.config.schema import Config, TrainConfig
from yolo9k.darknet.layers import EPS
from yolo9k.errors import WeightsError
from yolo9k.models.layers import ConvBlock, MaxPool, Reorg
from yolo9k.models.yolov2 import DetectionNetwork, PassthroughNeck

Options = dict[str, object]


def cfg_text(network: DetectionNetwork, config: Config, tree: str = "") -> str:
    """The cfg of a network that `config` describes; `tree`: the name of its tree's file, where it has one.

    Its convolutions come in the order of a weights file. Raises `WeightsError` for what no cfg can say.
    """
    sections: list[tuple[str, Options]] = [("net", _net(config))]
    number = 0  # of the next layer
    for stage in (network.backbone.fine, network.backbone.coarse):
        sections += _plain(stage)
        if stage is network.backbone.fine:
            number = len(sections) - 2  # the last layer of stride 16
    if isinstance(network.neck, PassthroughNeck):
        sections += _passthrough_neck(network.neck, number, len(sections) - 1)
    else:
        sections += _plain(network.neck)
    sections += [("convolutional", _head(network)), ("region", _region(network, config, tree))]
    return "\n".join(_section(name, options) for name, options in sections)


def _section(name: str, options: Options) -> str:
    lines = [f"{key}={_written(value)}" for key, value in options.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _written(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return np.format_float_positional(np.float32(value), trim="-")  # the shortest that reads back equal
    return str(value)


def _net(config: Config) -> Options:
    train, (width, height) = config.train, config.data.size
    options: Options = {
        "batch": train.batch, "subdivisions": train.accumulate, "width": width, "height": height, "channels": 3,
        "momentum": train.momentum, "decay": train.weight_decay,
        "saturation": config.data.augment.saturation, "exposure": config.data.augment.exposure,
        "hue": config.data.augment.hue, "learning_rate": train.lr, "burn_in": train.burn_in,
        "power": train.burn_in_power, "max_batches": train.steps or 0,
    }  # fmt: skip
    return {**options, **_policy(train)}


def _policy(train: TrainConfig) -> Options:
    """The schedule in Darknet's words, where it has them; else a constant rate."""
    schedule = train.schedule
    if schedule.policy == "steps" and schedule.unit == "step":
        at, scales = map(math.ceil, schedule.at), map(float, schedule.scales)
        return {"policy": "steps", "steps": ",".join(map(_written, at)), "scales": ",".join(map(_written, scales))}
    if schedule.policy == "poly" and schedule.power == train.burn_in_power:
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
    if not isinstance(block.norm, nn.BatchNorm2d):
        raise WeightsError("a model whose batch norms are folded cannot be written as a cfg")
    if block.norm.eps != EPS:
        raise WeightsError(f"model.norm.eps: Darknet's is {EPS:g}; a model with {block.norm.eps:g} cannot be written")
    conv = block.conv
    return {
        "batch_normalize": True, "filters": conv.out_channels, "size": conv.kernel_size[0],
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


def _head(network: DetectionNetwork) -> Options:
    filters = network.head.conv.out_channels
    return {"filters": filters, "size": 1, "stride": 1, "pad": True, "activation": "linear"}


def _region(network: DetectionNetwork, config: Config, tree: str) -> Options:
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
