"""Which parts of a network learn, from when on and how fast: `train.freeze`, `unfreeze_at` and `lr_factors`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

import torch
from torch import nn

from yolo9k.config.schema import TrainConfig
from yolo9k.errors import ConfigError
from yolo9k.models.layers import layer_names
from yolo9k.models.norms import BatchNorm, FrozenBatchNorm
from yolo9k.training.transfer import listed


class Freezing:
    """Keeps the parts of a network that `config.freeze` names from learning, for good or until an epoch.

    Every step calls `apply` before its first forward pass, and `finish` after its last backward pass. What they do
    depends on the number of the step alone, so that a resumed run goes on exactly. Raises `ConfigError` for a name
    that no layer has, and where nothing would be left to learn.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, steps_per_epoch: float = math.inf) -> None:
        self.network, self.still = network, config.freeze_mode == "frozen"
        names = layer_names(network.state_dict(keep_vars=True))
        self.layers = tuple(dict.fromkeys(names.values()))
        self.frozen = _frozen(self.layers, config.freeze)
        self.until = math.inf if config.unfreeze_at is None else config.unfreeze_at * steps_per_epoch
        learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._all = list(learning.values())
        self._parameters = [p for name, p in learning.items() if names[name] in self.frozen]
        self._others = [p for name, p in learning.items() if names[name] not in self.frozen]
        self._norms = [
            module
            for name, module in network.named_modules()
            if isinstance(module, BatchNorm) and names.get(f"{name}.running_mean") in self.frozen
        ]

    def apply(self, step: int) -> None:
        """Set the network to training, but for what is frozen at this step (from 0)."""
        frozen = self._is_frozen(step)
        self.network.train()
        for parameter in self._parameters:
            parameter.requires_grad_(not frozen)
        if frozen and self.still:
            for norm in self._norms:
                norm.eval()

    def finish(self, step: int) -> None:
        """Give zeros to weights that no gradient reached, so that they decay and momentum runs out, as in Darknet.

        There (`stopbackward`) an update is for all layers; what stands still gets none.
        """
        for parameter in self._others if self.still and self._is_frozen(step) else self._all:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _is_frozen(self, step: int) -> bool:
        return step < self.until

    def notes(self) -> Iterator[str]:
        """What a person should know before the first step."""
        if self.frozen:
            most = sum(parameter.numel() for parameter in self._all)
            part = sum(parameter.numel() for parameter in self._parameters)
            until = "" if math.isinf(self.until) else f" until step {math.ceil(self.until)}"
            how = "" if self.still else ", but decay, and their statistics move (stopbackward)"
            yield (
                f"frozen{until}: {len(self.frozen)} of {len(self.layers)} layers, {part:,} of {most:,} parameters, "
                f"{listed(self.frozen, self.layers)}{how}"
            )
        idle = _idle_norms(self.network)
        if idle:
            yield (
                f"warning: {len(idle)} frozen norms got no statistics from any weights and change nothing, "
                f"the first is {idle[0]}; start from weights that have them (--weights), or choose another model.norm"
            )


def _frozen(layers: Sequence[str], freeze: int | Sequence[str]) -> tuple[str, ...]:
    """The layers that `train.freeze` means, in their order."""
    if isinstance(freeze, int):
        if not 0 < freeze < len(layers):  # the last has something to learn
            raise ConfigError(f"train.freeze: must be from 1 to {len(layers) - 1} layers, not {freeze}")
        return tuple(layers[:freeze])
    meant = {layer for name in freeze for layer in find_layers(layers, name, "train.freeze")}
    if len(meant) == len(layers):
        raise ConfigError(f"train.freeze: {', '.join(freeze)} is all of the network; nothing would be left to learn")
    return tuple(layer for layer in layers if layer in meant)


def lr_factors_by_tensor(network: nn.Module, factors: Mapping[str, float]) -> dict[str, float]:
    """Of each tensor of a network's state the factor of its learning rate: of the first name that fits, else 1.

    Raises `ConfigError` for a name that no layer has.
    """
    names = layer_names(network.state_dict(keep_vars=True))
    by_layer: dict[str, float] = {}
    for name, factor in factors.items():
        for layer in find_layers(tuple(dict.fromkeys(names.values())), name, "train.lr_factors"):
            by_layer.setdefault(layer, factor)
    return {name: by_layer.get(layer, 1.0) for name, layer in names.items()}


def find_layers(layers: Sequence[str], name: str, key: str) -> list[str]:
    """The layers that a name or a pattern (`backbone`, `backbone.fine.*`, `neck.deepen.?`) means.

    Raises `ConfigError` where there are none.
    """
    found = [layer for layer in layers if fnmatchcase(layer, name) or fnmatchcase(layer, f"{name}.*")]
    if not found:
        parts = dict.fromkeys(part for layer in layers for part in _parts(layer))
        near = get_close_matches(name, parts, cutoff=0.5) or [part for part in parts if "." not in part]
        raise ConfigError(f"{key}: no layer is called {name!r}; near are {', '.join(near)}")
    return found


def _parts(layer: str) -> Iterator[str]:
    """`a.b.c`: a, a.b, a.b.c."""
    words = layer.split(".")
    return (".".join(words[: number + 1]) for number in range(len(words)))


def _idle_norms(network: nn.Module) -> list[str]:
    """Frozen norms that are still as a new one is."""
    return [
        name
        for name, norm in network.named_modules()
        if isinstance(norm, FrozenBatchNorm) and bool((norm.running_mean == 0).all() & (norm.running_var == 1).all())
    ]
