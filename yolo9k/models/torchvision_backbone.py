"""Classifiers of torchvision as backbones: their feature maps of stride 16 and 32, under images in [0, 1]."""

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
OPTIONS: Mapping[str, Mapping[str, Any]] = {  # else torchvision adds a classifier, or warns
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"init_weights": False},
}

# Mean and deviation of the red, green and blue that a network's weights expect.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CENTRED = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
CENTRED_NETWORKS = ("googlenet", "efficientnet_v2_l")

FINE, COARSE = 16, 32  # strides
PROBE_HW = 64, 96  # no other maps are as large as those of stride 16 and 32 of such an image
HASH = re.compile(r"-([0-9a-f]{8,})\.")  # in the name of a file: where its SHA-256 begins
OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")  # of layers, in the files of DenseNets


class TorchvisionBackbone(nn.Module):
    """A classifier of torchvision up to its last feature map, with torchvision's own fresh weights.

    `channels`: of the features at stride 16 and at stride 32. Whole branches are never left out at random (stochastic
    depth), so that a training step stays a function of its images. Raises `ConfigError` for a name that torchvision
    does not have, and for a network without such maps.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = full_name(name)
        classifier = torchvision.models.get_model(self.name, weights=None, **OPTIONS.get(self.name, {}))
        for part in classifier.modules():
            if isinstance(part, torchvision.ops.StochasticDepth):
                part.p = 0.0
        fine, coarse = _find_maps(classifier, self.name)
        self.channels = fine.channels, coarse.channels
        extractor = create_feature_extractor(classifier, {fine.node: "fine", coarse.node: "coarse"})
        self.body = fx.GraphModule(extractor, extractor.graph).train()  # one graph for training and evaluation
        for kind, values in zip(("mean", "deviation"), normalisation(self.name), strict=True):
            # a property of the network's name, not a weight
            self.register_buffer(kind, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) in [0, 1] to features at stride 16 and 32; H and W are multiples of 32."""
        features = self.body((images - self.mean) / self.deviation)
        return features["fine"], features["coarse"]

    def load_pretrained(self, track: Track = silent) -> Path:
        """Take torchvision's own ImageNet weights, from torchvision's cache; they are fetched where they are not there.

        Gives their file. Raises `WeightsError` that names it where it cannot be fetched or is not what it should be,
        `MachineError` where it cannot be written.
        """
        weights = torchvision.models.get_model_weights(self.name).DEFAULT
        file = _fetch_weights(weights.url, track)
        stored = weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
        state = {OLD_NAME.sub(r"\1\2.", name): value for name, value in stored.items()}
        wanted = self.body.state_dict()
        self.body.load_state_dict({name: value for name, value in state.items() if name in wanted})
        return file


def full_name(name: str) -> str:
    """What torchvision calls a network. Raises `ConfigError` with the nearest name for one that it does not have."""
    known = torchvision.models.list_models(torchvision.models)
    name = ALIASES.get(name, name)
    if name not in known:
        near = difflib.get_close_matches(name, [*known, *ALIASES], n=1)
        others = f"did you mean {near[0]}?" if near else f"there are {', '.join(LISTED)} and others"
        raise ConfigError(f"model.backbone: torchvision has no classifier {name!r}; {others}")
    return name


def normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of red, green and blue that a network of this (full) name expects its images to have."""
    return CENTRED if name in CENTRED_NETWORKS else IMAGENET


class _Map(NamedTuple):
    """A feature map: the name of its node in the network's graph, and its channels."""

    node: str
    channels: int


def _find_maps(classifier: nn.Module, name: str) -> tuple[_Map, _Map]:
    """The last maps of stride 16 and 32 that all that comes behind them passes through.

    In mobile networks that is the expansion of the block which halves the map, as in SSDLite (MobileNetV2, section
    6.2). Raises `ConfigError` where the network has none, or takes only images of one size.
    """
    image = torch.zeros(1, 3, *PROBE_HW, device=next(classifier.parameters()).device)
    classifier.eval()
    found = _maps_by_stride(classifier, image) if _takes(classifier, image) else {}
    if len(found) < 2:
        raise ConfigError(
            f"model.backbone: {name} has no feature maps of stride {FINE} and {COARSE} for images of any size; "
            f"resnet50 and convnext_tiny, for example, have them"
        )
    return found[FINE], found[COARSE]


@torch.no_grad()
def _takes(classifier: nn.Module, image: Tensor) -> bool:
    try:
        classifier(image)
    except (RuntimeError, AssertionError):  # what networks say to a size that is not theirs
        return False
    return True


@torch.no_grad()
def _maps_by_stride(classifier: nn.Module, image: Tensor) -> dict[int, _Map]:
    names = get_graph_node_names(classifier, suppress_diff_warning=True)[1]
    every = create_feature_extractor(classifier, names, suppress_diff_warning=True)
    bottlenecks = _bottlenecks(every.graph)
    found: dict[int, _Map] = {}
    for node, value in every(image).items():
        if node in bottlenecks and isinstance(value, Tensor) and value.dim() == 4:
            found |= {stride: _Map(node, value.shape[1]) for stride in (FINE, COARSE) if _has_stride(value, stride)}
    return found


def _has_stride(value: Tensor, stride: int) -> bool:
    return tuple(value.shape[2:]) == tuple(side // stride for side in PROBE_HW)


def _bottlenecks(graph: fx.Graph) -> set[str]:
    """The outputs of a graph that no path goes around: nothing before them is read behind them."""
    nodes = [node for node in graph.nodes if node.op != "output"]
    place = {node: number for number, node in enumerate(nodes)}
    furthest, found = 0, set()  # the last reader of what came so far
    for number, node in enumerate(nodes):
        if furthest <= number:
            found.add(node)
        furthest = max([furthest, *(place[user] for user in node.users if user in place)])
    outputs = graph.output_node().args[0]
    assert isinstance(outputs, dict)
    return {name for name, node in outputs.items() if node in found}


def _fetch_weights(url: str, track: Track) -> Path:
    """The file of an address in torchvision's cache; its name tells the beginning of its hash."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    hashed = HASH.search(file.name)
    remote = Remote((url,), hashes={"sha256": hashed[1]} if hashed else {})
    fetch(remote, file, track)
    if wrong := flaw(file, remote):  # a file that was there before
        raise WeightsError(f"{file}: {wrong}; remove it to fetch it again")
    return file
