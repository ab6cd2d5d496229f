"""Convert a cfg to a training config: the training recipe of `[net]`, the loss of `[region]`."""

from typing import Any, TypeVar

from pydantic import ValidationError

from yolo9k.config.classifier import CROP_SIZE, ClassifierConfig
from yolo9k.config.explain import explain
from yolo9k.config.schema import Config
from yolo9k.darknet.cfg import Cfg, Section
from yolo9k.darknet.cfg_options import POLICIES
from yolo9k.darknet.region import Region
from yolo9k.errors import WeightsError

MULTI_SCALE = tuple((side, side) for side in range(320, 609, 32))  # `detector.c: train_detector`

AnyConfig = TypeVar("AnyConfig", Config, ClassifierConfig)


def config_from_cfg(cfg: Cfg, *, training: bool = True) -> Config | ClassifierConfig:
    """Return the config that trains and runs a cfg's network as Darknet does; a `ClassifierConfig` without a region.

    `training`: with the options of training; else their defaults. Raises `WeightsError` with the line for an option
    that is invalid or not supported.
    """
    size, channels = list(cfg.size_wh), 1 if cfg.is_grey else 3
    data: dict[str, Any] = {"size": size, "resize": "darknet", "channels": channels}
    model: dict[str, Any] = {"name": "darknet", "cfg": cfg.text, "norm": {"momentum": 0.01, "eps": 1e-5}}
    values: dict[str, Any] = {"model": model, "data": data}
    if training:
        values["train"] = train_values(cfg.net)
    if not cfg.layers:
        raise WeightsError(f"{cfg.net.source}: has no layers; a cfg must have sections after [net]")
    if cfg.layers[-1].name != "region":
        if training:
            data["augment"] = _classifier_augment(cfg)
        return _validate(ClassifierConfig, cfg.net, {"task": "classify", **values})
    region = Region(cfg.region)
    anchors = [[float(w), float(h)] for w, h in region.anchors.tolist()]
    model |= {"anchors": anchors, "num_anchors": len(anchors), "classes": region.class_activation}
    data["resize_mode"] = "stretch" if cfg.stretches else "letterbox"
    if training:
        data |= {"augment": _detector_augment(cfg), "sizes": _multi_scale(region.section)}
        values["loss"] = region.loss.model_dump()
    return _validate(Config, cfg.net, values)


def _multi_scale(region: Section) -> list[list[int]]:
    return [list(size) for size in MULTI_SCALE] if region.get("random", 0) else []


def _detector_augment(cfg: Cfg) -> dict[str, Any]:
    """Return `data.augment` of a cfg with a region (`data.c: load_data_detection`, of AlexeyAB's fork `crop`)."""
    return {
        "geometry": "crop" if cfg.stretches else "fixed",
        "jitter": min(max(float(cfg.region.get("jitter", 0.2)), 0.0), 0.999),
        "min_visible": 0.0,  # Darknet trains on the thinnest visible part of a box
        **_colours(cfg.net),
    }


def _classifier_augment(cfg: Cfg) -> dict[str, Any]:
    """Return `data.augment` of a cfg without a region (`classifier.c: train_classifier`)."""
    net, size = cfg.net, cfg.size_wh
    return {
        "geometry": "darknet",
        "min_crop": _scale_to_crop_size(net.integer("min_crop", size[0], minimum=1), size),
        "max_crop": _scale_to_crop_size(net.integer("max_crop", 2 * size[0], minimum=1), size),
        "angle": float(net.get("angle", 0.0)),
        "aspect": float(net.get("aspect", 1.0)),
        **_colours(net),
    }


def _colours(net: Section) -> dict[str, float]:
    defaults = {"hue": 0.0, "saturation": 1.0, "exposure": 1.0}
    return {key: float(net.get(key, default)) for key, default in defaults.items()}


def _scale_to_crop_size(length: int, size_wh: tuple[int, int]) -> int:
    """Scale a length in pixels from a network of `size_wh` to one of `CROP_SIZE`: the inverse of `crop_sizes`."""
    return max(1, round(length * CROP_SIZE / min(size_wh)))


def _validate(config_class: type[AnyConfig], net: Section, values: dict[str, Any]) -> AnyConfig:
    try:
        return config_class.model_validate(values)
    except ValidationError as error:
        raise WeightsError(f"{net.location}: invalid config: {explain(config_class, error)}") from error


def train_values(net: Section) -> dict[str, Any]:
    """Return the config section `train` for a cfg's `[net]` (`parser.c: parse_net_options`).

    Raises `WeightsError` with the line.
    """
    batch = net.integer("batch", 1, minimum=1)
    accumulate = min(net.integer("subdivisions", 1, minimum=1), batch)  # Darknet would compute batches of 0 images
    batch -= batch % accumulate  # as Darknet does
    power = float(net.get("power", 4.0))
    return {
        "batch": batch,
        "accumulate": accumulate,
        "steps": net.integer("max_batches", 0, minimum=0, maximum=1 << 31) or None,
        "lr": float(net.get("learning_rate", 0.001)),
        "momentum": float(net.get("momentum", 0.9)),
        "weight_decay": float(net.get("decay", 0.0001)),
        "warmup": net.integer("burn_in", 0, minimum=0),
        "warmup_power": power,
        "schedule": _schedule(net, power),
    }


def _schedule(net: Section, power: float) -> dict[str, Any]:
    """Return the config section `train.schedule` (`network.c: get_current_rate`)."""
    policy = net.get("policy", "constant")
    if policy == "random":
        raise net.error("policy", f"not supported; must be one of {', '.join(POLICIES[:-1])}")
    if policy == "steps":
        at, scales = net.get("steps", ()), net.get("scales", ())
        if len(at) != len(scales) or not at:
            raise net.error("steps", f"{len(at)} steps and {len(scales)} scales; must be equally many, at least 1")
        return {"policy": "steps", "at": [max(step, 0) for step in at], "scales": scales}
    if policy not in POLICIES:  # Darknet prints a message and uses a constant learning rate
        policy = "constant"
    every = max(net.get("step", 1), 1)
    gamma = float(net.get("scale", 1.0) if policy == "step" else net.get("gamma", 1.0))
    return {"policy": policy, "power": power, "every": every, "gamma": gamma}
