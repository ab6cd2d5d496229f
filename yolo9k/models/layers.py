"""The layers that YOLOv2 is made of, as Darknet computes them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolo9k.models.norms import NormLayer

LEAKY_SLOPE = 0.1  # Darknet `activations.h`
ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "leaky": lambda: nn.LeakyReLU(LEAKY_SLOPE, inplace=True),
    "relu": lambda: nn.ReLU(inplace=True),
    "logistic": nn.Sigmoid,
    "linear": nn.Identity,
}


class ConvBlock(nn.Sequential):
    """Convolution, norm, activation, as one `[convolutional]` section; odd kernels keep the size at stride 1.

    (B, in_channels, H, W) to (B, out_channels, H', W'). `padding` on each side, kernel // 2 if not given. `norm`: what
    makes the norm, which has a bias; without one the convolution has it. `activation`: a name of `ACTIVATIONS`.
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
        margin = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, margin, groups=groups, bias=norm is None)
        self.norm = norm(out_channels) if norm else nn.Identity()
        self.activation = ACTIVATIONS[activation]()
        initialise(self.conv)


class MaxPool(nn.Module):
    """Darknet's max pooling (`maxpool_layer.c`): `padding` counts both sides together, the left gets the smaller half.

    The default padding of size - 1 makes stride 2 round odd sizes up and stride 1 keep the size.
    """

    def __init__(self, size: int, stride: int, padding: int | None = None) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        self.padding = size - 1 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, (H + padding - size) // stride + 1, likewise W)."""
        h, w = x.shape[-2:]
        before = self.padding // 2
        bottom, right = (self._after(length, before) for length in (h, w))
        if before or bottom > 0 or right > 0:
            x = F.pad(x, (before, right, before, bottom), value=float("-inf"))
        return F.max_pool2d(x, self.size, self.stride)

    def _after(self, length: int, before: int) -> int:
        """How much must be added (or cut) at the far end, so that nothing is padded that no window reads."""
        outputs = (length + self.padding - self.size) // self.stride + 1
        return (outputs - 1) * self.stride + self.size - length - before


class Reorg(nn.Module):
    """Darknet's reorg (`blas.c: reorg_cpu`): space to depth in its own order, which is not `pixel_unshuffle`'s."""

    def __init__(self, stride: int = 2) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C * s * s, H / s, W / s); s * s must divide C, and s both H and W."""
        b, c, h, w = x.shape
        s = self.stride
        # Darknet reads the memory of (C, H, W) as (C / s², H * s, W * s): hence the first reshape of plain layout.
        x = x.reshape(b, c // (s * s), h, s, w, s).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(b, c * s * s, h // s, w // s)


def initialise(module: nn.Module) -> None:
    """Darknet's start: convolutions normal with variance 2 / fan-in, no biases, norms 1 and 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def layer_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """The layer that each tensor of a network's state belongs to: a convolution (or linear map) with its norm.

    It is called as the module that holds nothing else, `neck.join` of `neck.join.conv.weight`; as the convolution
    itself where a module holds several, with the norm that comes next to it there.
    """
    modules = {name: name.rpartition(".")[0] for name in state}
    convolutions = {modules[name] for name, value in state.items() if name.endswith("weight") and value.dim() > 1}
    inside = Counter(module for convolution in convolutions for module in _ancestors(convolution))
    layers: dict[str, str] = {}
    latest: dict[str, tuple[str, str]] = {}  # of each module: its part that was met last, and whose layer that is
    for name, module in modules.items():
        parent = module.rpartition(".")[0]
        part, owner = latest.get(parent, ("", module))
        if module in convolutions or (module != part and owner not in convolutions):
            owner = module
        layers[name] = parent if inside[parent] == 1 else owner
        latest[parent] = module, owner
        for outer in [*_ancestors(parent), ""] if parent else []:  # what comes after this part is next to none there
            latest.pop(outer, None)
    return layers


def _ancestors(module: str) -> Iterator[str]:
    while module := module.rpartition(".")[0]:
        yield module


def scaled(channels: int, width: float) -> int:
    """Channels times a width multiplier, a multiple of 8 and at least 8; exact at width 1."""
    return channels if width == 1 else max(8, round(channels * width / 8) * 8)


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, whether they learn or not."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_operations(module: nn.Module, size_wh: tuple[int, int]) -> int:
    """Operations of one forward pass of a (1, 3, H, W) image; a multiply-add counts as two, as in the papers."""
    from torch.utils.flop_counter import FlopCounterMode

    training = module.training
    parameter = next(module.parameters())
    image = torch.zeros(1, 3, size_wh[1], size_wh[0], device=parameter.device, dtype=parameter.dtype)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(image)
    module.train(training)
    return int(counter.get_total_flops())
