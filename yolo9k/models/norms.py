"""Norms after convolutions: make them from a config, convert them in a network, fold them into convolutions."""

import copy
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from yolo9k import processes
from yolo9k.config import updated
from yolo9k.config.schema import NormConfig
from yolo9k.errors import ConfigError

NormLayer = Callable[[int], nn.Module]  # makes a norm from the output channels of a convolution
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm  # all norms with running statistics
Network = TypeVar("Network", bound=nn.Module)


class FrozenBatchNorm(nn.BatchNorm2d):
    """Batch norm with fixed statistics, factors and biases: always in evaluation mode, without trainable parameters.

    Its state dict has the same keys as that of batch norm.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "FrozenBatchNorm":
        """Stay in evaluation mode."""
        return super().train(False)


class SyncedBatchNorm(nn.SyncBatchNorm):
    """Batch norm over the images of all processes; with a single process, plain batch norm on any device."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, H, W). Raises `ConfigError` for several processes on CPUs, which torch does not support."""
        if self.training and x.device.type == "cpu" and processes.count() > 1:
            raise ConfigError("model.norm.kind: sync with several processes needs GPUs; choose batch or group")
        if processes.count() == 1:  # torch's refuses CPUs as soon as there is a group
            return nn.BatchNorm2d.forward(self, x)
        return super().forward(x)


def norm_layer(config: NormConfig) -> NormLayer | None:
    """Return a function that makes the norm of a convolution from its channels; `None`: the convolution has a bias."""
    makers: dict[str, NormLayer | None] = {
        "batch": partial(nn.BatchNorm2d, eps=config.eps, momentum=config.momentum),
        "sync": partial(SyncedBatchNorm, eps=config.eps, momentum=config.momentum),
        "frozen": partial(FrozenBatchNorm, eps=config.eps),
        "group": lambda channels: nn.GroupNorm(largest_divisor(channels, config.groups), channels, config.eps),
        "none": None,
    }
    return makers[config.kind]


def largest_divisor(n: int, limit: int) -> int:
    """Return the largest divisor of `n` that is at most `limit`."""
    return next(divisor for divisor in range(min(n, limit), 0, -1) if n % divisor == 0)


def convert_norm(network: Network, config: NormConfig) -> Network:
    """Return a copy of a (usually pretrained) network with all batch norms converted to the kind of `config`.

    Weights and the eps of each norm are kept. `batch` and `sync` use the momentum of `config`; `frozen` keeps
    statistics, factors and biases; `group` keeps factors and biases, so the network computes another function; `none`
    folds each norm into the convolution before it (`fold_norms`). Raises `ConfigError` if a norm cannot be folded
    (`none`), or has no running statistics (all kinds but `group`).
    """
    if config.kind == "none":
        return _without_norms(network)
    converted = copy.deepcopy(network)
    replacements: dict[nn.Module, nn.Module] = {}  # a norm shared by several modules stays shared
    for path, norm in _batch_norms(converted):
        if config.kind != "group" and norm.running_mean is None:
            raise ConfigError(f"model.norm.kind: {config.kind}: {path} has no running statistics; choose group")
        if norm not in replacements:
            replacements[norm] = _convert(norm, config)
        parent, _, name = path.rpartition(".")
        setattr(converted.get_submodule(parent), name, replacements[norm])
    return converted


def _batch_norms(network: nn.Module) -> list[tuple[str, BatchNorm]]:
    """Return all batch norms with their paths in the network; a shared one appears once per path."""
    modules = network.named_modules(remove_duplicate=False)
    return [(path, module) for path, module in modules if path and isinstance(module, BatchNorm)]


def _convert(norm: BatchNorm, config: NormConfig) -> nn.Module:
    """Return a norm of the kind of `config` with the weights, eps, dtype, device and mode of `norm`."""
    make_norm = norm_layer(updated(config, {"eps": norm.eps}))
    assert make_norm is not None
    converted, state = make_norm(norm.num_features), norm.state_dict()
    converted.load_state_dict({name: state.get(name, value) for name, value in converted.state_dict().items()})
    like = norm.weight if norm.affine else norm.running_mean
    return (converted if like is None else converted.to(like)).train(norm.training)


def _without_norms(network: Network) -> Network:
    folded = fold_norms(network)
    remaining = _batch_norms(folded)
    if remaining:
        raise ConfigError(
            f"model.norm.kind: none: {remaining[0][0]} cannot be folded into a convolution, so it cannot be removed"
        )
    return folded


def fold_norms(network: Network) -> Network:
    """Return a copy with each batch norm folded into the convolution before it: the same evaluation output, faster.

    A norm is folded if a module lists it right after a convolution, as `ConvBlock` and torchvision's networks do. For
    other networks, check that this is also the order of computation. Shared convolutions, shared norms, and norms
    without running statistics are kept.
    """
    folded = copy.deepcopy(network)
    uses = Counter(module for _, module in folded.named_modules(remove_duplicate=False))
    for parent in list(folded.modules()):
        for (_, conv), (name, norm) in pairwise(list(parent.named_children())):
            if not (isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNorm)):
                continue
            is_unshared = uses[conv] == uses[norm] == 1
            if is_unshared and norm.num_features == conv.out_channels and norm.running_mean is not None:
                _fold(conv, norm)
                setattr(parent, name, nn.Identity())
    return folded


def _fold(conv: nn.Conv2d, norm: BatchNorm) -> None:
    """Replace weight and bias of the convolution by those of convolution and norm together."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    trainable = conv.weight.requires_grad
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.bias.requires_grad_(trainable)
