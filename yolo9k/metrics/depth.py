"""Metrics over the depth of a tree: down to which level a prediction is correct, and how far apart two labels are.

A label's depth is the count of its ancestors, its height the count of levels below it. At each level down to the
ground truth label, the prediction is

- *correct* if both have the same ancestor there,
- *too coarse* if it stopped at an ancestor of the ground truth,
- on the *wrong branch* from the level at which the two part.
"""

from dataclasses import dataclass

import numpy as np

from yolo9k.wordtree import WordTree

CORRECT, TOO_COARSE, WRONG_BRANCH, NOT_DETECTED = range(4)


@dataclass(frozen=True)
class Level:
    """Outcomes of the ground truths whose label lies at `depth` or deeper: `ground_truths` in all, then by outcome."""

    depth: int
    ground_truths: int
    correct: int
    too_coarse: int
    wrong_branch: int
    not_detected: int

    @property
    def fractions(self) -> dict[str, float]:
        """Return each outcome as a fraction of `ground_truths`."""
        outcomes = ("correct", "too_coarse", "wrong_branch", "not_detected")
        return {outcome: getattr(self, outcome) / self.ground_truths for outcome in outcomes}


def ancestors_by_depth(tree: WordTree, nodes: np.ndarray) -> np.ndarray:
    """Return (N, D): for each node (N,) its ancestor at each depth, then itself, then -1. Node -1 has only -1."""
    ancestors = np.full((len(nodes), int(tree.depth.max()) + 1), -1)
    parents = np.asarray(tree.parents)
    row = np.flatnonzero(nodes >= 0)
    node = nodes[row]
    while len(row):
        ancestors[row, tree.depth[node]] = node
        node = parents[node]
        row, node = row[node >= 0], node[node >= 0]
    return ancestors


def outcomes_by_depth(ground_truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the outcome of each ground truth at each level (N, D), from `ancestors_by_depth` of both labels."""
    agree = (ground_truth == predicted) & (ground_truth >= 0)
    length = (predicted >= 0).sum(axis=1, keepdims=True)
    is_ancestor = agree.sum(axis=1, keepdims=True) == length  # all predicted ancestors are correct
    otherwise = np.where(length == 0, NOT_DETECTED, np.where(is_ancestor, TOO_COARSE, WRONG_BRANCH))
    return np.where(agree, CORRECT, np.where(ground_truth >= 0, otherwise, CORRECT))


def count_levels(outcome: np.ndarray, is_level: np.ndarray) -> tuple[Level, ...]:
    """Count `outcomes_by_depth` (N, D) by level; `is_level` (N, D) is true down to the depth of each ground truth."""
    counts = (np.bincount(outcome[is_level[:, depth], depth], minlength=4) for depth in range(outcome.shape[1]))
    every = (Level(depth, int(count.sum()), *map(int, count)) for depth, count in enumerate(counts))
    return tuple(level for level in every if level.ground_truths)


def compare_levels(tree: WordTree, ground_truth: np.ndarray, predicted: np.ndarray) -> tuple[Level, ...]:
    """Compare predicted with ground truth labels, both (N,), at each level; -1: no prediction."""
    ancestors = ancestors_by_depth(tree, ground_truth)
    return count_levels(outcomes_by_depth(ancestors, ancestors_by_depth(tree, predicted)), ancestors >= 0)


def is_in_subtree(tree: WordTree, nodes: np.ndarray, roots: np.ndarray) -> np.ndarray:
    """Return whether each node is in the subtree of its entry of `roots`; arrays broadcast. False for node -1."""
    position, (first, end) = tree.spans[nodes, 0], (tree.spans[roots, column] for column in (0, 1))
    return (nodes >= 0) & (first <= position) & (position < end)


def heights(tree: WordTree) -> np.ndarray:
    """Return the height of each node (K,): the count of levels below it, 0 for leaves."""
    height = np.zeros(len(tree), np.int64)
    for node in range(len(tree) - 1, -1, -1):  # children come after their parents
        if tree.parents[node] >= 0:
            height[tree.parents[node]] = max(height[tree.parents[node]], height[node] + 1)
    return height


def common_ancestor_heights(tree: WordTree, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the height of the lowest common ancestor of each pair of nodes (N,), (N,).

    Nodes without a common ancestor get the height of the highest root plus one. The height measures how severe a
    mistake is: Deng et al., What does classifying more than 10,000 image categories tell us (2010).
    """
    ancestors, other_ancestors = ancestors_by_depth(tree, one), ancestors_by_depth(tree, other)
    common = ((ancestors == other_ancestors) & (ancestors >= 0)).sum(axis=1)
    height = heights(tree)
    top = int(height.max()) + 1
    lowest = ancestors[np.arange(len(ancestors)), np.maximum(common - 1, 0)]
    common_height: np.ndarray = np.where(common > 0, height[lowest], top)
    return common_height
