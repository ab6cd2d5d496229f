"""`Freezing`: which layers are trained, and from which epoch on (`train.freeze`, `unfreeze_at`, `lr_factors`)."""

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
from yolo9k.training.transfer import layer_ranges


class Freezing:
    """Freezes the layers that `config.freeze` names, for the whole run or until an epoch.

    Every step calls `apply` before its first forward pass and `fill_gradients` after its last backward pass. Both
    depend only on the step, so that a resumed run continues exactly. Raises `ConfigError` for a name that no layer has,
    or if all layers would be frozen.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, steps_per_epoch: float = math.inf) -> None:
        self.network = network
        self.stops_updates = config.freeze_mode == "frozen"  # else `stopbackward`: only gradients stop
        names = layer_names(network.state_dict(keep_vars=True))
        self.layers = tuple(dict.fromkeys(names.values()))
        self.frozen = _frozen_layers(self.layers, config.freeze)
        self.until_step = math.inf if config.unfreeze_at is None else config.unfreeze_at * steps_per_epoch
        trainable = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._all_parameters = list(trainable.values())
        self._frozen_parameters = [p for name, p in trainable.items() if names[name] in self.frozen]
        self._other_parameters = [p for name, p in trainable.items() if names[name] not in self.frozen]
        self._frozen_norms = [
            module
            for name, module in network.named_modules()
            if isinstance(module, BatchNorm) and names.get(f"{name}.running_mean") in self.frozen
        ]

    def apply(self, step: int) -> None:
        """Set the network to training mode, except for the layers that are frozen at this step (from 0)."""
        freeze = step < self.until_step
        self.network.train()
        for parameter in self._frozen_parameters:
            parameter.requires_grad_(not freeze)
        if freeze and self.stops_updates:
            for norm in self._frozen_norms:
                norm.eval()

    def fill_gradients(self, step: int) -> None:
        """Set missing gradients to zero, so that weight decay and momentum apply to these weights, too.

        So does Darknet: its update runs for all layers, even with `stopbackward`. Layers in mode `frozen` get none.
        """
        without_update = self.stops_updates and step < self.until_step
        for parameter in self._other_parameters if without_update else self._all_parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def notes(self) -> Iterator[str]:
        """Yield notes for the user: which layers are frozen, and frozen norms without statistics."""
        if self.frozen:
            total = sum(parameter.numel() for parameter in self._all_parameters)
            count = sum(parameter.numel() for parameter in self._frozen_parameters)
            until = "" if math.isinf(self.until_step) else f" until step {math.ceil(self.until_step)}"
            mode = "" if self.stops_updates else "; their weights decay and their statistics update (stopbackward)"
            yield (
                f"frozen{until}: {len(self.frozen)} of {len(self.layers)} layers, {count:,} of {total:,} parameters: "
                f"{layer_ranges(self.frozen, self.layers)}{mode}"
            )
        empty = _norms_without_statistics(self.network)
        if empty:
            yield (
                f"warning: {len(empty)} frozen norms have no statistics and change nothing, first: {empty[0]}; "
                f"start from weights that have them (--weights), or choose another model.norm"
            )


def _frozen_layers(layers: Sequence[str], freeze: int | Sequence[str]) -> tuple[str, ...]:
    """Return the layers that `train.freeze` selects, in the order of the network."""
    if isinstance(freeze, int):
        if not 0 < freeze < len(layers):  # at least the last layer is trained
            raise ConfigError(f"train.freeze: must be from 1 to {len(layers) - 1} layers, not {freeze}")
        return tuple(layers[:freeze])
    selected = {layer for name in freeze for layer in find_layers(layers, name, "train.freeze")}
    if len(selected) == len(layers):
        raise ConfigError(f"train.freeze: {', '.join(freeze)} selects all layers; none would be trained")
    return tuple(layer for layer in layers if layer in selected)


def lr_factors_by_tensor(network: nn.Module, factors: Mapping[str, float]) -> dict[str, float]:
    """Return the learning rate factor of each tensor in the network's state: the first name that matches, else 1.

    Raises `ConfigError` for a name that no layer has.
    """
    names = layer_names(network.state_dict(keep_vars=True))
    by_layer: dict[str, float] = {}
    for name, factor in factors.items():
        for layer in find_layers(tuple(dict.fromkeys(names.values())), name, "train.lr_factors"):
            by_layer.setdefault(layer, factor)
    return {name: by_layer.get(layer, 1.0) for name, layer in names.items()}


def find_layers(layers: Sequence[str], name: str, key: str) -> list[str]:
    """Return the layers that a name or a pattern matches (`backbone`, `backbone.fine.*`, `neck.deepen.?`).

    Raises `ConfigError` for config key `key` if there are none.
    """
    matches = [layer for layer in layers if fnmatchcase(layer, name) or fnmatchcase(layer, f"{name}.*")]
    if not matches:
        prefixes = dict.fromkeys(prefix for layer in layers for prefix in _prefixes(layer))
        close = get_close_matches(name, prefixes, cutoff=0.5) or [prefix for prefix in prefixes if "." not in prefix]
        raise ConfigError(f"{key}: no layer is named {name!r}; did you mean {', '.join(close)}?")
    return matches


def _prefixes(layer: str) -> Iterator[str]:
    """Yield the name's prefixes: `a`, `a.b` and `a.b.c` for `a.b.c`."""
    parts = layer.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def _norms_without_statistics(network: nn.Module) -> list[str]:
    """Return the names of frozen batch norms with the initial statistics (mean 0, variance 1)."""
    return [
        name
        for name, norm in network.named_modules()
        if isinstance(norm, FrozenBatchNorm) and bool((norm.running_mean == 0).all() & (norm.running_var == 1).all())
    ]
