"""Which classes are scored: from the labels of a data set to those of a model."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from yolo9k.datasets.readers.records import Annotations
from yolo9k.errors import ConfigError
from yolo9k.evaluation.scored_classes import ScoredClasses
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.tree import describe


def choose_classes(
    model: WordTree,
    annotations: Annotations,
    *,
    nodes: Sequence[int] | None = None,
    only: Sequence[int] | None = None,
    by_ancestry: bool | None = None,
) -> ScoredClasses:
    """The classes to score a model on.

    Of flat labels all; of a tree those that boxes which count are labelled with, or without ancestry the data set's
    own classes; or `only` these labels of the data set. `nodes`: the model's node of each label of the data set, as
    a `.map` gives them; without them by id, name or alias. `by_ancestry`: if left out, where both label sets are
    trees. Raises `ConfigError` for labels in use that the model does not have, and for nodes that do not fit.
    """
    data = annotations.labels
    related = not (model.is_flat or data.is_flat) if by_ancestry is None else by_ancestry
    named = _named(annotations)
    own = list(dict.fromkeys(_usual(annotations, named, related) if only is None else only))
    label_nodes = find_nodes(model, data, {*own, *named}) if nodes is None else given_nodes(model, data, nodes)
    names, category_ids = _own_words(annotations)
    numbers = tuple(category_ids[label] for label in own if label in category_ids)
    return ScoredClasses(
        tree=model,
        labels=WordTree(
            tuple(data.ids[label] for label in own),
            tuple(names.get(label, data.names[label]) for label in own),
            (-1,) * len(own),
        ),
        own=np.array(own, np.int64),
        nodes=label_nodes[own],
        label_nodes=label_nodes,
        by_ancestry=related,
        category_ids=numbers if len(numbers) == len(own) else None,
    )


def _named(annotations: Annotations) -> list[int]:
    """The labels of boxes that count, in order."""
    labels = [record.boxes.label[~record.boxes.ignore] for record in annotations.records]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *labels])).tolist()


def _usual(annotations: Annotations, named: Sequence[int], by_ancestry: bool) -> Iterable[int]:
    data = annotations.labels
    if data.is_flat:
        return range(len(data))
    own = [each.node for each in annotations.classes if each.node is not None]
    return (named if by_ancestry else own or named) or data.children(-1)


def _own_words(annotations: Annotations) -> tuple[Mapping[int, str], Mapping[int, int]]:
    """By label: the data set's own names where they are not the label's, and COCO's own numbers.

    Of two classes of one node the first speaks for both.
    """
    if annotations.category_ids is not None:
        return {}, dict(enumerate(annotations.category_ids))
    names: dict[int, str] = {}
    numbers: dict[int, int] = {}
    for each in annotations.classes:
        if each.node is not None:
            names.setdefault(each.node, each.name)
            if each.category_id is not None:
                numbers.setdefault(each.node, each.category_id)
    return names, numbers


def find_nodes(model: WordTree, data: WordTree, needed: Iterable[int]) -> np.ndarray:
    """(L,) the model's node of each label of a data set by id, name or alias, -1 where it has none.

    Raises `ConfigError` that lists what is `needed` and is no label of the model, or several.
    """
    found = [model.candidates(data.ids[label]) or model.candidates(data.names[label]) for label in range(len(data))]
    lost = {label: found[label] for label in sorted(needed) if len(found[label]) != 1}
    if lost:
        raise ConfigError(
            f"the model has no label for {len(lost)} of the data set's: "
            f"{describe([_lost(data.names[label], nodes, model) for label, nodes in lost.items()])}; "
            f"it has {describe(model.names)}; a .map can say which are meant"
        )
    return np.array([nodes[0] if len(nodes) == 1 else -1 for nodes in found], np.int64)


def _lost(name: str, nodes: Sequence[int], model: WordTree) -> str:
    return f"{name} (several: {', '.join(model.ids[node] for node in nodes)})" if nodes else name


def given_nodes(model: WordTree, data: WordTree, nodes: Sequence[int]) -> np.ndarray:
    """(L,) the same as a `.map` gives them. Raises `ConfigError` where they do not fit."""
    if len(nodes) != len(data):
        raise ConfigError(f"map: {len(nodes)} nodes for the {len(data)} labels of the data set")
    wrong = next((node for node in nodes if not 0 <= node < len(model)), None)
    if wrong is not None:
        raise ConfigError(f"map: node {wrong} is none of the model's, which are 0 to {len(model) - 1}")
    return np.array(nodes, np.int64)
