"""The sections of a cfg as modules, with the sizes they make of the sizes they get (Darknet `parser.c: parse_*`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolo9k.darknet.cfg import Section
from yolo9k.errors import WeightsError
from yolo9k.models.head import AnchorHead
from yolo9k.models.layers import ACTIVATIONS, ConvBlock, MaxPool, Reorg

MOMENTUM, EPS = 0.01, 1e-5  # Darknet `batchnorm_layer.c`, in the words of PyTorch
MAX_NUMBERS = 1 << 28  # weights and statistics of one network, 1 GiB; Darknet's largest detector has 51 million
LARGEST_OUTPUT = 1 << 31  # numbers of one layer for one image


@dataclass(frozen=True)
class Shape:
    """The output of a layer for one image; `stride` is how many pixels of the input its cells are apart."""

    channels: int
    h: int
    w: int
    stride: float

    def __str__(self) -> str:
        return f"{self.channels}x{self.h}x{self.w}"


@dataclass(frozen=True)
class Layer:
    """A section made into a module: which layers it reads (-1 is the image), and what it gives."""

    module: nn.Module
    sources: tuple[int, ...]
    shape: Shape


class DarknetNorm(nn.BatchNorm2d):
    """Batch norm with Darknet's two rules of inference.

    `cudnn` has eps inside the root as everywhere; `cpu` divides by sqrt(variance) + 1e-6 (`blas.c: normalize_cpu`).
    Training is always as cuDNN does it.
    """

    rule = "cudnn"
    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        if self.training or self.rule == "cudnn":
            return super().forward(x)
        variance = (self.running_var.sqrt() + 1e-6).square()
        return F.batch_norm(x, self.running_mean, variance, self.weight, self.bias, False, 0.0, 0.0)


class Route(nn.Module):
    """Joins the channels of other layers."""

    def forward(self, *sources: Tensor) -> Tensor:
        """(B, C_i, H, W) each, to (B, sum of C_i, H, W)."""
        return torch.cat(sources, dim=1) if len(sources) > 1 else sources[0]


class Shortcut(nn.Module):
    """alpha * input + beta * an earlier layer, where both have values; sizes may differ (`blas.c: shortcut_cpu`)."""

    def __init__(self, alpha: float, beta: float, activation: str) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """(B, C, H, W) and (B, C', H', W') to (B, C, H, W)."""
        if x.shape == earlier.shape:
            return self.activation(self.alpha * x + self.beta * earlier)
        skip = max(earlier.shape[-1] // x.shape[-1], 1)  # of the earlier layer's cells, where that one is larger
        apart = max(x.shape[-1] // earlier.shape[-1], 1)  # of this one's cells, where this one is
        channels = min(x.shape[1], earlier.shape[1])
        out = x.clone()
        part = out[:, :channels, ::apart, ::apart]
        added = earlier[:, :channels, ::skip, ::skip]
        rows, columns = min(part.shape[2], added.shape[2]), min(part.shape[3], added.shape[3])
        where = part[:, :, :rows, :columns]
        where.copy_(self.alpha * where + self.beta * added[:, :, :rows, :columns])
        return self.activation(out)


class AveragePool(nn.Module):
    """The mean of every channel."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 1, 1)."""
        return x.mean(dim=(2, 3), keepdim=True)


class Softmax(nn.Module):
    """Softmax in `groups` equal parts of the values, divided by `temperature`; a tree is added by the network."""

    def __init__(self, groups: int, temperature: float) -> None:
        super().__init__()
        self.groups, self.temperature = groups, temperature

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C * H * W)."""
        parts = x.flatten(1).unflatten(1, (self.groups, -1))
        return (parts / self.temperature).softmax(dim=-1).flatten(1)


Head = tuple[int, int]  # anchors, classes


def build_layer(section: Section, number: int, before: Sequence[Shape], head: Head | None) -> Layer:
    """The module of layer `number`, given the shapes of the layers before it (`before[0]` is the image's).

    `head`: numbers of anchors and classes, where a region reads this layer. Raises `WeightsError` with the place
    where something does not fit.
    """
    if section.name == "convolutional":
        layer = _convolutional(section, number, before, head)
    else:
        layer = _BUILDERS[section.name](section, number, before)
    if layer.shape.h < 1 or layer.shape.w < 1:
        raise WeightsError(f"{section.place}: nothing is left of an input of {before[number]}")
    if layer.shape.channels * layer.shape.h * layer.shape.w > LARGEST_OUTPUT:
        raise WeightsError(f"{section.place}: an output of {layer.shape} is too large")
    return layer


def _convolutional(section: Section, number: int, before: Sequence[Shape], head: Head | None) -> Layer:
    shape = before[number]
    filters = section.integer("filters", 1, least=1)
    size = section.integer("size", 1, least=1, most=1024)
    stride = section.integer("stride", 1, least=1, most=1024)
    groups = section.integer("groups", 1, least=1)
    padding = size // 2 if section.get("pad", False) else section.integer("padding", 0, least=0, most=1024)
    _refuse(section, "binary", "xnor", "flipped", "dontload", "dontloadscales", "numload")
    for channels, name in ((shape.channels, "input channels"), (filters, "filters")):
        if channels % groups:
            raise section.error("groups", f"{groups} groups do not divide {channels} {name}")
    if filters * (shape.channels // groups) * size * size > MAX_NUMBERS:
        raise section.error("filters", f"{filters:,} filters over {shape.channels:,} channels are too many weights")
    norm = partial(DarknetNorm, momentum=MOMENTUM, eps=EPS) if section.get("batch_normalize", False) else None
    activation = _activation(section, "logistic")
    h, w = ((length + 2 * padding - size) // stride + 1 for length in (shape.h, shape.w))
    out = Shape(filters, h, w, shape.stride * stride)
    is_plain = (size, stride, padding, groups, norm, activation) == (1, 1, 0, 1, None, "linear")
    if head and is_plain and filters == head[0] * (5 + head[1]):
        return Layer(AnchorHead(shape.channels, *head), (number - 1,), out)
    block = ConvBlock(
        shape.channels, filters, size, stride=stride, padding=padding, groups=groups, norm=norm,
        activation=activation,
    )  # fmt: skip
    return Layer(block, (number - 1,), out)


def _maxpool(section: Section, number: int, before: Sequence[Shape]) -> Layer:
    shape = before[number]
    stride = section.integer("stride", 1, least=1, most=1024)
    size = section.integer("size", stride, least=1, most=1024)
    padding = section.integer("padding", size - 1, least=0, most=1024)
    h, w = ((length + padding - size) // stride + 1 for length in (shape.h, shape.w))
    return Layer(MaxPool(size, stride, padding), (number - 1,), Shape(shape.channels, h, w, shape.stride * stride))


def _avgpool(section: Section, number: int, before: Sequence[Shape]) -> Layer:
    shape = before[number]
    return Layer(AveragePool(), (number - 1,), Shape(shape.channels, 1, 1, shape.stride * shape.h))


def _route(section: Section, number: int, before: Sequence[Shape]) -> Layer:
    if "layers" not in section.values:
        raise section.error("layers", "is missing; it names the layers to join")
    sources = tuple(_earlier(section, "layers", written, number) for written in section.values["layers"])
    shapes = [before[source + 1] for source in sources]
    for source, shape in zip(sources, shapes, strict=True):
        if (shape.h, shape.w) != (shapes[0].h, shapes[0].w):
            raise section.error(
                "layers", f"layer {source} gives {shape} and layer {sources[0]} {shapes[0]}: heights and widths differ"
            )
    channels = sum(shape.channels for shape in shapes)
    return Layer(Route(), sources, Shape(channels, shapes[0].h, shapes[0].w, shapes[0].stride))


def _reorg(section: Section, number: int, before: Sequence[Shape]) -> Layer:
    shape = before[number]
    stride = section.integer("stride", 1, least=1, most=1024)
    _refuse(section, "reverse", "flatten", "extra")
    if shape.channels % stride**2 or shape.h % stride or shape.w % stride:
        raise section.error(
            "stride", f"{stride} does not fit {shape}: it must divide height and width, and its square the channels"
        )
    out = Shape(shape.channels * stride**2, shape.h // stride, shape.w // stride, shape.stride * stride)
    return Layer(Reorg(stride), (number - 1,), out)


def _shortcut(section: Section, number: int, before: Sequence[Shape]) -> Layer:
    if "from" not in section.values:
        raise section.error("from", "is missing; it names the layer to add")
    source = _earlier(section, "from", section.values["from"], number)
    shape, other = before[number], before[source + 1]
    if not (_same_ratio(shape.w, other.w, shape.h, other.h)):
        raise section.error("from", f"layer {source} gives {other}, which cannot be laid on {shape}")
    alpha, beta = float(section.get("alpha", 1.0)), float(section.get("beta", 1.0))
    return Layer(Shortcut(alpha, beta, _activation(section, "linear")), (number - 1, source), shape)


def _same_ratio(w: int, other_w: int, h: int, other_h: int) -> bool:
    """Darknet asserts that whole quotients agree in both directions."""
    return other_w // w == other_h // h and w // other_w == h // other_h


def _dropout(section: Section, number: int, before: Sequence[Shape]) -> Layer:
    probability = float(section.get("probability", 0.5))
    if not 0 <= probability < 1:
        raise section.error("probability", f"must be from 0 to below 1, not {probability:g}")
    return Layer(nn.Dropout(probability), (number - 1,), before[number])


def _cost(section: Section, number: int, before: Sequence[Shape]) -> Layer:
    return Layer(nn.Identity(), (number - 1,), before[number])


def _softmax(section: Section, number: int, before: Sequence[Shape]) -> Layer:
    shape = before[number]
    values = shape.channels * shape.h * shape.w
    groups = section.integer("groups", 1, least=1)
    temperature = float(section.get("temperature", 1.0))
    _refuse(section, "spatial")
    if values % groups:
        raise section.error("groups", f"{groups} groups do not divide {values} values")
    if temperature <= 0:
        raise section.error("temperature", f"must be above 0, not {temperature:g}")
    return Layer(Softmax(groups, temperature), (number - 1,), Shape(values, 1, 1, shape.stride))


def _region(section: Section, number: int, before: Sequence[Shape]) -> Layer:
    return Layer(nn.Identity(), (number - 1,), before[number])  # what it computes is `region.Region`'s


_BUILDERS: Mapping[str, Callable[[Section, int, Sequence[Shape]], Layer]] = {
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "route": _route,
    "reorg": _reorg,
    "shortcut": _shortcut,
    "dropout": _dropout,
    "cost": _cost,
    "softmax": _softmax,
    "region": _region,
}


def _earlier(section: Section, key: str, written: int, number: int) -> int:
    """The layer that a number means: negative ones count back from here, others from the first layer."""
    layer = number + written if written < 0 else written
    if not 0 <= layer < number:
        raise section.error(
            key, f"{written} means layer {layer}; here, at layer {number}, 0 to {number - 1} are allowed"
        )
    return layer


def _activation(section: Section, default: str) -> str:
    name: str = section.get("activation", default)
    if name not in ACTIVATIONS:
        raise section.error("activation", f"must be one of {', '.join(ACTIVATIONS)}, not {name}")
    return name


def _refuse(section: Section, *keys: str) -> None:
    for key in keys:
        if section.get(key, 0):
            raise section.error(key, "is not supported; only 0 is")
