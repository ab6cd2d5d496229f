"""The layers of YOLOv2 as Darknet computes them, their initialisation, and counts of parameters and operations."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolo9k.models.norms import NormLayer

LEAKY_SLOPE = 0.1  # Darknet `activations.h: leaky_activate`
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "leaky": lambda: nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "logistic": nn.Sigmoid,
    "linear": nn.Identity,
    "mish": nn.Mish,  # this and the next: AlexeyAB's fork of Darknet, `activations.h`
    "swish": nn.SiLU,
}


class ConvBlock(nn.Sequential):
    """A `[convolutional]` section: convolution, norm, activation; (B, in_channels, H, W) to (B, out_channels, H', W').

    `padding`: per side; default: kernel // 2 (Darknet's `pad=1`), which keeps the size at stride 1 for odd kernels.
    `norm`: makes the norm (`batch_normalize=1`); `None`: no norm, but a bias. `activation`: a key of `ACTIVATIONS`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        norm: NormLayer | None = nn.BatchNorm2d,
        activation: str = "leaky",
    ) -> None:
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=norm is None)
        self.norm = norm(out_channels) if norm else nn.Identity()
        self.activation = ACTIVATIONS[activation]()
        initialise(self.conv)


class MaxPool(nn.Module):
    """A `[maxpool]` section (`maxpool_layer.c`): `padding` is the sum of both sides, the left gets the smaller half.

    Default padding: size - 1. It keeps the size at stride 1, and halves it at stride 2, rounded up.
    """

    def __init__(self, size: int, stride: int, padding: int | None = None) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        self.padding = size - 1 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        """Pool (B, C, H, W) to (B, C, H', W') with H' = (H + padding - size) // stride + 1, and W' alike."""
        h, w = x.shape[-2:]
        start = self.padding // 2
        bottom, right = (self._end_padding(length, start) for length in (h, w))
        if start or bottom > 0 or right > 0:
            x = F.pad(x, (start, right, start, bottom), value=float("-inf"))
        return F.max_pool2d(x, self.size, self.stride)

    def _end_padding(self, length: int, start: int) -> int:
        """Return the padding at the bottom or right that the last window needs; negative: the rest is not read."""
        outputs = (length + self.padding - self.size) // self.stride + 1
        return (outputs - 1) * self.stride + self.size - length - start


class Reorg(nn.Module):
    """A `[reorg]` section (`blas.c: reorg_cpu`): space to depth, in another channel order than `pixel_unshuffle`."""

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Rearrange (B, C, H, W) to (B, C * s * s, H / s, W / s); C is a multiple of s * s, H and W of s."""
        b, c, h, w = x.shape
        s = self.stride
        # Darknet reads the memory of (C, H, W) as (C / s², H * s, W * s): `reshape` reads x in contiguous order, too.
        x = x.reshape(b, c // (s * s), h, s, w, s).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(b, c * s * s, h // s, w // s)


def initialise(module: nn.Module) -> None:
    """Initialise convolutions as Darknet does: weights normal with variance 2 / fan-in, biases 0.

    Norms keep PyTorch's initial values, which are Darknet's: factor 1, bias 0.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def layer_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the layer of each tensor of a state dict; a layer is a convolution (or linear module) with its norm.

    If a module holds one convolution, the layer has the module's name: `neck.join.conv.weight` belongs to `neck.join`.
    If it holds several, the layer has the name of the convolution; a norm belongs to the convolution right before it.
    """
    modules = {name: name.rpartition(".")[0] for name in state}
    convolutions = {modules[name] for name, value in state.items() if name.endswith("weight") and value.dim() > 1}
    convolutions_in = Counter(module for convolution in convolutions for module in _ancestors(convolution))
    layers: dict[str, str] = {}
    previous: dict[str, tuple[str, str]] = {}  # per parent module: its child just before, and the layer of that child
    for name, module in modules.items():
        parent = module.rpartition(".")[0]
        child, layer = previous.get(parent, ("", module))
        if module in convolutions or (module != child and layer not in convolutions):
            layer = module
        layers[name] = parent if convolutions_in[parent] == 1 else layer
        previous[parent] = module, layer
        for outer in [*_ancestors(parent), ""] if parent else []:  # a norm after this module is not next to a child
            previous.pop(outer, None)
    return layers


def _ancestors(module: str) -> Iterator[str]:
    while module := module.rpartition(".")[0]:
        yield module


def scaled(channels: int, width: float) -> int:
    """Return channels x width, rounded to a multiple of 8, at least 8; at width 1, channels as they are."""
    return channels if width == 1 else max(8, round(channels * width / 8) * 8)


def count_parameters(module: nn.Module) -> int:
    """Return the number of parameters, including frozen ones."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_operations(module: nn.Module, size_wh: tuple[int, int]) -> int:
    """Return the operations of one forward pass of one image; a multiply-add counts as two, as in papers.

    The image has the module's `input_channels`, 3 if it has no such attribute.
    """
    from torch.utils.flop_counter import FlopCounterMode

    training = module.training
    parameter = next(module.parameters())
    channels = getattr(module, "input_channels", 3)
    image = torch.zeros(1, channels, size_wh[1], size_wh[0], device=parameter.device, dtype=parameter.dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(image)
    module.train(training)
    return int(counter.get_total_flops())
