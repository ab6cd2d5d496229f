"""`Supervision`: which nodes of a label tree a detector was trained on with boxes, with image-level labels, or not."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from yolo9k.errors import DataError
from yolo9k.wordtree.tree import WordTree

SupervisionKind = Literal["box", "image-level", "none"]
SUPERVISION_KINDS: tuple[SupervisionKind, ...] = ("box", "image-level", "none")


@dataclass(frozen=True)
class Supervision:
    """The nodes that occur in a training set: `boxes` as box labels, `images` as image-level labels."""

    boxes: tuple[int, ...] = ()
    images: tuple[int, ...] = ()

    def kinds(self, tree: WordTree) -> tuple[SupervisionKind, ...]:
        """Return the supervision of each node, (K,). A label also supervises its ancestors; `box` takes precedence.

        Raises `DataError` if a node is not in the tree.
        """
        box_supervised = _with_ancestors(self.boxes, tree)
        weakly_supervised = _with_ancestors(self.images, tree)
        return tuple(
            "box" if node in box_supervised else "image-level" if node in weakly_supervised else "none"
            for node in range(len(tree))
        )

    def to_dict(self) -> dict[str, list[int]]:
        """Return plain lists, as stored in checkpoints."""
        return {"boxes": list(self.boxes), "images": list(self.images)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Supervision":
        """Create from the result of `to_dict`, which may be damaged. Raises `ValueError`, `KeyError` or `TypeError`."""
        boxes, images = (tuple(stored[key]) for key in ("boxes", "images"))
        if not all(type(node) is int for node in (*boxes, *images)):
            raise ValueError("supervision: nodes must be whole numbers")
        return cls(boxes, images)


def _with_ancestors(nodes: Iterable[int], tree: WordTree) -> set[int]:
    supervised: set[int] = set()
    for node in nodes:
        if not 0 <= node < len(tree):
            raise DataError(f"supervision: node {node}: the tree has nodes 0 to {len(tree) - 1}")
        supervised.update(tree.path(node))
    return supervised
