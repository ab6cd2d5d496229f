"""Build the networks, the codec and the softmax that a config describes."""

from typing import Any

import torch

from yolo9k.config.classifier import ClassifierModelConfig
from yolo9k.config.schema import BackboneConfig, ModelConfig
from yolo9k.darknet.cfg import parse_cfg
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.detection.codec import Codec
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
    """Build a detection network with new weights; the config must be resolved (anchors given as numbers).

    Raises `WeightsError` for a wrong cfg, `ConfigError` if the numbers of labels and of the cfg's classes differ.
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
    """Build a backbone with new weights. Raises `ConfigError` for an unknown torchvision model."""
    if config.backbone:
        return convert_norm(TorchvisionBackbone(config.backbone), config.norm)
    kind = TinyBackbone if "tiny" in config.name else Darknet19
    return kind(config.width, norm_layer(config.norm))


def load_pretrained(network: Network | ClassifierNetwork, config: BackboneConfig, track: Track = silent) -> str:
    """Load torchvision's ImageNet weights into the backbone of a network; return a note that says so.

    Raises `WeightsError` naming the file if it is not in torchvision's cache and cannot be downloaded.
    """
    donor = TorchvisionBackbone(config.backbone)
    file = donor.load_pretrained(track)
    network.backbone.load_state_dict(convert_norm(donor, config.norm).state_dict())  # type: ignore[union-attr]
    return f"backbone: torchvision's {donor.name} from {file}"


def _from_cfg(text: str, labels: WordTree, *, detects: bool) -> DarknetNetwork:
    network = DarknetNetwork(parse_cfg(text))
    if detects and network.region is None:
        raise ConfigError("model.cfg: has no [region], so it is not a detector; train it with yolo9k classify train")
    if network.classes != len(labels):
        model = "yolov2" if detects else "darknet19"
        raise ConfigError(
            f"model.cfg: it has {network.classes:,} classes, but the data set has {len(labels):,} labels; "
            f"to train other labels, use another model (--set model.name={model}) and start from these weights"
        )
    network.labels = labels
    return network.initialise()


def build_classifier(config: ClassifierModelConfig, labels: WordTree) -> ClassifierNetwork:
    """Build a classification network with new weights.

    Raises `WeightsError` for a wrong cfg, `ConfigError` if the numbers of labels and of the cfg's classes differ.
    """
    if config.name == "darknet":
        return _from_cfg(config.cfg, labels, detects=False)
    return Classifier(build_backbone(config), len(labels))


def build_scores(config: ModelConfig, labels: WordTree) -> HierarchicalSoftmax:
    """Build the softmax over the labels. Raises `ConfigError` for `model.classes: logistic` with a label tree."""
    if config.classes == "logistic" and not labels.is_flat:
        raise ConfigError("model.classes: logistic needs flat labels; a label tree needs softmax")
    return HierarchicalSoftmax(labels, config.classes)


def build_codec(config: ModelConfig, network: Network) -> Codec:
    """Build the box codec with the network's anchors, on its device."""
    return Codec(network.anchors, config.location)
