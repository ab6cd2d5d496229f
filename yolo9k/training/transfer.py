"""`transfer`: copy the layers that fit from a checkpoint into a network, by layer name or in Darknet file order.

The last convolution, whose rows are classes, moves by class (`class_rows.py`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from yolo9k.checkpoint import Checkpoint
from yolo9k.config import ClassifierConfig, RunConfig
from yolo9k.config.schema import NormConfig
from yolo9k.darknet.cfg import parse_cfg
from yolo9k.models.layers import layer_names
from yolo9k.models.norms import convert_norm
from yolo9k.pretrained import are_unnamed, build_stored
from yolo9k.training.class_rows import HeadLayout, HeadRows
from yolo9k.wordtree import WordTree

Layers = dict[str, dict[str, Tensor]]  # tensors by layer (a convolution with its norm), then by their part of the name
NUMBERED = re.compile(r"layers\.\d+")  # name of a layer of a Darknet cfg
OTHER_TENSORS = ("group", "none")  # kinds of norm whose tensors differ from batch norm's
MIN_RANGE = 3  # neighbours from which on a list of layers is written as a range


@dataclass(frozen=True)
class Transfer:
    """The result of `transfer`.

    `pairs`: loaded layers, network layer to checkpoint layer. `target`: layers of the network. `source`: layers of the
    checkpoint. `classes`: one line on the rows of the last layer, which move by class; empty if none could.
    """

    pairs: Mapping[str, str]
    target: tuple[str, ...]
    source: tuple[str, ...]
    classes: str = ""

    @property
    def loaded(self) -> tuple[str, ...]:
        """Layers of the network that were loaded."""
        return tuple(self.pairs)

    @property
    def new(self) -> tuple[str, ...]:
        """Layers of the network that keep their new weights."""
        return tuple(name for name in self.target if name not in self.pairs)

    @property
    def unused(self) -> tuple[str, ...]:
        """Layers of the checkpoint that were not used."""
        used = set(self.pairs.values())
        return tuple(name for name in self.source if name not in used)

    def __str__(self) -> str:
        loaded, new = (layer_ranges(names, self.target) for names in (self.loaded, self.new))
        unused = layer_ranges(self.unused, self.source)
        return f"{len(self.pairs)} of {len(self.target)} layers: {loaded}; new: {new}; unused: {unused}"


def transfer(stored: Checkpoint, network: nn.Module, config: RunConfig, labels: WordTree) -> Transfer:
    """Copy the layers that fit (same tensors, same shapes) into the network; the others keep their weights.

    `config` and `labels` are those of the network. Layers are matched by name if the two models share names.
    Otherwise, and between two Darknet cfgs (where one more layer shifts the numbers of all later ones), they are
    matched in the order of a Darknet file, up to the first that does not fit: later ones would be different layers.
    The rows of the layer of the classes move by class; those of new classes keep their weights.
    """
    source, target = _layers(stored.weights), _layers(network.state_dict(keep_vars=True))
    source_head, target_head = _class_layer(stored.config, source), _class_layer(config, target)
    if stored.darknet is not None:  # a partial file: only its first layers come from it
        source = dict(list(source.items())[: stored.darknet["blocks"]])
    pairs, heads_match = _match_layers(source, target, source_head, target_head)
    with torch.no_grad():
        for name, source_name in pairs.items():
            for part, value in source[source_name].items():
                target[name][part].copy_(value)
    if not heads_match:
        return Transfer(pairs, tuple(target), tuple(source))
    source_rows = HeadRows(_stored_layout(stored), source[source_head])
    target_rows = HeadRows(_layout(config, labels, network), target[target_head])
    note = source_rows.mismatch(target_rows)
    if not note:
        note = source_rows.copy_to(target_rows)
        pairs[target_head] = source_head
    return Transfer(pairs, tuple(target), tuple(source), f"{target_head}: {note}")


def _class_layer(config: RunConfig, layers: Layers) -> str:
    """Return the name of the layer whose rows are classes; empty for a cfg without classes."""
    if config.model.name != "darknet":
        return "last" if isinstance(config, ClassifierConfig) else "head"
    return next(reversed(layers)) if parse_cfg(config.model.cfg).label_section else ""


def _stored_layout(stored: Checkpoint) -> HeadLayout:
    named = stored.darknet is None or not are_unnamed(stored.labels)
    if isinstance(stored.config, ClassifierConfig):
        return HeadLayout(stored.labels, named=named)
    model = stored.config.model
    return HeadLayout(stored.labels, torch.tensor(model.anchors), model.location, named)


def _layout(config: RunConfig, labels: WordTree, network: nn.Module) -> HeadLayout:
    if isinstance(config, ClassifierConfig):
        return HeadLayout(labels)
    assert isinstance(network.anchors, Tensor)
    return HeadLayout(labels, network.anchors.cpu(), config.model.location)


def with_norm(stored: Checkpoint, norm: NormConfig, location: str | Path) -> Checkpoint:
    """Convert the checkpoint's batch norms to the `norm` of another model, if that has other tensors.

    Group norm keeps the factors; without norm, they are merged into a bias (`convert_norm`). `location` names the
    checkpoint in errors. Raises those of `convert_norm`, and `WeightsError` if the weights do not fit their config.
    """
    if norm.kind not in OTHER_TENSORS or stored.config.model.norm.kind in OTHER_TENSORS:
        return stored
    return replace(stored, weights=convert_norm(build_stored(stored, location), norm).state_dict())


def _match_layers(source: Layers, target: Layers, source_head: str, target_head: str) -> tuple[dict[str, str], bool]:
    """Return the pairs of layers that fit, without the layers of the classes, and whether those two correspond."""
    body, source_body = [n for n in target if n != target_head], [n for n in source if n != source_head]
    has_heads = target_head in target and source_head in source
    if any(name in source and not NUMBERED.fullmatch(name) for name in target):
        pairs = {name: name for name in body if name in source_body and _fits(source[name], target[name])}
        return pairs, has_heads and source_head == target_head
    pairs = {}
    for name, source_name in zip(body, source_body, strict=False):
        if not _fits(source[source_name], target[name]):
            break
        pairs[name] = source_name
    return pairs, has_heads and len(pairs) == len(body) == len(source_body)


def _layers(state: Mapping[str, Tensor]) -> Layers:
    """Group the tensors of a state by layer: `neck.join` has `conv.weight`, `norm.bias`, ...

    Every convolution is named `conv`, so that a bare convolution (`last`) fits one inside a block.
    """
    convolutions = {_module(name) for name, value in state.items() if name.endswith("weight") and value.dim() > 1}
    layers: Layers = {}
    for name, layer in layer_names(state).items():
        is_convolution = _module(name) in convolutions
        part = f"conv.{name.rpartition('.')[2]}" if is_convolution else ".".join(name.split(".")[-2:])
        layers.setdefault(layer, {})[part] = state[name]
    return layers


def _module(tensor_name: str) -> str:
    return tensor_name.rpartition(".")[0]


def _fits(source: dict[str, Tensor], target: dict[str, Tensor]) -> bool:
    return source.keys() == target.keys() and all(source[part].shape == target[part].shape for part in target)


def layer_ranges(names: Sequence[str], order: Sequence[str]) -> str:
    """Write some names of an ordered list in short: three or more neighbours as `first to last`."""
    chosen = set(names)
    groups: list[list[str]] = [[]]
    for name in order:
        if name in chosen:
            groups[-1].append(name)
        elif groups[-1]:
            groups.append([])
    texts = [[f"{group[0]} to {group[-1]}"] if len(group) >= MIN_RANGE else group for group in groups]
    return ", ".join(text for group in texts for text in group) or "none"
