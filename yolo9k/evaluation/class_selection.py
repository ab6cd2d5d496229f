"""Before an evaluation: select its classes, and map the labels of a data set to those of the model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from yolo9k.datasets.readers.records import Annotations
from yolo9k.errors import ConfigError
from yolo9k.evaluation.eval_classes import EvalClasses
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.tree import describe


@dataclass(frozen=True)
class ClassSelection:
    """Which classes to evaluate, and how labels are matched.

    `node_map`: the model's node of each label of the data set, as in a `.map` file. `None`: labels are found by id,
    name or alias. `only`: the labels of the data set to evaluate. `None`: all flat labels; of a tree the labels of
    its boxes, or without ancestry the data set's own classes. `by_ancestry`: a box and a detection count for their
    label and its ancestors. `None`: if the labels of both the model and the data set are a tree.
    """

    node_map: Sequence[int] | None = None
    only: Sequence[int] | None = None
    by_ancestry: bool | None = None


ALL_CLASSES = ClassSelection()


def select_classes(model: WordTree, annotations: Annotations, selection: ClassSelection = ALL_CLASSES) -> EvalClasses:
    """Return the classes to evaluate a model with labels `model` on.

    Raises `ConfigError` for labels in use that the model does not have, and for a `node_map` that does not fit.
    """
    data = annotations.labels
    by_ancestry = selection.by_ancestry
    if by_ancestry is None:
        by_ancestry = not (model.is_flat or data.is_flat)
    used = _used_labels(annotations)
    labels = selection.only if selection.only is not None else _default_labels(annotations, used, by_ancestry)
    labels = list(dict.fromkeys(labels))
    if selection.node_map is None:
        node_of_label = find_nodes(model, data, {*labels, *used})
    else:
        node_of_label = check_node_map(model, data, selection.node_map)
    names, coco_ids = _names_and_category_ids(annotations)
    category_ids = tuple(coco_ids[label] for label in labels if label in coco_ids)
    return EvalClasses(
        tree=model,
        labels=WordTree(
            tuple(data.ids[label] for label in labels),
            tuple(names.get(label, data.names[label]) for label in labels),
            (-1,) * len(labels),
        ),
        dataset_labels=np.array(labels, np.int64),
        nodes=node_of_label[labels],
        node_of_label=node_of_label,
        by_ancestry=by_ancestry,
        category_ids=category_ids if len(category_ids) == len(labels) else None,
    )


def _used_labels(annotations: Annotations) -> list[int]:
    """Return the sorted labels of all boxes that are not ignored."""
    labels = [record.boxes.label[~record.boxes.ignore] for record in annotations.records]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *labels])).tolist()


def _default_labels(annotations: Annotations, used: Sequence[int], by_ancestry: bool) -> Iterable[int]:
    data = annotations.labels
    if data.is_flat:
        return range(len(data))
    dataset_classes = [each.node for each in annotations.classes if each.node is not None]
    return (used if by_ancestry else dataset_classes or used) or data.children(-1)


def _names_and_category_ids(annotations: Annotations) -> tuple[Mapping[int, str], Mapping[int, int]]:
    """Return the data set's own class names (if they differ from the tree's) and COCO category ids, by label.

    If two classes have the same node, the first one is used.
    """
    if annotations.category_ids is not None:
        return {}, dict(enumerate(annotations.category_ids))
    names: dict[int, str] = {}
    category_ids: dict[int, int] = {}
    for each in annotations.classes:
        if each.node is not None:
            names.setdefault(each.node, each.name)
            if each.category_id is not None:
                category_ids.setdefault(each.node, each.category_id)
    return names, category_ids


def find_nodes(model: WordTree, data: WordTree, required: Iterable[int]) -> np.ndarray:
    """Return (L,) the model's node of each label of a data set, found by id, name or alias; -1 if it has none.

    Raises `ConfigError` that lists the `required` labels without a node or with several.
    """
    candidates = [model.find_all(data.ids[label]) or model.find_all(data.names[label]) for label in range(len(data))]
    unmapped = [label for label in sorted(required) if len(candidates[label]) != 1]
    if unmapped:
        raise ConfigError(
            f"the model has no label for {len(unmapped)} of the data set's: "
            f"{describe([_describe_unmapped(data.names[label], candidates[label], model) for label in unmapped])}; "
            f"it has {describe(model.names)}; pass a .map file that maps them"
        )
    return np.array([nodes[0] if len(nodes) == 1 else -1 for nodes in candidates], np.int64)


def _describe_unmapped(name: str, nodes: Sequence[int], model: WordTree) -> str:
    return f"{name} (several: {', '.join(model.ids[node] for node in nodes)})" if nodes else name


def check_node_map(model: WordTree, data: WordTree, node_map: Sequence[int]) -> np.ndarray:
    """Return (L,) the nodes of a `.map` as an array. Raises `ConfigError` if they do not fit."""
    if len(node_map) != len(data):
        raise ConfigError(f"map: has {len(node_map)} nodes, but the data set has {len(data)} labels")
    wrong = next((node for node in node_map if not 0 <= node < len(model)), None)
    if wrong is not None:
        raise ConfigError(f"map: the model has no node {wrong}; its nodes are 0 to {len(model) - 1}")
    return np.array(node_map, np.int64)
