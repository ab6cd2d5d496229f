"""Write a model of this package as a cfg that Darknet can run."""

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
    """Return the cfg of a detector. `tree`: file name of its label tree; "": no tree.

    The convolutions are in the order of a weights file. Raises `WeightsError` for a model that a cfg cannot describe.
    """
    colours = {name: getattr(config.data.augment, name) for name in ("saturation", "exposure", "hue")}
    stretch = {"letter_box": 0} if config.data.resize_mode == "stretch" else {}  # AlexeyAB's fork reads it
    sections: list[tuple[str, Options]] = [("net", {**_net(config), **stretch, **colours})]
    fine, coarse = _stages(network.backbone)
    sections += _chain(fine)
    last_fine = len(sections) - 2  # [net] is not a layer
    sections += _chain(coarse)
    if isinstance(network.neck, PassthroughNeck):
        sections += _passthrough_neck(network.neck, last_fine, len(sections) - 1)
    else:
        sections += _chain(network.neck)
    sections += [("convolutional", _last_convolution(network.head.conv)), ("region", _region(network, config, tree))]
    return "\n".join(_section(name, options) for name, options in sections)


def classifier_cfg_text(network: Classifier, config: ClassifierConfig, tree: str = "") -> str:
    """Return the cfg of a classifier, as `cfg_text`.

    The layers after the last convolution are those of `darknet19.cfg`.
    """
    augment = config.data.augment
    augmentation: Options = {}
    if augment.geometry == "darknet":
        augmentation = {key: getattr(augment, key) for key in ("angle", "aspect", "saturation", "exposure", "hue")}
        augmentation["min_crop"], augmentation["max_crop"] = augment.crop_sizes(config.data.size)
    sections: list[tuple[str, Options]] = [("net", {**_net(config), **augmentation})]
    for stage in _stages(network.backbone):
        sections += _chain(stage)
    softmax: Options = {"groups": 1, **({"tree": tree} if tree else {})}
    sections += [
        ("convolutional", _last_convolution(network.last)),
        ("avgpool", {}),
        ("softmax", softmax),
        ("cost", {"type": "sse"}),
    ]
    return "\n".join(_section(name, options) for name, options in sections)


def _stages(backbone: Backbone) -> tuple[nn.Module, nn.Module]:
    """Return the layers up to stride 16 and the rest. Raises `WeightsError` for a torchvision backbone."""
    if isinstance(backbone, TorchvisionBackbone):
        raise WeightsError(f"model.backbone: torchvision's {backbone.name} cannot be written as a Darknet cfg")
    return backbone.fine, backbone.coarse


def _section(name: str, options: Options) -> str:
    lines = [f"{key}={_format(value)}" for key, value in options.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def _format(value: object) -> str:
    """Format an option; a float as its shortest decimal that reads back as the same float32."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return np.format_float_positional(np.float32(value), trim="-")
    return str(value)


def _net(config: Config | ClassifierConfig) -> Options:
    """Return the options of `[net]` (`parser.c: parse_net_options`)."""
    train, (width, height) = config.train, config.data.size
    options: Options = {
        "batch": train.batch, "subdivisions": train.accumulate, "width": width, "height": height, "channels": 3,
        "momentum": train.momentum, "decay": train.weight_decay,
        "learning_rate": train.lr, "burn_in": train.warmup,
        "power": train.warmup_power, "max_batches": train.steps or 0,
    }  # fmt: skip
    return {**options, **_policy(train)}


def _policy(train: TrainConfig) -> Options:
    """Return the options of the lr schedule (`network.c: get_current_rate`); constant if Darknet does not have it."""
    schedule = train.schedule
    if schedule.policy == "steps" and schedule.unit == "step":
        at, scales = map(math.ceil, schedule.at), map(float, schedule.scales)
        return {"policy": "steps", "steps": ",".join(map(_format, at)), "scales": ",".join(map(_format, scales))}
    if schedule.policy == "poly" and schedule.power == train.warmup_power:
        return {"policy": "poly"}
    if schedule.policy == "step":
        return {"policy": "step", "step": schedule.every, "scale": schedule.gamma}
    if schedule.policy == "exp":
        return {"policy": "exp", "gamma": schedule.gamma}
    if schedule.policy == "sigmoid":
        return {"policy": "sigmoid", "gamma": schedule.gamma, "step": schedule.every}
    return {"policy": "constant"}


def _chain(module: nn.Module) -> Iterator[tuple[str, Options]]:
    """Yield the sections of a module that is a chain of layers."""
    for layer in module.modules():
        if isinstance(layer, ConvBlock):
            yield "convolutional", _convolution(layer)
        elif isinstance(layer, MaxPool):
            yield "maxpool", {"size": layer.size, "stride": layer.stride, "padding": layer.padding}
        elif isinstance(layer, Reorg):
            yield "reorg", {"stride": layer.stride}


def _convolution(block: ConvBlock) -> Options:
    """Return the options of a convolution (`parser.c: parse_convolutional`)."""
    conv, norm = block.conv, block.norm
    if isinstance(norm, nn.GroupNorm):
        raise WeightsError("model.norm.kind: Darknet has batch norm or none; group norm cannot be written")
    if isinstance(norm, BatchNorm) and norm.eps != EPS:
        raise WeightsError(f"model.norm.eps: Darknet's is {EPS:g}; {norm.eps:g} cannot be written")
    return {
        "batch_normalize": isinstance(norm, BatchNorm), "filters": conv.out_channels, "size": conv.kernel_size[0],
        "stride": conv.stride[0], "pad": True, "activation": "leaky",
    }  # fmt: skip


def _passthrough_neck(neck: PassthroughNeck, fine: int, start: int) -> Iterator[tuple[str, Options]]:
    """Yield the sections of the neck. `start`: index of its first layer. `fine`: index of the passthrough's source."""
    deepen = list(_chain(neck.deepen))
    yield from deepen
    if neck.passthrough is not None:
        deep = start + len(deepen) - 1
        passthrough = list(_chain(neck.passthrough))
        yield "route", {"layers": str(fine)}
        yield from passthrough
        reorg = deep + 1 + len(passthrough)
        yield "route", {"layers": f"{reorg},{deep}"}
    yield "convolutional", _convolution(neck.join)


def _last_convolution(conv: nn.Conv2d) -> Options:
    """Return the options of a 1x1 convolution without norm and activation."""
    return {"filters": conv.out_channels, "size": 1, "stride": 1, "pad": True, "activation": "linear"}


def _region(network: DetectionNetwork, config: Config, tree: str) -> Options:
    """Return the options of `[region]` (`parser.c: parse_region`)."""
    if config.model.location != "direct":
        raise WeightsError(f"model.location: Darknet's is direct; {config.model.location} cannot be written")
    loss = config.loss
    options: Options = {
        "anchors": ",".join(_format(float(side)) for side in network.anchors.flatten().tolist()),
        "num": len(network.anchors), "classes": network.head.num_labels, "coords": 4,
        "softmax": config.model.classes == "softmax", "bias_match": loss.bias_match, "rescore": loss.rescore,
        "object_scale": loss.object_scale, "noobject_scale": loss.noobject_scale, "class_scale": loss.class_scale,
        "coord_scale": loss.coord_scale, "thresh": loss.thresh, "jitter": config.data.augment.jitter,
        "absolute": 1, "random": bool(config.data.sizes),
    }  # fmt: skip
    return {**options, "tree": tree} if tree else options
