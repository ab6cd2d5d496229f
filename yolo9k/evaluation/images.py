"""A detector as a classifier: what its best box calls a whole image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo9k.datasets.load import ImageSet
from yolo9k.detection.thresholds import Thresholds
from yolo9k.errors import ConfigError
from yolo9k.metrics.classification import TOP, is_right, top_accuracy
from yolo9k.metrics.depth import levels_of
from yolo9k.progress import Track, silent
from yolo9k.samples import Detections
from yolo9k.wordtree import WordTree

if TYPE_CHECKING:
    from yolo9k.inference.detector import Detector

BATCH = 16
# without NMS; a lower confidence would compute thousands of labels for every box
THRESHOLDS = Thresholds(conf=0.005, iou=1.0, max_detections=TOP)


@dataclass(frozen=True)
class ImageScores:
    """Shares of the `images`: `top1` and `top5` of those whose label is that of the best, of one of the best 5 boxes.

    A label is right that is the image's or lies below it. `levels`: by depth, how many images have labels as deep,
    and the share whose best box has the same ancestor there.
    """

    images: int
    top1: float
    top5: float
    levels: tuple[tuple[int, int, float], ...]

    def to_dict(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        levels = [dict(zip(("depth", "images", "right"), level, strict=True)) for level in self.levels]
        return {"images": self.images, "top1": self.top1, "top5": self.top5, "levels": levels}


def evaluate_images(
    detector: "Detector", images: ImageSet, *, batch: int = BATCH, track: Track = silent
) -> ImageScores:
    """Score the labels of whole images: boxes are named by their likeliest leaf, or label where labels are flat.

    An image in which no score reaches .005 has no name.

    Raises `ConfigError` where the detector's labels are others than those of the images, `DataError` for a bad one.
    """
    if detector.labels.ids != images.labels.ids:
        raise ConfigError(
            "image labels are scored where model and data set have the same labels; give the data set the model's tree "
            "(labels: {tree: FILE})"
        )
    class_decoder = None if detector.labels.is_flat else detector.class_decoder(leaves_only=True)
    records = images.records
    paths = [records[number].source for number in range(len(records))]
    stream = detector.stream(paths, thresholds=THRESHOLDS, batch=batch, class_decoder=class_decoder)
    found = list(track(stream, "Naming images", len(paths)))
    truths = [records[number].image_label for number in range(len(records))]
    return score_images(found, truths, detector.labels)


def score_images(found: Sequence[Detections], truths: Sequence[int], tree: WordTree) -> ImageScores:
    """The scores of detections, best first, against the label of each image."""
    truth = np.array(truths, np.int64)
    label = np.full((len(truth), TOP), -1)
    for row, each in zip(label, found, strict=True):
        best = each.label[:TOP]
        row[: len(best)] = best
    right = is_right(tree, label, truth)
    return ImageScores(
        images=len(truth),
        top1=top_accuracy(right, 1),
        top5=top_accuracy(right, TOP),
        levels=tuple(
            (level.depth, level.truths, level.right / level.truths) for level in levels_of(tree, truth, label[:, 0])
        ),
    )
