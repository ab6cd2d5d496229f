"""The only place that turns a `Config` into objects."""

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from yolo9k.anchors import cluster
from yolo9k.config.schema import Config, ModelConfig
from yolo9k.config.section import STRIDE
from yolo9k.darknet.cfg import parse_cfg
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.datasets.box_sizes import letterboxed_sizes
from yolo9k.detection.loss import RegionLoss
from yolo9k.errors import ConfigError
from yolo9k.models.yolov2 import DetectionNetwork, yolo9000, yolov2, yolov2_tiny
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.scores import LabelScores

if TYPE_CHECKING:
    from yolo9k.datasets.records import Record


Network = DetectionNetwork | DarknetNetwork


def build_network(config: ModelConfig, labels: WordTree) -> Network:
    """The network with fresh weights; its anchors must be numbers by now.

    Raises `WeightsError` for a wrong cfg, `ConfigError` where the labels are not as many as the cfg's classes.
    """
    if config.name == "darknet":
        return _from_cfg(config.cfg, labels)
    anchors = torch.tensor(config.anchors)
    norm = {"momentum": config.norm.momentum, "eps": config.norm.eps}
    if config.name == "yolov2":
        return yolov2(anchors, len(labels), width=config.width, passthrough=config.passthrough, **norm)
    if config.name == "yolo9000":
        return yolo9000(anchors, len(labels), width=config.width, **norm)
    last = 1024 if config.name == "yolov2-tiny-voc" else 512
    return yolov2_tiny(anchors, len(labels), width=config.width, last=last, **norm)


def _from_cfg(text: str, labels: WordTree) -> DarknetNetwork:
    network = DarknetNetwork(parse_cfg(text), labels)
    if network.region is not None and network.region.classes != len(labels):
        raise ConfigError(
            f"model.cfg: its region has {network.region.classes} classes, but there are {len(labels)} labels; "
            f"to learn other labels name a model (--set model.name=yolov2) and start from these weights"
        )
    return network.initialise()


def build_scores(config: ModelConfig, labels: WordTree) -> LabelScores:
    """How class logits become probabilities and losses. Raises `ConfigError` for logistic labels in a tree."""
    if config.classes == "logistic" and not labels.is_flat:
        raise ConfigError("model.classes: logistic is for flat labels; those of a tree need softmax")
    return LabelScores(labels, config.classes)


def build_loss(config: Config, network: Network, labels: WordTree) -> RegionLoss:
    """The region loss over the network's anchors."""
    return RegionLoss(network.anchors, build_scores(config.model, labels), config.loss)


def with_aspect(config: Config, records: Sequence["Record"]) -> Config:
    """The config with `fit_aspect` carried out: its sizes have the pictures' median aspect; else as it is."""
    if not config.data.fit_aspect:
        return config
    aspect = statistics.median(w / h for w, h in (record.size_wh for record in records))
    sizes = tuple(dict.fromkeys(_fitted(size, aspect) for size in config.data.sizes))
    changes = {"size": _fitted(config.data.size, aspect), "sizes": sizes, "fit_aspect": False}
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


def _fitted(size_wh: tuple[int, int], aspect: float) -> tuple[int, int]:
    """Multiples of the stride near the area of `size_wh`, width over height near `aspect`."""
    side = math.sqrt(size_wh[0] * size_wh[1])
    w, h = (max(1, round(length / STRIDE)) * STRIDE for length in (side * aspect**0.5, side / aspect**0.5))
    return w, h


def with_anchors(config: Config, records: Sequence["Record"]) -> Config:
    """The config with `anchors: auto` replaced by anchors clustered from these records, else as it is.

    Raises `DataError` where there are too few boxes.
    """
    if config.model.anchors != "auto":
        return config
    sizes_wh = letterboxed_sizes(records, config.data.size, STRIDE)
    anchors = cluster(sizes_wh, config.model.num_anchors, config.train.seed)
    model = config.model.model_copy(update={"anchors": tuple(map(tuple, anchors.rounded()))})
    return config.model_copy(update={"model": model})
