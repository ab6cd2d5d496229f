"""torchvision classifiers as backbones: images in [0, 1] to feature maps of stride 16 and 32."""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlparse

import torch
import torchvision.models
import torchvision.ops
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from yolo9k.errors import ConfigError, WeightsError
from yolo9k.fetch import Remote, fetch, flaw
from yolo9k.progress import Track, silent

LISTED = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "vgg16_bn", "densenet121", "googlenet",
    "mobilenet_v2", "mobilenet_v3_large", "shufflenet_v2_x1_0", "efficientnet_b0", "convnext_tiny",
)  # fmt: skip
ALIASES = {"resnext50": "resnext50_32x4d", "shufflenet_v2": "shufflenet_v2_x1_0"}
OPTIONS: Mapping[str, Mapping[str, Any]] = {  # without these, torchvision adds auxiliary classifiers, or warns
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"init_weights": False},
}

# Mean and standard deviation of red, green and blue that the pretrained weights expect.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CENTRED = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
CENTRED_NETWORKS = ("googlenet", "efficientnet_v2_l")

FINE, COARSE = 16, 32  # strides
PROBE_HW = 64, 96  # at this image size, the map size identifies strides 16 and 32
HASH = re.compile(r"-([0-9a-f]{8,})\.")  # the start of the SHA-256 in the name of a weights file
OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")  # layer names in the weights files of DenseNets


class TorchvisionBackbone(nn.Module):
    """A torchvision classifier up to its last feature map, with torchvision's random initialisation.

    `channels`: of the features at stride 16 and 32. Stochastic depth is off, so that training steps are deterministic.
    Raises `ConfigError` if torchvision has no such classifier, or if it has no feature maps of both strides.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = full_name(name)
        classifier = torchvision.models.get_model(self.name, weights=None, **OPTIONS.get(self.name, {}))
        for module in classifier.modules():
            if isinstance(module, torchvision.ops.StochasticDepth):
                module.p = 0.0
        fine, coarse = _find_feature_maps(classifier, self.name)
        self.channels = fine.channels, coarse.channels
        extractor = create_feature_extractor(classifier, {fine.node: "fine", coarse.node: "coarse"})
        self.body = fx.GraphModule(extractor, extractor.graph).train()  # one graph for training and evaluation
        for buffer, values in zip(("mean", "std"), normalisation(self.name), strict=True):
            # not in the state dict: the network's name determines it
            self.register_buffer(buffer, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features at stride 16 and 32 of images (B, 3, H, W) in [0, 1]; H and W are multiples of 32."""
        features = self.body((images - self.mean) / self.std)
        return features["fine"], features["coarse"]

    def load_pretrained(self, track: Track = silent) -> Path:
        """Load torchvision's ImageNet weights from its cache, or download them first. Return their file.

        Raises `WeightsError` if the file cannot be downloaded or has a wrong hash, `MachineError` if it cannot be
        written.
        """
        weights = torchvision.models.get_model_weights(self.name).DEFAULT
        file = _fetch_weights(weights.url, track)
        stored = weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
        state = {OLD_NAME.sub(r"\1\2.", name): value for name, value in stored.items()}
        own_names = self.body.state_dict().keys()  # without the last layers of the classifier
        self.body.load_state_dict({name: value for name, value in state.items() if name in own_names})
        return file


def full_name(name: str) -> str:
    """Return torchvision's name of a classifier. Raises `ConfigError` with the closest match for an unknown name."""
    known = torchvision.models.list_models(torchvision.models)
    name = ALIASES.get(name, name)
    if name not in known:
        matches = difflib.get_close_matches(name, [*known, *ALIASES], n=1)
        hint = f"did you mean {matches[0]}?" if matches else f"available: {', '.join(LISTED)} and others"
        raise ConfigError(f"model.backbone: torchvision has no classifier {name!r}; {hint}")
    return name


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and standard deviation of red, green and blue that the weights of a (full) name expect."""
    return CENTRED if name in CENTRED_NETWORKS else IMAGENET


class _FeatureMap(NamedTuple):
    """A feature map: the name of its node in the network's graph, and its number of channels."""

    node: str
    channels: int


def _find_feature_maps(classifier: nn.Module, name: str) -> tuple[_FeatureMap, _FeatureMap]:
    """Return the last feature maps of stride 16 and 32 that are bottlenecks: no path goes around them.

    In mobile networks, the map of stride 16 is the expansion inside the block that halves the map, as in SSDLite
    (MobileNetV2, section 6.2). Raises `ConfigError` if the network has no such maps, or accepts only one image size.
    """
    image = torch.zeros(1, 3, *PROBE_HW, device=next(classifier.parameters()).device)
    classifier.eval()
    maps = _last_bottleneck_by_stride(classifier, image) if _accepts(classifier, image) else {}
    if len(maps) < 2:
        raise ConfigError(
            f"model.backbone: {name} has no feature maps of stride {FINE} and {COARSE} for images of any size; "
            f"choose another, for example resnet50 or convnext_tiny"
        )
    return maps[FINE], maps[COARSE]


@torch.no_grad()
def _accepts(classifier: nn.Module, image: Tensor) -> bool:
    try:
        classifier(image)
    except (RuntimeError, AssertionError):  # raised by networks with a fixed image size
        return False
    return True


@torch.no_grad()
def _last_bottleneck_by_stride(classifier: nn.Module, image: Tensor) -> dict[int, _FeatureMap]:
    names = get_graph_node_names(classifier, suppress_diff_warning=True)[1]
    extractor = create_feature_extractor(classifier, names, suppress_diff_warning=True)
    bottlenecks = _bottlenecks(extractor.graph)
    stride_of = {tuple(side // stride for side in PROBE_HW): stride for stride in (FINE, COARSE)}
    maps: dict[int, _FeatureMap] = {}
    for node, value in extractor(image).items():
        is_map = node in bottlenecks and isinstance(value, Tensor) and value.dim() == 4
        if is_map and (stride := stride_of.get(tuple(value.shape[2:]))):
            maps[stride] = _FeatureMap(node, value.shape[1])
    return maps


def _bottlenecks(graph: fx.Graph) -> set[str]:
    """Return the outputs of a graph that no path goes around: no later node reads a node before them."""
    nodes = [node for node in graph.nodes if node.op != "output"]
    index_of = {node: index for index, node in enumerate(nodes)}
    last_reader, bottlenecks = 0, set()  # index of the last node that reads any node so far
    for index, node in enumerate(nodes):
        if last_reader <= index:
            bottlenecks.add(node)
        last_reader = max([last_reader, *(index_of[user] for user in node.users if user in index_of)])
    outputs = graph.output_node().args[0]
    assert isinstance(outputs, dict)
    return {name for name, node in outputs.items() if node in bottlenecks}


def _fetch_weights(url: str, track: Track) -> Path:
    """Return the weights file in torchvision's cache, downloaded if missing; its name has the start of its hash."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    match = HASH.search(file.name)
    remote = Remote((url,), hashes={"sha256": match[1]} if match else {})
    fetch(remote, file, track)
    if reason := flaw(file, remote):  # `fetch` does not check the hash of a file that was there before
        raise WeightsError(f"{file}: {reason}; remove it to download it again")
    return file
