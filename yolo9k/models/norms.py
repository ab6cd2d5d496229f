"""What follows a convolution: kinds of norms, and networks whose norms become others."""

import copy
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from yolo9k.config import updated
from yolo9k.config.schema import NormConfig
from yolo9k.errors import ConfigError

NormLayer = Callable[[int], nn.Module]  # from the channels of a convolution; none at all is a bias
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm  # all that have running statistics
Network = TypeVar("Network", bound=nn.Module)


class FrozenBatchNorm(nn.BatchNorm2d):
    """Batch norm in evaluation mode for ever: its statistics do not move and its factors do not learn.

    Its tensors are called as those of batch norm, whose weights it takes.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenBatchNorm":
        """Stays in evaluation mode."""
        return super().train(False)


class SyncedBatchNorm(nn.SyncBatchNorm):
    """Batch norm over the images of all processes; of a single process it is batch norm, on any device."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape. Raises `ConfigError` for several processes on CPUs, which torch has not."""
        if self.training and x.device.type == "cpu" and _processes() > 1:
            raise ConfigError("model.norm.kind: sync with several processes needs GPUs; choose batch or group")
        return super().forward(x)


def _processes() -> int:
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def norm_layer(config: NormConfig) -> NormLayer | None:
    """What makes the norm of a convolution from its channels; none where the convolution has a bias instead."""
    makers: dict[str, NormLayer | None] = {
        "batch": partial(nn.BatchNorm2d, eps=config.eps, momentum=config.momentum),
        "sync": partial(SyncedBatchNorm, eps=config.eps, momentum=config.momentum),
        "frozen": partial(FrozenBatchNorm, eps=config.eps),
        "group": lambda channels: nn.GroupNorm(largest_divisor(channels, config.groups), channels, config.eps),
        "none": None,
    }
    return makers[config.kind]


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is at most `most`."""
    return next(divisor for divisor in range(min(number, most), 0, -1) if number % divisor == 0)


def convert_norm(network: Network, config: NormConfig) -> Network:
    """A copy of a network, pretrained as a rule, whose batch norms have become what `config` says.

    Weights stay, and so does each norm's own eps. `batch` and `sync` get the momentum; `frozen` keeps statistics and
    factors; `group` keeps the factors, and computes something else from then on; `none` folds each norm into the
    convolution before it (`fold_norms`). Raises `ConfigError` where `none` meets a norm that cannot be folded, and all
    but `group` one that keeps no statistics.
    """
    if config.kind == "none":
        return _without_norms(network)
    converted = copy.deepcopy(network)
    made: dict[nn.Module, nn.Module] = {}  # a norm that is in several places stays one
    for place, norm in _norms(converted):
        if config.kind != "group" and norm.running_mean is None:
            raise ConfigError(f"model.norm.kind: {config.kind}: {place} keeps no statistics; choose group")
        if norm not in made:
            made[norm] = _converted(norm, config)
        parent, _, name = place.rpartition(".")
        setattr(converted.get_submodule(parent), name, made[norm])
    return converted


def _norms(network: nn.Module) -> list[tuple[str, BatchNorm]]:
    """All batch norms in a network with their places; one that is in several places comes several times."""
    modules = network.named_modules(remove_duplicate=False)
    return [(place, module) for place, module in modules if place and isinstance(module, BatchNorm)]


def _converted(norm: BatchNorm, config: NormConfig) -> nn.Module:
    make = norm_layer(updated(config, {"eps": norm.eps}))
    assert make is not None
    made, state = make(norm.num_features), norm.state_dict()
    made.load_state_dict({name: state.get(name, value) for name, value in made.state_dict().items()})
    like = norm.weight if norm.affine else norm.running_mean
    return (made if like is None else made.to(like)).train(norm.training)


def _without_norms(network: Network) -> Network:
    folded = fold_norms(network)
    left = _norms(folded)
    if left:
        raise ConfigError(
            f"model.norm.kind: none: {left[0][0]} cannot be folded into a convolution, so it cannot be left out"
        )
    return folded


def fold_norms(network: Network) -> Network:
    """A copy whose convolutions have taken in the batch norms right behind them: what evaluation computes, faster.

    Which norm follows which convolution is taken from the order in which a block lists its parts, as `ConvBlock` and
    the networks of torchvision have it: in a network of other origin look whether that is the order of computation.
    Convolutions and norms in several places, and norms without statistics, stay.
    """
    folded = copy.deepcopy(network)
    places = Counter(module for _, module in folded.named_modules(remove_duplicate=False))
    for parent in list(folded.modules()):
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if not (isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNorm)):
                continue
            once = places[conv] == places[norm] == 1
            if once and norm.num_features == conv.out_channels and norm.running_mean is not None:
                _fold(conv, norm)
                setattr(parent, name, nn.Identity())
    return folded


def _fold(conv: nn.Conv2d, norm: BatchNorm) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    learns = conv.weight.requires_grad
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.bias.requires_grad_(learns)
