"""Read `--map`: the model's node of each class of a data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from yolo9k.errors import ConfigError, DataError

if TYPE_CHECKING:
    from yolo9k.wordtree import WordTree


def read_node_map(path: Path, *, nodes: int, labels: "WordTree") -> tuple[int, ...]:
    """Return the node, of a model with `nodes`, of each of the `labels` of a data set.

    Raises `ConfigError` if the labels are a tree, `DataError` if the map does not fit.
    """
    from yolo9k.wordtree.files import read_map

    if not labels.is_flat:
        raise ConfigError("--map: the data set has a label tree; set labels.map in its config instead")
    mapped = read_map(path, nodes)
    if len(mapped) != len(labels):
        raise DataError(f"{path}: {len(mapped)} lines for the {len(labels)} labels of the data set")
    return mapped
