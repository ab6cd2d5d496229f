"""Top-1 and top-5 accuracy of a detector's highest-scoring boxes on data sets with image-level labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo9k.datasets.load import ImageSet
from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import ConfigError
from yolo9k.evaluation.detector import detect_together
from yolo9k.inference.detector import Decoding
from yolo9k.metrics.classification import TOP_K, is_correct, top_k_accuracy
from yolo9k.metrics.depth import compare_levels
from yolo9k.progress import Track, silent
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

if TYPE_CHECKING:
    from yolo9k.inference.detector import Detector

BATCH = 16
# No NMS. With a lower confidence threshold, thousands of labels would be computed for every box.
THRESHOLDS = Thresholds(conf=0.005, iou=1.0, max_detections=TOP_K)


@dataclass(frozen=True)
class ImageAccuracy:
    """Accuracy over `images` images whose predictions are the labels of their highest-scoring boxes.

    `top1`, `top5`: fraction of images for which the best box, or one of the 5 best, has the image's label or a
    descendant of it. `levels`: a row (depth, images, accuracy) for each depth in the tree: the images whose label is
    at least as deep, and the fraction whose best box has the same ancestor there.
    """

    images: int
    top1: float
    top5: float
    levels: tuple[tuple[int, int, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers for JSON."""
        levels = [dict(zip(("depth", "images", "accuracy"), level, strict=True)) for level in self.levels]
        return {"images": self.images, "top1": self.top1, "top5": self.top5, "levels": levels}


def evaluate_image_accuracy(
    detector: "Detector", images: ImageSet, *, batch: int = BATCH, track: Track = silent
) -> ImageAccuracy:
    """Run a detector on images with image-level labels and compare them with the labels of the best boxes.

    In a tree each box gets its most probable leaf. An image without a score of 0.005 or more counts as wrong.
    Raises `ConfigError` if the labels of detector and data set differ, `DataError` for an unreadable image. If `track`
    ends early, the accuracy is that of the images before.
    """
    if detector.labels.ids != images.labels.ids:
        raise ConfigError(
            "image-level labels: model and data set must have the same labels; use the model's tree in the data set "
            "config (labels: {tree: FILE})"
        )
    class_decoder = None if detector.labels.is_flat else detector.class_decoder(leaves_only=True)
    records = [images.records[index] for index in range(len(images.records))]
    sources = [record.source for record in records]
    decoding = Decoding(THRESHOLDS, class_decoder)
    (detections,) = detect_together(detector, sources, [decoding], title="Classifying images", batch=batch, track=track)
    done = records[: len(detections)]
    return image_accuracy(detections, [record.image_label for record in done], detector.labels)


def image_accuracy(detections: Sequence[Detections], image_labels: Sequence[int], tree: WordTree) -> ImageAccuracy:
    """Return the accuracy of detections, highest score first, for the label of each image."""
    expected = np.array(image_labels, np.int64)
    predicted = np.full((len(expected), TOP_K), -1)
    for row, each in zip(predicted, detections, strict=True):
        best = each.label[:TOP_K]
        row[: len(best)] = best
    correct = is_correct(tree, predicted, expected)
    return ImageAccuracy(
        images=len(expected),
        top1=top_k_accuracy(correct, 1),
        top5=top_k_accuracy(correct, TOP_K),
        levels=tuple(
            (level.depth, level.ground_truths, level.correct / level.ground_truths)
            for level in compare_levels(tree, expected, predicted[:, 0])
        ),
    )
