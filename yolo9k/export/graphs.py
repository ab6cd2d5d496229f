"""What an exported file computes: modules that are traced, from images to outputs.

Letters: B images, A anchors, K labels, H and W grid rows and columns, N = A x H x W boxes, M candidates, R detections,
D the length of the longest path in the label tree.
"""

from typing import Any

import torch
from torch import Tensor, nn

from yolo9k.boxes import iou as box_iou
from yolo9k.build import ClassifierNetwork, Network
from yolo9k.detection.class_decoder import DecodedLabels
from yolo9k.detection.codec import Codec
from yolo9k.detection.head import Head
from yolo9k.detection.postprocess import MAX_COORDINATE, Candidates, find_candidates
from yolo9k.export.operators import greedy_nms, nms_per_label
from yolo9k.models.head import GEOMETRY, AnchorHead, RawMap, SplitHead
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.softmax import HierarchicalSoftmax

MAX_CANDIDATES = 4096  # boxes of an image that enter NMS in a tree, the best ones: each is compared with each
MIN_IOU = 1e-6  # OpenVINO suppresses boxes whose IoU equals the threshold: with 0, all of a label but one


class RawGraph(nn.Module):
    """A network's own output: the raw map of a detector (B, A * (5 + K), H, W), or logits of a classifier (B, K)."""

    def __init__(self, network: Network | ClassifierNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return the output for images (B, C, H, W) in [0, 1]."""
        return self.network(image)


class ProbabilityGraph(nn.Module):
    """A classifier with its softmax: the absolute probability P(label) of each node, (B, K)."""

    def __init__(self, network: ClassifierNetwork, scores: HierarchicalSoftmax) -> None:
        super().__init__()
        self.network, self.scores = network, scores

    def forward(self, image: Tensor) -> Tensor:
        """Return probabilities for images (B, C, H, W) in [0, 1]."""
        return self.scores.absolute(self.network(image)).exp()


class FlatGraph(nn.Module):
    """A detector with flat labels: decoding, confidence threshold and NMS per label, as `Detector` does it."""

    def __init__(self, network: Network, codec: Codec, scores: HierarchicalSoftmax) -> None:
        super().__init__()
        self.features, self.head = _split(network)
        self.codec, self.scores = codec, scores

    def forward(self, image: Tensor, conf: Tensor, iou: Tensor, max_detections: Tensor) -> tuple[Tensor, ...]:
        """Return boxes (R, 4) in pixels of the input, scores, labels and image indices (R,), best score first.

        `image` (B, C, H, W) in [0, 1]; the thresholds are scalars, see `Thresholds`.
        """
        features = self.features(image)
        boxes = self.codec.decode(self.head.geometry(features))
        logits = self.head.class_maps(features).movedim(2, -1)  # (B, A, H, W, K)
        probability = self.scores.absolute(logits.flatten(0, 3)).exp().view(logits.shape)
        score = (boxes.objectness[..., None] * probability).flatten(1, 3).movedim(-1, 1)  # (B, K, N)
        size_wh = image.shape[3], image.shape[2]
        xyxy = boxes.xyxy() * boxes.pixels_per_cell(size_wh)
        bounded = xyxy.clamp(-MAX_COORDINATE, MAX_COORDINATE)
        image_index, label, box = nms_per_label(bounded, score, iou.clamp(min=MIN_IOU), conf).unbind(1)
        rows = Candidates(image_index, xyxy[image_index, box], score[image_index, label, box], label)
        return _outputs(_best(rows, max_detections, image.shape[0]))


class TreeGraph(nn.Module):
    """A detector with a label tree: decoding, the descent of each candidate, and NMS in the tree.

    Class logits are computed only for boxes with an objectness above the confidence threshold.
    """

    spans: Tensor

    def __init__(self, network: Network, codec: Codec, scores: HierarchicalSoftmax, tree: WordTree) -> None:
        super().__init__()
        self.features, self.head = _split(network)
        self.codec, self.scores = codec, scores
        self.register_buffer("spans", torch.from_numpy(tree.spans))

    def forward(
        self, image: Tensor, conf: Tensor, iou: Tensor, max_detections: Tensor, hier_thresh: Tensor
    ) -> tuple[Tensor, ...]:
        """Return the outputs of `FlatGraph` and the path probabilities (R, D), see `Detections`.

        `hier_thresh`: the descent continues while the path probability is above it.
        """
        features = self.features(image)
        size_wh = image.shape[3], image.shape[2]
        decoder = TracedDescent(self.scores, hier_thresh)
        rows = find_candidates(self.head, features, self.codec, size_wh, decoder, conf)  # type: ignore[arg-type]
        rows = _best(rows, torch.tensor(MAX_CANDIDATES), image.shape[0])
        rows = rows[greedy_nms(self._conflicts(rows, iou)).nonzero().flatten()]
        return _outputs(_best(rows, max_detections, image.shape[0]))

    def _conflicts(self, rows: Candidates, iou: Tensor) -> Tensor:
        """Return whether row i would suppress row j > i (M, M): their labels are related and they overlap."""
        first, end = self.spans[rows.label].unbind(1)
        is_below = (first >= first[:, None]) & (first < end[:, None])
        xyxy = rows.xyxy.clamp(-MAX_COORDINATE, MAX_COORDINATE)
        overlaps = box_iou(xyxy[:, None], xyxy[None]) > iou
        same_image = rows.image_index[:, None] == rows.image_index
        order = torch.arange(rows.score.shape[0])
        return (is_below | is_below.t()) & overlaps & same_image & (order[:, None] < order)


class TracedDescent:
    """`HierarchicalDescent` (rule: paper) of all boxes at once: a class decoder without branches, for tracing."""

    spans = None

    def __init__(self, scores: HierarchicalSoftmax, threshold: Tensor) -> None:
        self.scores, self.threshold = scores, threshold

    def __call__(
        self, head: Head, features: Tensor, positions: Tensor, objectness: Tensor, conf: Tensor
    ) -> DecodedLabels:
        """See `ClassDecoder`."""
        scores = self.scores
        conditional = scores.conditional(head.class_logits(features, positions)).exp()
        padded = torch.cat([conditional, torch.full_like(conditional[:, :1], -1.0)], dim=1)
        # Zeros that depend on the boxes: of constant ones, OpenVINO makes the group of one box where there is none.
        group = (positions[:, 0] < 0).long()
        node = group - 1
        probability, is_active, path = torch.ones_like(objectness), torch.ones_like(node, dtype=torch.bool), []
        for _ in scores.nodes_per_depth:
            members = scores.members[group.clamp(min=0)]
            best, position = padded.gather(1, members).max(1)
            child = members.gather(1, position[:, None]).squeeze(1)
            is_above = probability * best > self.threshold
            moves = is_active & (is_above | (node < 0))  # to a root even below the threshold
            node, probability = torch.where(moves, child, node), torch.where(moves, probability * best, probability)
            path.append(torch.where(moves, probability, float("nan")))
            group = scores.child_group[node]
            is_active = moves & is_above & (group >= 0)
        score = objectness * probability
        box = (score > conf).nonzero().flatten()
        return DecodedLabels(box, node[box], score[box], torch.stack(path, dim=1)[box])


class FeatureGraph(nn.Module):
    """A detector without its head."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return the input of the head."""
        return self.network.features(image)


class MapHead(RawMap):
    """The head of a network whose last layer is no plain convolution: reads a raw map."""

    def class_maps(self, raw: Tensor, images: Tensor | None = None, nodes: Tensor | None = None) -> Tensor:
        """Return all class logits of all boxes of all images, (B, A, K, H, W)."""
        return self._by_anchor(raw)[:, :, GEOMETRY:]


def _split(network: Network) -> tuple[FeatureGraph, Any]:
    """Return the network without its head, and its head."""
    head = network.head
    traced = SplitHead(head) if isinstance(head, AnchorHead) else MapHead(head.num_anchors, head.num_labels)
    return FeatureGraph(network), traced


def _best(rows: Candidates, max_detections: Tensor, images: int) -> Candidates:
    """Return the best rows of each image, at most `max_detections`, sorted by score."""
    rows = rows[rows.score.topk(rows.score.shape[0]).indices]
    own = rows.image_index[:, None] == torch.arange(images)
    rank = own.long().cumsum(0).gather(1, rows.image_index[:, None]).squeeze(1)
    return rows[(rank <= max_detections).nonzero().flatten()]


def _outputs(rows: Candidates) -> tuple[Tensor, ...]:
    path = () if rows.path is None else (rows.path,)
    return rows.xyxy, rows.score, rows.label, rows.image_index, *path


def build_graph(network: Network, codec: Codec, scores: HierarchicalSoftmax, labels: WordTree) -> nn.Module:
    """Return the graph of the form `detections` for a detector."""
    return FlatGraph(network, codec, scores) if labels.is_flat else TreeGraph(network, codec, scores, labels)
