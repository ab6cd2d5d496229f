"""What whole images are called, from a classifier's logits: the likeliest labels, and where a descent ends."""

from dataclasses import dataclass

from torch import Tensor

from yolo9k.errors import ConfigError
from yolo9k.wordtree.softmax import HierarchicalSoftmax
from yolo9k.wordtree.tree import WordTree, describe

HIER_THRESH = 0.5  # Darknet's


@dataclass(frozen=True)
class LabelPredictions:
    """The names of M images over K labels of which the deepest has D - 1 ancestors.

    `label` (M, T): labels without any below them, the likeliest first; `score` (M, T): P(label); `path` (M, T, D): the
    probability of each node on the way to it, by depth, NaN beyond. `reached` (M,) and `reached_path` (M, D): the node
    at which a descent from the roots ended, likewise; of flat labels the likeliest.
    """

    label: Tensor
    score: Tensor
    path: Tensor
    reached: Tensor
    reached_path: Tensor


def predict_labels(
    scores: HierarchicalSoftmax, logits: Tensor, most: int, hier_thresh: float = HIER_THRESH
) -> LabelPredictions:
    """The names of images from logits (M, K): the `most` likeliest labels that have none below them.

    Darknet ranks leaves, too (`hierarchy_predictions` with `only_leaves`, then `top_k`). The descent goes on to the
    likeliest child while its probability is above `hier_thresh`.
    """
    conditional, absolute = scores.conditional(logits), scores.absolute(logits)
    label = scores.top_leaves(absolute, most)
    reached = label[:, 0] if scores.flat else scores.descend(conditional.exp(), hier_thresh)
    return LabelPredictions(
        label=label,
        score=absolute.gather(1, label).exp(),
        path=scores.path_probabilities(absolute, label),
        reached=reached,
        reached_path=scores.path_probabilities(absolute, reached),
    )


def descent_threshold(labels: WordTree, hier_thresh: float | None) -> float:
    """The threshold of the descent, Darknet's if none is named. Raises `ConfigError` for one over flat labels."""
    if hier_thresh is not None and labels.is_flat:
        raise ConfigError(f"hier-thresh is about label trees, and these labels are flat ({describe(labels.names)})")
    return HIER_THRESH if hier_thresh is None else hier_thresh
