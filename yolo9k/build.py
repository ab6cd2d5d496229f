"""The only place that turns a `Config` into objects."""

from typing import Any

import torch

from yolo9k.config.classifier import ClassifierModelConfig
from yolo9k.config.schema import BackboneConfig, Config, ModelConfig
from yolo9k.darknet.cfg import parse_cfg
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.detection.codec import Codec
from yolo9k.detection.loss import RegionLoss
from yolo9k.errors import ConfigError
from yolo9k.models.darknet19 import Backbone, Classifier, Darknet19, TinyBackbone
from yolo9k.models.norms import convert_norm, norm_layer
from yolo9k.models.torchvision_backbone import TorchvisionBackbone
from yolo9k.models.yolov2 import DetectionNetwork, yolo9000, yolov2, yolov2_tiny
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

Network = DetectionNetwork | DarknetNetwork
ClassifierNetwork = Classifier | DarknetNetwork


def build_network(config: ModelConfig, labels: WordTree) -> Network:
    """The network with fresh weights; its anchors must be numbers by now.

    Raises `WeightsError` for a wrong cfg, `ConfigError` where the labels are not as many as the cfg's classes.
    """
    if config.name == "darknet":
        return _from_cfg(config.cfg, labels, detects=True)
    anchors = torch.tensor(config.anchors)
    parts: dict[str, Any] = {"backbone": build_backbone(config), "norm": norm_layer(config.norm), "width": config.width}
    if config.name == "yolov2":
        return yolov2(anchors, len(labels), passthrough=config.passthrough, **parts)
    if config.name == "yolo9000":
        return yolo9000(anchors, len(labels), **parts)
    return yolov2_tiny(anchors, len(labels), last=1024 if config.name == "yolov2-tiny-voc" else 512, **parts)


def build_backbone(config: BackboneConfig) -> Backbone:
    """What turns images into features, with fresh weights. Raises `ConfigError` for a name that cannot be one."""
    if config.backbone:
        return convert_norm(TorchvisionBackbone(config.backbone), config.norm)
    kind = TinyBackbone if "tiny" in config.name else Darknet19
    return kind(config.width, norm_layer(config.norm))


def load_pretrained(network: Network | ClassifierNetwork, config: BackboneConfig, track: Track = silent) -> str:
    """Fill the backbone of a network that `config` describes with torchvision's ImageNet weights; says what was taken.

    Raises `WeightsError` that names the file where it is not in torchvision's cache and cannot be fetched.
    """
    donor = TorchvisionBackbone(config.backbone)
    file = donor.load_pretrained(track)
    network.backbone.load_state_dict(convert_norm(donor, config.norm).state_dict())  # type: ignore[union-attr]
    return f"backbone: torchvision's {donor.name} from {file}"


def _from_cfg(text: str, labels: WordTree, *, detects: bool) -> DarknetNetwork:
    network = DarknetNetwork(parse_cfg(text))
    if detects and network.region is None:
        raise ConfigError("model.cfg: has no [region], so it is no detector's; yolo9k classify train takes it")
    if network.classes != len(labels):
        model = "yolov2" if detects else "darknet19"
        raise ConfigError(
            f"model.cfg: it has {network.classes:,} classes, but there are {len(labels):,} labels; "
            f"to learn other labels name a model (--set model.name={model}) and start from these weights"
        )
    network.labels = labels
    return network.initialise()


def build_classifier(config: ClassifierModelConfig, labels: WordTree) -> ClassifierNetwork:
    """The network of a classifier with fresh weights.

    Raises `WeightsError` for a wrong cfg, `ConfigError` where the labels are not as many as the cfg's classes.
    """
    if config.name == "darknet":
        return _from_cfg(config.cfg, labels, detects=False)
    return Classifier(build_backbone(config), len(labels))


def build_scores(config: ModelConfig, labels: WordTree) -> HierarchicalSoftmax:
    """How class logits become probabilities and losses. Raises `ConfigError` for logistic labels in a tree."""
    if config.classes == "logistic" and not labels.is_flat:
        raise ConfigError("model.classes: logistic is for flat labels; those of a tree need softmax")
    return HierarchicalSoftmax(labels, config.classes)


def build_codec(config: ModelConfig, network: Network) -> Codec:
    """How boxes are written into the raw map, over the network's anchors and on its device."""
    return Codec(network.anchors, config.location)


def build_loss(config: Config, network: Network, labels: WordTree) -> RegionLoss:
    """The region loss over the network's anchors."""
    return RegionLoss(build_codec(config.model, network), build_scores(config.model, labels), config.loss)
