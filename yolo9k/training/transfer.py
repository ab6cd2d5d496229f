"""Taking weights from another network: by the names of layers, or in the order of a Darknet file."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from yolo9k.checkpoint import Checkpoint

Layers = dict[str, dict[str, Tensor]]  # the name of a layer (a convolution with its norm) to its tensors


@dataclass(frozen=True)
class Transfer:
    """Which layers were taken, which of the network stay new, and which of the file were left out."""

    taken: tuple[str, ...]
    new: tuple[str, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        total = len(self.taken) + len(self.new)
        parts = (f"new: {_listed(self.new)}", f"left out: {_listed(self.left_out)}")
        return f"{len(self.taken)} of {total} layers; {'; '.join(parts)}"


def transfer(stored: Checkpoint, network: nn.Module) -> Transfer:
    """Copy into the network the layers that fit; the others stay as they are.

    Layers are found by name where the models have the same ones. Otherwise they are taken in the order of a Darknet
    file, up to the first that does not fit: what comes after it would be something else.
    """
    theirs, own = _layers(stored.weights), _layers(network.state_dict(keep_vars=True))
    if stored.darknet is not None:  # a partial file: the rest of the stored network is not from it
        theirs = dict(list(theirs.items())[: stored.darknet["blocks"]])
    if theirs.keys() & own.keys():
        pairs = {name: name for name in own if name in theirs and _fits(theirs[name], own[name])}
    else:
        pairs = _in_order(theirs, own)
    with torch.no_grad():
        for name, source in pairs.items():
            for part, value in theirs[source].items():
                own[name][part].copy_(value)
    return Transfer(
        tuple(pairs),
        tuple(name for name in own if name not in pairs),
        tuple(name for name in theirs if name not in pairs.values()),
    )


def _in_order(theirs: Layers, own: Layers) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for name, source in zip(own, theirs, strict=False):
        if not _fits(theirs[source], own[name]):
            break
        pairs[name] = source
    return pairs


def _layers(state: Mapping[str, Tensor]) -> Layers:
    """The tensors of a state, by layer: `neck.join.conv.weight` and `neck.join.norm.bias` belong to `neck.join`."""
    layers: Layers = {}
    for name, value in state.items():
        layer, _, part = name.rpartition(".")
        owner, _, kind = layer.rpartition(".")
        layers.setdefault(owner, {})[f"{kind}.{part}"] = value
    return layers


def _fits(theirs: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    return theirs.keys() == own.keys() and all(theirs[part].shape == own[part].shape for part in own)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
