"""Build one module per section of a cfg, with its output shape (Darknet `parser.c: parse_*`)."""

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

MOMENTUM, EPS = 0.01, 1e-5  # Darknet `batchnorm_layer.c`; PyTorch's momentum is 1 minus Darknet's
MAX_PARAMETERS = 1 << 28  # of a network, with running statistics: 1 GiB; Darknet's largest detector has 51 million
MAX_COMPARISONS = 1 << 31  # of a max pool, for one image: those of YOLOv2 at 8192 pixels; some seconds


@dataclass(frozen=True)
class Shape:
    """Output shape of a layer for one image; `stride`: input pixels per output cell."""

    channels: int
    h: int
    w: int
    stride: float

    def __str__(self) -> str:
        return f"{self.channels}x{self.h}x{self.w}"

    @property
    def size(self) -> int:
        """Number of values."""
        return self.channels * self.h * self.w


@dataclass(frozen=True)
class Layer:
    """A module, the indices of its input layers (-1: the image), and its output shape."""

    module: nn.Module
    sources: tuple[int, ...]
    shape: Shape


class DarknetNorm(nn.BatchNorm2d):
    """Batch norm with a choice between Darknet's two formulas of inference (`batchnorm_layer.c`).

    `rule` "cudnn": eps inside the square root, as everywhere. `rule` "cpu": divide by sqrt(variance) + 1e-6
    (`blas.c: normalize_cpu`). Training always follows cuDNN.
    """

    rule = "cudnn"
    running_mean: Tensor
    running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W)."""
        if self.training or self.rule == "cudnn":
            return super().forward(x)
        variance = (self.running_var.sqrt() + 1e-6).square()
        return F.batch_norm(x, self.running_mean, variance, self.weight, self.bias, False, 0.0, 0.0)


class Route(nn.Module):
    """Concatenation of other layers along channels (`route_layer.c: forward_route_layer`).

    With `groups` (AlexeyAB's fork), only part `group_id` of each layer's channels, which are divided into equal parts.
    """

    def __init__(self, groups: int = 1, group_id: int = 0) -> None:
        super().__init__()
        self.groups, self.group_id = groups, group_id

    def forward(self, *sources: Tensor) -> Tensor:
        """Concatenate tensors (B, C_i, H, W) to (B, sum of C_i / groups, H, W)."""
        parts = [source.chunk(self.groups, dim=1)[self.group_id] for source in sources]
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


class SpaceToDepth(nn.Module):
    """A `[reorg3d]` section of AlexeyAB's fork (its `blas.c: reorg_cpu`): each cell of s x s pixels becomes channels.

    The output channel of input channel c and pixel (row, column) of the cell is (row * s + column) * C + c;
    `pixel_unshuffle` has the pixels of a channel next to each other instead.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Rearrange (B, C, H, W) to (B, s * s * C, H / s, W / s); H and W are multiples of s."""
        s = self.stride
        cells = x.unflatten(3, (-1, s)).unflatten(2, (-1, s))  # (B, C, H / s, row, W / s, column)
        return cells.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


class Shortcut(nn.Module):
    """alpha * input + beta * an earlier layer, where the two overlap (`shortcut_layer.c`, `blas.c: shortcut_cpu`).

    If the sizes differ, the larger one is subsampled; if the channels differ, the first common ones are added.
    """

    def __init__(self, alpha: float, beta: float, activation: str) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        """Add (B, C', H', W') to (B, C, H, W); returns (B, C, H, W)."""
        if x.shape == earlier.shape:
            return self.activation(self.alpha * x + self.beta * earlier)
        earlier_step = max(earlier.shape[-1] // x.shape[-1], 1)  # above 1 if the earlier layer is larger
        x_step = max(x.shape[-1] // earlier.shape[-1], 1)  # above 1 if the input is larger
        channels = min(x.shape[1], earlier.shape[1])
        out = x.clone()
        target = out[:, :channels, ::x_step, ::x_step]
        added = earlier[:, :channels, ::earlier_step, ::earlier_step]
        rows, columns = min(target.shape[2], added.shape[2]), min(target.shape[3], added.shape[3])
        overlap = target[:, :, :rows, :columns]
        overlap.copy_(self.alpha * overlap + self.beta * added[:, :, :rows, :columns])
        return self.activation(out)


class AveragePool(nn.Module):
    """The mean of each channel (`avgpool_layer.c: forward_avgpool_layer`)."""

    def forward(self, x: Tensor) -> Tensor:
        """Average (B, C, H, W) to (B, C, 1, 1)."""
        return x.mean(dim=(2, 3), keepdim=True)


class Softmax(nn.Module):
    """Softmax in `groups` equal parts, with a temperature (`softmax_layer.c: forward_softmax_layer`).

    The network handles a softmax over a tree.
    """

    def __init__(self, groups: int, temperature: float) -> None:
        super().__init__()
        self.groups, self.temperature = groups, temperature

    def forward(self, x: Tensor) -> Tensor:
        """Convert logits (B, C, H, W) to probabilities (B, C * H * W)."""
        parts = x.flatten(1).unflatten(1, (self.groups, -1))
        return (parts / self.temperature).softmax(dim=-1).flatten(1)


HeadSize = tuple[int, int]  # (anchors, classes)


def build_layer(section: Section, index: int, shapes: Sequence[Shape], head_size: HeadSize | None) -> Layer:
    """Build layer `index`. `shapes`: of the image and the layers before it.

    `head_size`: the anchors and classes of the region that reads this layer; `None`: no region reads it. Raises
    `WeightsError` with file and line if an option is invalid or does not fit the layers before.
    """
    if section.name == "convolutional":
        layer = _convolutional(section, index, shapes, head_size)
    else:
        layer = _BUILDERS[section.name](section, index, shapes)
    if layer.shape.h < 1 or layer.shape.w < 1:
        raise WeightsError(f"{section.location}: the output is empty for an input of {shapes[index]}")
    return layer


def _convolutional(section: Section, index: int, shapes: Sequence[Shape], head_size: HeadSize | None) -> Layer:
    """Build a convolution, norm and activation (`parse_convolutional`, `convolutional_layer.c`)."""
    shape = shapes[index]
    filters = section.integer("filters", 1, minimum=1)
    size = section.integer("size", 1, minimum=1, maximum=1024)
    stride = section.integer("stride", 1, minimum=1, maximum=1024)
    groups = section.integer("groups", 1, minimum=1)
    padding = size // 2 if section.get("pad", False) else section.integer("padding", 0, minimum=0, maximum=1024)
    _refuse_options(section, "binary", "xnor", "flipped", "dontload", "dontloadscales", "numload")
    for channels, name in ((shape.channels, "input channels"), (filters, "filters")):
        if channels % groups:
            raise section.error("groups", f"does not divide the {channels} {name}")
    if filters * (shape.channels // groups) * size * size > MAX_PARAMETERS:
        raise section.error("filters", f"too many weights over {shape.channels:,} input channels")
    norm = partial(DarknetNorm, momentum=MOMENTUM, eps=EPS) if section.get("batch_normalize", False) else None
    activation = _activation(section, "logistic")
    h, w = ((length + 2 * padding - size) // stride + 1 for length in (shape.h, shape.w))
    out = Shape(filters, h, w, shape.stride * stride)
    is_plain = (size, stride, padding, groups, norm, activation) == (1, 1, 0, 1, None, "linear")
    if head_size and is_plain and filters == head_size[0] * (5 + head_size[1]):
        return Layer(AnchorHead(shape.channels, *head_size), (index - 1,), out)
    block = ConvBlock(
        shape.channels, filters, size, stride=stride, padding=padding, groups=groups, norm=norm,
        activation=activation,
    )  # fmt: skip
    return Layer(block, (index - 1,), out)


def _maxpool(section: Section, index: int, shapes: Sequence[Shape]) -> Layer:
    """Build a max pool, padded by size - 1 in total by default (`parse_maxpool`, `maxpool_layer.c`)."""
    shape = shapes[index]
    stride = section.integer("stride", 1, minimum=1, maximum=1024)
    size = section.integer("size", stride, minimum=1, maximum=1024)
    padding = section.integer("padding", size - 1, minimum=0, maximum=1024)
    h, w = ((length + padding - size) // stride + 1 for length in (shape.h, shape.w))
    out = Shape(shape.channels, h, w, shape.stride * stride)
    if out.size * size**2 > MAX_COMPARISONS:
        raise section.error("size", f"{out.size * size**2:,} comparisons; at most {MAX_COMPARISONS:,} are supported")
    return Layer(MaxPool(size, stride, padding), (index - 1,), out)


def _avgpool(section: Section, index: int, shapes: Sequence[Shape]) -> Layer:
    """Build a global average pool (`parse_avgpool`, `avgpool_layer.c`)."""
    shape = shapes[index]
    return Layer(AveragePool(), (index - 1,), Shape(shape.channels, 1, 1, shape.stride * shape.h))


def _route(section: Section, index: int, shapes: Sequence[Shape]) -> Layer:
    """Build a concatenation of layers (`parse_route`, `route_layer.c`)."""
    if "layers" not in section.values:
        raise section.error("layers", "missing; must list the layers to concatenate")
    sources = tuple(_layer_index(section, "layers", value, index) for value in section.values["layers"])
    source_shapes = [shapes[source + 1] for source in sources]
    first = source_shapes[0]
    for source, shape in zip(sources, source_shapes, strict=True):
        if (shape.h, shape.w) != (first.h, first.w):
            raise section.error(
                "layers", f"height and width differ: layer {source} is {shape}, layer {sources[0]} is {first}"
            )
    groups = section.integer("groups", 1, minimum=1)
    group_id = section.integer("group_id", 0, minimum=0, maximum=groups - 1)
    for source, shape in zip(sources, source_shapes, strict=True):
        if shape.channels % groups:
            raise section.error("groups", f"does not divide the {shape.channels} channels of layer {source}")
    channels = sum(shape.channels for shape in source_shapes) // groups
    return Layer(Route(groups, group_id), sources, Shape(channels, first.h, first.w, first.stride))


def _reorg(section: Section, index: int, shapes: Sequence[Shape]) -> Layer:
    """Build Darknet's space-to-depth with its own order of channels (`parse_reorg`, `blas.c: reorg_cpu`)."""
    shape = shapes[index]
    stride = section.integer("stride", 1, minimum=1, maximum=1024)
    _refuse_options(section, "reverse", "flatten", "extra")
    if shape.channels % stride**2 or shape.h % stride or shape.w % stride:
        raise section.error(
            "stride", f"does not fit {shape}: it must divide height and width, and its square the channels"
        )
    out = Shape(shape.channels * stride**2, shape.h // stride, shape.w // stride, shape.stride * stride)
    return Layer(Reorg(stride), (index - 1,), out)


def _reorg3d(section: Section, index: int, shapes: Sequence[Shape]) -> Layer:
    """Build AlexeyAB's space-to-depth (`parse_reorg` of his fork)."""
    shape = shapes[index]
    stride = section.integer("stride", 1, minimum=1, maximum=1024)
    _refuse_options(section, "reverse")
    if shape.h % stride or shape.w % stride:
        raise section.error("stride", f"does not fit {shape}: it must divide height and width")
    out = Shape(shape.channels * stride**2, shape.h // stride, shape.w // stride, shape.stride * stride)
    return Layer(SpaceToDepth(stride), (index - 1,), out)


def _shortcut(section: Section, index: int, shapes: Sequence[Shape]) -> Layer:
    """Build a sum with an earlier layer (`parse_shortcut`, `shortcut_layer.c`)."""
    if "from" not in section.values:
        raise section.error("from", "missing; must be the layer to add")
    source = _layer_index(section, "from", section.values["from"], index)
    shape, other = shapes[index], shapes[source + 1]
    # `blas.c: shortcut_cpu` asserts that the integer ratios of width and height agree in both directions.
    if (other.w // shape.w, shape.w // other.w) != (other.h // shape.h, shape.h // other.h):
        raise section.error("from", f"layer {source} is {other}, which cannot be added to {shape}")
    alpha, beta = float(section.get("alpha", 1.0)), float(section.get("beta", 1.0))
    return Layer(Shortcut(alpha, beta, _activation(section, "linear")), (index - 1, source), shape)


def _dropout(section: Section, index: int, shapes: Sequence[Shape]) -> Layer:
    """Build a dropout (`parse_dropout`, `dropout_layer.c`)."""
    probability = float(section.get("probability", 0.5))
    if not 0 <= probability < 1:
        raise section.error("probability", "must be at least 0 and below 1")
    return Layer(nn.Dropout(probability), (index - 1,), shapes[index])


def _cost(section: Section, index: int, shapes: Sequence[Shape]) -> Layer:
    """Build an identity; the training task has its own loss (`parse_cost`, `cost_layer.c`)."""
    return Layer(nn.Identity(), (index - 1,), shapes[index])


def _softmax(section: Section, index: int, shapes: Sequence[Shape]) -> Layer:
    """Build a softmax over all values of an image (`parse_softmax`, `softmax_layer.c`)."""
    shape = shapes[index]
    values = shape.channels * shape.h * shape.w
    groups = section.integer("groups", 1, minimum=1)
    temperature = float(section.get("temperature", 1.0))
    _refuse_options(section, "spatial")
    if values % groups:
        raise section.error("groups", f"does not divide the {values} values")
    if temperature <= 0:
        raise section.error("temperature", "must be above 0")
    return Layer(Softmax(groups, temperature), (index - 1,), Shape(values, 1, 1, shape.stride))


def _region(section: Section, index: int, shapes: Sequence[Shape]) -> Layer:
    """Build an identity; `region.Region` has the outputs and the loss (`parse_region`, `region_layer.c`)."""
    return Layer(nn.Identity(), (index - 1,), shapes[index])


_BUILDERS: Mapping[str, Callable[[Section, int, Sequence[Shape]], Layer]] = {
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "route": _route,
    "reorg": _reorg,
    "reorg3d": _reorg3d,
    "shortcut": _shortcut,
    "dropout": _dropout,
    "cost": _cost,
    "softmax": _softmax,
    "region": _region,
}


def _layer_index(section: Section, key: str, value: int, index: int) -> int:
    """Resolve a layer number of a cfg: a negative one is relative to layer `index`, others are absolute."""
    source = index + value if value < 0 else value
    if not 0 <= source < index:
        raise section.error(key, f"{value} is layer {source}; layer {index} can only read layers 0 to {index - 1}")
    return source


def _activation(section: Section, default: str) -> str:
    name: str = section.get("activation", default)
    if name not in ACTIVATIONS:
        hint = "; put comments on a line of their own" if "#" in name or ";" in name else ""
        raise section.error("activation", f"must be one of {', '.join(ACTIVATIONS)}{hint}")
    return name


def _refuse_options(section: Section, *keys: str) -> None:
    for key in keys:
        if section.get(key, 0):
            raise section.error(key, "not supported; must be 0")
