"""Paths from the root of a label tree to a label, with probabilities, for the screen and for JSON."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from yolo9k.wordtree import WordTree

MAX_SHOWN = 3  # labels of a path on the screen

LabelPath = list[tuple[str, float]]  # names from the root to the label, with their path probabilities


def label_path(labels: "WordTree", label: int, probabilities: "np.ndarray") -> LabelPath:
    """Return the path to a label. `probabilities` (D,): the path probability at each depth."""
    nodes = labels.path(label)[::-1]
    return [(labels.names[node], float(value)) for node, value in zip(nodes, probabilities, strict=False)]


def path_text(path: LabelPath, digits: int = 2) -> str:
    """Return the whole path as one line."""
    return " > ".join(f"{name} {probability:.{digits}f}" for name, probability in path)


def short_path_text(path: LabelPath) -> str:
    """Return the last labels of a path as one line."""
    return ("… > " if len(path) > MAX_SHOWN else "") + path_text(path[-MAX_SHOWN:])


def path_to_json(path: LabelPath) -> list[dict[str, Any]]:
    """Return a path as JSON values."""
    return [{"label": name, "probability": round(probability, 6)} for name, probability in path]
