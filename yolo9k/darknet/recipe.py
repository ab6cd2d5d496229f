"""What a cfg says of training, as a `Config`: the recipe of `[net]`, the loss of `[region]`."""

from typing import Any, TypeVar

from pydantic import ValidationError

from yolo9k.config.classifier import CROP_SIZE, ClassifierConfig
from yolo9k.config.schema import Config
from yolo9k.darknet.cfg import Cfg, Section
from yolo9k.darknet.region import Region
from yolo9k.errors import WeightsError

MULTI_SCALE = tuple((side, side) for side in range(320, 609, 32))  # `detector.c: train_detector`
POLICIES = ("constant", "step", "steps", "exp", "poly", "sigmoid")


Run = TypeVar("Run", Config, ClassifierConfig)


def config_of(cfg: Cfg) -> Config | ClassifierConfig:
    """The config that trains and runs a cfg's network as Darknet does: a classifier's where it has no region.

    Raises `WeightsError` with the line for what this program does not do.
    """
    net = cfg.net
    if cfg.layers[-1].name != "region":
        return _config(ClassifierConfig, net, _classifier_values(cfg))
    region = Region(cfg.region)
    anchors = [[float(w), float(h)] for w, h in region.anchors.tolist()]
    augment = {
        "geometry": "fixed",
        "jitter": min(max(float(region.section.get("jitter", 0.2)), 0.0), 0.999),
        "hue": float(net.get("hue", 0.0)),
        "saturation": float(net.get("saturation", 1.0)),
        "exposure": float(net.get("exposure", 1.0)),
        "min_visible": 0.0,  # the least sliver of a box is learnt
    }
    data = {
        "size": list(cfg.size_wh),
        "sizes": [list(size) for size in MULTI_SCALE] if region.section.get("random", 0) else [],
        "resize": "darknet",
        "augment": augment,
    }
    model = {
        "name": "darknet", "cfg": cfg.text, "anchors": anchors, "num_anchors": len(anchors), "classes": region.kind,
        "norm": {"momentum": 0.01, "eps": 1e-5},
    }  # fmt: skip
    loss = region.loss.model_dump()
    return _config(Config, net, {"model": model, "data": data, "loss": loss, "train": train_values(net)})


def _classifier_values(cfg: Cfg) -> dict[str, Any]:
    """The config of a cfg without a region (`classifier.c: train_classifier`)."""
    net, size = cfg.net, cfg.size_wh
    augment = {
        "geometry": "darknet",
        "min_crop": _for_crop_size(net.integer("min_crop", size[0], least=1), size),
        "max_crop": _for_crop_size(net.integer("max_crop", 2 * size[0], least=1), size),
        "angle": float(net.get("angle", 0.0)),
        "aspect": float(net.get("aspect", 1.0)),
        "hue": float(net.get("hue", 0.0)),
        "saturation": float(net.get("saturation", 1.0)),
        "exposure": float(net.get("exposure", 1.0)),
    }
    return {
        "task": "classify",
        "model": {"name": "darknet", "cfg": cfg.text, "norm": {"momentum": 0.01, "eps": 1e-5}},
        "data": {"size": list(size), "resize": "darknet", "augment": augment},
        "train": train_values(net),
    }


def _for_crop_size(length: int, size_wh: tuple[int, int]) -> int:
    """A length in pixels for a network of that size, as one of `CROP_SIZE` has it: `crop_sizes` the other way round."""
    return max(1, round(length * CROP_SIZE / min(size_wh)))


def _config(kind: type[Run], net: Section, values: dict[str, Any]) -> Run:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise WeightsError(f"{net.place}: cannot be used: {key}: {' '.join(first['msg'].split())}") from error


def train_values(net: Section) -> dict[str, Any]:
    """The section `train` of a config from a cfg's `[net]`. Raises `WeightsError` with the line."""
    parts = net.integer("subdivisions", 1, least=1)
    batch = max(net.integer("batch", 1, least=1) // parts, 1) * parts
    power = float(net.get("power", 4.0))
    return {
        "batch": batch,
        "accumulate": parts,
        "steps": net.integer("max_batches", 0, least=0, most=1 << 31) or None,
        "lr": float(net.get("learning_rate", 0.001)),
        "momentum": float(net.get("momentum", 0.9)),
        "weight_decay": float(net.get("decay", 0.0001)),
        "warmup": net.integer("burn_in", 0, least=0),
        "warmup_power": power,
        "schedule": _schedule(net, power),
    }


def _schedule(net: Section, power: float) -> dict[str, Any]:
    policy = net.get("policy", "constant")
    if policy == "random":
        raise net.error("policy", "random is not supported; it is a rate drawn anew for every batch")
    if policy == "steps":
        at, scales = net.get("steps", ()), net.get("scales", ())
        if len(at) != len(scales) or not at:
            raise net.error("steps", f"{len(at)} steps for {len(scales)} scales; one each, at least one")
        return {"policy": "steps", "at": [max(step, 0) for step in at], "scales": scales}
    if policy not in POLICIES:  # Darknet says so, too, and goes on with a constant rate
        policy = "constant"
    every = max(net.get("step", 1), 1)
    gamma = float(net.get("scale", 1.0) if policy == "step" else net.get("gamma", 1.0))
    return {"policy": policy, "power": power, "every": every, "gamma": gamma}
