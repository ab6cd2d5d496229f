"""Label sets as trees of nodes: structure, files, WordNet, hierarchical softmax. A flat list of classes has depth 1."""

from yolo9k.wordtree.files import read_map, read_names, read_tree
from yolo9k.wordtree.tree import WordTree

__all__ = ["WordTree", "read_map", "read_names", "read_tree"]
