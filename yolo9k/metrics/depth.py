"""Labels of a tree against each other: how deep one is right, and how far apart two are.

A label's depth is the number of its ancestors, its height the number of levels below it. At every level down to the
true label, the label that was given is *right* where both have the same ancestor there, *too coarse* where it ended
above, on the way to the true label, and on the *wrong branch* from where they part.
"""

from dataclasses import dataclass

import numpy as np

from yolo9k.wordtree import WordTree

RIGHT, TOO_COARSE, WRONG_BRANCH, NOT_FOUND = range(4)


@dataclass(frozen=True)
class Level:
    """What became of the truths whose label lies at `depth` or below: `truths` in all, and how many of each kind."""

    depth: int
    truths: int
    right: int
    too_coarse: int
    wrong_branch: int
    not_found: int

    @property
    def shares(self) -> dict[str, float]:
        """Each kind over `truths`."""
        kinds = ("right", "too_coarse", "wrong_branch", "not_found")
        return {kind: getattr(self, kind) / self.truths for kind in kinds}


def lineages(tree: WordTree, nodes: np.ndarray) -> np.ndarray:
    """(N, D) of nodes (N,): the ancestor at each depth, the node itself last, then -1; -1 is no node."""
    levels = np.full((len(nodes), int(tree.depth.max()) + 1), -1)
    parents = np.asarray(tree.parents)
    row = np.flatnonzero(nodes >= 0)
    node = nodes[row]
    while len(row):
        levels[row, tree.depth[node]] = node
        node = parents[node]
        row, node = row[node >= 0], node[node >= 0]
    return levels


def fates(own: np.ndarray, reached: np.ndarray) -> np.ndarray:
    """(N, D) what became of each truth at each level, from the lineages of its label and of the label it got."""
    agree = (own == reached) & (own >= 0)
    reach = (reached >= 0).sum(axis=1, keepdims=True)
    ended = agree.sum(axis=1, keepdims=True) == reach  # all that was said is right
    missing = np.where(reach == 0, NOT_FOUND, np.where(ended, TOO_COARSE, WRONG_BRANCH))
    return np.where(agree, RIGHT, np.where(own >= 0, missing, RIGHT))


def levels(fate: np.ndarray, is_level: np.ndarray) -> tuple[Level, ...]:
    """The levels that have truths, from `fates` (N, D); `is_level` (N, D): down to each truth's own depth."""
    counts = (np.bincount(fate[is_level[:, depth], depth], minlength=4) for depth in range(fate.shape[1]))
    found = (Level(depth, int(kinds.sum()), *map(int, kinds)) for depth, kinds in enumerate(counts))
    return tuple(level for level in found if level.truths)


def levels_of(tree: WordTree, truth: np.ndarray, reached: np.ndarray) -> tuple[Level, ...]:
    """The levels of true labels (N,) and of the labels that were given (N,), -1 where there was none."""
    own = lineages(tree, truth)
    return levels(fates(own, lineages(tree, reached)), own >= 0)


def is_within(tree: WordTree, nodes: np.ndarray, tops: np.ndarray) -> np.ndarray:
    """Whether each node is the one of `tops` or lies below it, for arrays that broadcast; -1 lies below nothing."""
    place, (first, end) = tree.spans[nodes, 0], (tree.spans[tops, column] for column in (0, 1))
    return (nodes >= 0) & (first <= place) & (place < end)


def heights(tree: WordTree) -> np.ndarray:
    """(K,) the most levels below each node, 0 for leaves."""
    found = np.zeros(len(tree), np.int64)
    for node in range(len(tree) - 1, -1, -1):  # children come after their parents
        if tree.parents[node] >= 0:
            found[tree.parents[node]] = max(found[tree.parents[node]], found[node] + 1)
    return found


def common_heights(tree: WordTree, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) the height of the lowest common ancestor of nodes (N,) and (N,); over all roots lies one more level.

    How bad a mistake is, as in Deng et al., What does classifying more than 10,000 image categories tell us (2010).
    """
    own, others = lineages(tree, one), lineages(tree, other)
    shared = ((own == others) & (own >= 0)).sum(axis=1)
    height = heights(tree)
    top = int(height.max()) + 1
    deepest = own[np.arange(len(own)), np.maximum(shared - 1, 0)]
    found: np.ndarray = np.where(shared > 0, height[deepest], top)
    return found
