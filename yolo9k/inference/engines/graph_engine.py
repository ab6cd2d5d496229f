"""`GraphEngine`: detects with an exported file of the form detections, which decodes and suppresses boxes itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import ConfigError, WeightsError
from yolo9k.inference.engines import DecoderOptions, DetectedRows, Request
from yolo9k.inference.engines.session import Session, say_batch
from yolo9k.wordtree.tree import HIER_THRESH

UNLIMITED = 1 << 30


@dataclass(frozen=True)
class GraphDecoder:
    """What can be chosen about the labels of a file: the threshold of the descent, and which labels (empty: all)."""

    hier_thresh: float = HIER_THRESH
    nodes: tuple[int, ...] = ()


class GraphEngine:
    """Runs a file of the form detections in a session."""

    device = "cpu"

    def __init__(self, session: Session) -> None:
        self.session, self.labels = session, session.info.labels
        self.name: str = session.name
        self.precision = session.precision

    def fit_batch(self, batch: int) -> int:
        """Return the batch size of the file if it is fixed; in a label tree 1, since NMS compares each with each."""
        if self.labels.is_flat or self.session.info.batch:
            return say_batch(batch, self.session.info.batch or batch, "the exported file has a fixed batch size")
        return say_batch(batch, 1, "an exported file with a label tree takes the images one by one")

    def class_decoder(self, options: DecoderOptions) -> GraphDecoder:
        """See `Engine`. Raises `ConfigError` for anything but the threshold of the descent."""
        if options != DecoderOptions(hier_thresh=options.hier_thresh):
            raise ConfigError(
                "leaves-only, under and tree-mode: not in an exported file, which descends by the paper's rule; use "
                "the weights that it was exported from, or export the form raw"
            )
        return GraphDecoder(options.hier_thresh)

    def multi_label_decoder(self, nodes: Sequence[int]) -> GraphDecoder:
        """See `Engine`. Raises `ConfigError` for a label tree: each box has one label in the file."""
        if not self.labels.is_flat:
            raise ConfigError(
                "an exported file with a label tree gives each box one label, but the scores need several; evaluate "
                "the weights that it was exported from, or export the form raw"
            )
        return GraphDecoder(nodes=tuple(nodes))

    def detect(self, images: np.ndarray, requests: Sequence[Request]) -> list[DetectedRows]:
        """See `Engine`. Raises `ConfigError` for `agnostic`: the file suppresses boxes per label."""
        return [self._detect(images, request) for request in requests]

    def _detect(self, images: np.ndarray, request: Request) -> DetectedRows:
        thresholds, class_decoder, nodes = request.thresholds, request.class_decoder, request.nodes
        if thresholds.agnostic:
            raise ConfigError("agnostic: an exported file suppresses boxes per label; use the weights or the form raw")
        filters = [each for each in (nodes, class_decoder.nodes) if each]
        if not filters:
            return self._run(images, thresholds, class_decoder.hier_thresh)
        rows = self._run(images, replace(thresholds, max_detections=UNLIMITED), class_decoder.hier_thresh)
        for chosen in filters:
            rows = _select(rows, np.isin(rows.label, chosen))
        return _select(rows, _rank_in_image(rows.image_index) < thresholds.max_detections)

    def _run(self, images: np.ndarray, thresholds: Thresholds, hier_thresh: float) -> DetectedRows:
        values = {
            "image": to_input(images, self.session.info.batch),
            "conf": np.array(thresholds.conf, np.float32),
            "iou": np.array(thresholds.iou, np.float32),
            "max_detections": np.array(thresholds.max_detections, np.int64),
        }
        if not self.labels.is_flat:
            values["hier_thresh"] = np.array(hier_thresh, np.float32)
        xyxy, score, label, image_index, *path = self.session.run(values)
        if len(label) and not 0 <= label.min() <= label.max() < len(self.labels):
            raise WeightsError(
                f"the exported file has label {label.max()}, but its description {len(self.labels)} labels"
            )
        rows = DetectedRows(image_index, xyxy, score, label, path[0] if path else None)
        return rows if len(values["image"]) == len(images) else _select(rows, image_index < len(images))


def to_input(images: np.ndarray, batch: int | None = None) -> np.ndarray:
    """Return images (B, C, H, W) as floats in [0, 1]; a smaller `batch` is filled up with empty images."""
    floats = np.divide(images, np.float32(255), dtype=np.float32) if images.dtype == np.uint8 else images
    missing = (batch or 0) - len(floats)
    return floats if missing <= 0 else np.concatenate([floats, np.zeros((missing, *floats.shape[1:]), np.float32)])


def _select(rows: DetectedRows, chosen: np.ndarray) -> DetectedRows:
    path = None if rows.path is None else rows.path[chosen]
    return DetectedRows(rows.image_index[chosen], rows.xyxy[chosen], rows.score[chosen], rows.label[chosen], path)


def _rank_in_image(image_index: np.ndarray) -> np.ndarray:
    """Return how many earlier rows belong to the same image, (N,)."""
    order = image_index.argsort(kind="stable")
    ordered = image_index[order]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return rank
