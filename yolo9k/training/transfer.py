"""Taking weights from another network: by the names of layers, or in the order of a Darknet file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from yolo9k.checkpoint import Checkpoint
from yolo9k.config.schema import NormConfig
from yolo9k.models.layers import layer_names
from yolo9k.models.norms import convert_norm
from yolo9k.pretrained import build_stored

Layers = dict[str, dict[str, Tensor]]  # the name of a layer (a convolution with its norm) to its tensors
NUMBERED = re.compile(r"layers\.\d+")  # what a layer of a cfg is called
OTHER_TENSORS = ("group", "none")  # kinds of norm with other tensors than batch norm
SPAN = 3  # so many neighbours and more are written as first to last


@dataclass(frozen=True)
class Transfer:
    """What became of the layers `own` of a network and `theirs` of a file; `pairs`: those taken, own to theirs."""

    pairs: Mapping[str, str]
    own: tuple[str, ...]
    theirs: tuple[str, ...]

    @property
    def taken(self) -> tuple[str, ...]:
        """Layers of the network that come from the file."""
        return tuple(self.pairs)

    @property
    def new(self) -> tuple[str, ...]:
        """Layers of the network that the file has nothing for."""
        return tuple(name for name in self.own if name not in self.pairs)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Layers of the file that the network has no use for."""
        used = set(self.pairs.values())
        return tuple(name for name in self.theirs if name not in used)

    def __str__(self) -> str:
        taken, new = (listed(names, self.own) for names in (self.taken, self.new))
        left_out = listed(self.left_out, self.theirs)
        return f"{len(self.pairs)} of {len(self.own)} layers: {taken}; new: {new}; left out: {left_out}"


def transfer(stored: Checkpoint, network: nn.Module) -> Transfer:
    """Copy into the network the layers that fit; the others stay as they are.

    Layers are found by name where the models have the same ones. Otherwise, and between two cfgs (one layer more
    shifts all numbers behind it), they are taken in the order of a Darknet file, up to the first that does not fit:
    what comes after it would be something else.
    """
    theirs, own = _layers(stored.weights), _layers(network.state_dict(keep_vars=True))
    if stored.darknet is not None:  # a partial file: the rest of the stored network is not from it
        theirs = dict(list(theirs.items())[: stored.darknet["blocks"]])
    if any(name in theirs and not NUMBERED.fullmatch(name) for name in own):
        pairs = {name: name for name in own if name in theirs and _fits(theirs[name], own[name])}
    else:
        pairs = _in_order(theirs, own)
    with torch.no_grad():
        for name, source in pairs.items():
            for part, value in theirs[source].items():
                own[name][part].copy_(value)
    return Transfer(pairs, tuple(own), tuple(theirs))


def with_norm(stored: Checkpoint, norm: NormConfig, source: str | Path) -> Checkpoint:
    """The checkpoint with its batch norms made into what another model has, where that has other tensors.

    Group norm keeps the factors, a bias takes in the norm (`convert_norm`). Raises the errors of that, and
    `WeightsError` where the weights do not fit the model that `source` describes.
    """
    if norm.kind not in OTHER_TENSORS or stored.config.model.norm.kind in OTHER_TENSORS:
        return stored
    return replace(stored, weights=convert_norm(build_stored(stored, source), norm).state_dict())


def _in_order(theirs: Layers, own: Layers) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for name, source in zip(own, theirs, strict=False):
        if not _fits(theirs[source], own[name]):
            break
        pairs[name] = source
    return pairs


def _layers(state: Mapping[str, Tensor]) -> Layers:
    """The tensors of a state, by layer and by the end of their names: `neck.join` has `conv.weight`, `norm.bias`, …

    Every convolution is `conv`: so a layer that is nothing else (`last`) fits one in a block of its own.
    """
    convolutions = {_module(name) for name, value in state.items() if name.endswith("weight") and value.dim() > 1}
    layers: Layers = {}
    for name, layer in layer_names(state).items():
        end = name.rpartition(".")[2]
        part = f"conv.{end}" if _module(name) in convolutions else ".".join(name.split(".")[-2:])
        layers.setdefault(layer, {})[part] = state[name]
    return layers


def _module(name: str) -> str:
    """Of a tensor's name that of its module."""
    return name.rpartition(".")[0]


def _fits(theirs: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    return theirs.keys() == own.keys() and all(theirs[part].shape == own[part].shape for part in own)


def listed(names: Sequence[str], order: Sequence[str]) -> str:
    """Some names of an ordered list, neighbours as `first to last`."""
    chosen = set(names)
    runs: list[list[str]] = [[]]
    for name in order:
        if name in chosen:
            runs[-1].append(name)
        elif runs[-1]:
            runs.append([])
    parts = [[f"{run[0]} to {run[-1]}"] if len(run) >= SPAN else run for run in runs]
    return ", ".join(part for run in parts for part in run) or "none"
