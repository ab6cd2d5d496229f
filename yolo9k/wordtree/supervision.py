"""What a detector was taught about each label: with boxes, with image-level, or not at all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from yolo9k.errors import DataError
from yolo9k.wordtree.tree import WordTree

SupervisionKind = Literal["box", "image-level", "none"]
SUPERVISION_KINDS: tuple[SupervisionKind, ...] = ("box", "image-level", "none")


@dataclass(frozen=True)
class Supervision:
    """The nodes of a label tree that box labels and image labels of a training name."""

    boxes: tuple[int, ...] = ()
    images: tuple[int, ...] = ()

    def kinds(self, tree: WordTree) -> tuple[SupervisionKind, ...]:
        """(K) how each node was taught; a label teaches its ancestors too, and a box says more than an image label.

        Raises `DataError` for a node that the tree does not have.
        """
        boxed, named = _with_ancestors(self.boxes, tree), _with_ancestors(self.images, tree)

        def kind(node: int) -> SupervisionKind:
            return "box" if node in boxed else "image-level" if node in named else "none"

        return tuple(kind(node) for node in range(len(tree)))

    def to_dict(self) -> dict[str, list[int]]:
        """Plain lists, as checkpoints store them."""
        return {"boxes": list(self.boxes), "images": list(self.images)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Supervision":
        """The inverse of `to_dict`."""
        return cls(tuple(int(node) for node in stored["boxes"]), tuple(int(node) for node in stored["images"]))


def _with_ancestors(nodes: Iterable[int], tree: WordTree) -> set[int]:
    found: set[int] = set()
    for named in nodes:
        if not 0 <= named < len(tree):
            raise DataError(f"supervision: node {named} is none of the tree's {len(tree)} nodes")
        node = named
        while node >= 0 and node not in found:  # what is above a found node was found with it
            found.add(node)
            node = tree.parents[node]
    return found
