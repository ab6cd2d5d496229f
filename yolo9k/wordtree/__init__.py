"""Label sets: a tree of nodes, of which a flat list of classes is the simplest case."""

from yolo9k.wordtree.files import read_map, read_names, read_tree
from yolo9k.wordtree.tree import WordTree

__all__ = ["WordTree", "read_map", "read_names", "read_tree"]
