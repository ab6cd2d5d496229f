"""Label predictions of a classifier from its logits: the most probable leaves and a descent through the label tree."""

from dataclasses import dataclass

from torch import Tensor

from yolo9k.errors import ConfigError
from yolo9k.wordtree.softmax import HierarchicalSoftmax
from yolo9k.wordtree.tree import HIER_THRESH, WordTree, describe


@dataclass(frozen=True)
class LabelPredictions:
    """Predictions for M images; D is the length of the longest path in the label tree.

    `label` (M, T): leaves, most probable first; `score` (M, T): P(label); `path` (M, T, D): the probability of each
    node on the path to the label, by depth, NaN beyond the label. `descent_label` (M,): the node at which a descent
    from the roots stopped (flat labels: the most probable one); `descent_path` (M, D): its path, as in `path`.
    """

    label: Tensor
    score: Tensor
    path: Tensor
    descent_label: Tensor
    descent_path: Tensor


def predict_labels(
    scores: HierarchicalSoftmax, logits: Tensor, k: int, hier_thresh: float = HIER_THRESH
) -> LabelPredictions:
    """Return the `k` most probable leaves and the descent for each row of logits (M, K).

    Darknet ranks leaves, too (`hierarchy_predictions` with `only_leaves`, then `top_k`). The descent continues to the
    most probable child while the path probability is above `hier_thresh`.
    """
    conditional, absolute = scores.conditional(logits), scores.absolute(logits)
    label = scores.top_leaves(absolute, k)
    descent_label = label[:, 0] if scores.flat else scores.descend(conditional.exp(), hier_thresh)
    return LabelPredictions(
        label=label,
        score=absolute.gather(1, label).exp(),
        path=scores.path_probabilities(absolute, label),
        descent_label=descent_label,
        descent_path=scores.path_probabilities(absolute, descent_label),
    )


def descent_threshold(labels: WordTree, hier_thresh: float | None) -> float:
    """Return the threshold of the descent, `None`: Darknet's. Raises `ConfigError` if one is given for flat labels."""
    if hier_thresh is not None and labels.is_flat:
        raise ConfigError(f"hier-thresh: requires a label tree, but these labels are flat ({describe(labels.names)})")
    return HIER_THRESH if hier_thresh is None else hier_thresh
