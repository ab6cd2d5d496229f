"""Draw augmented training images with their labels, as the network sees them."""

from itertools import chain, islice
from pathlib import Path

import numpy as np

from yolo9k.config import Config
from yolo9k.datasets.joint import TrainingSet
from yolo9k.datasets.loader.batches import make_batch
from yolo9k.datasets.loader.dataset import TrainingDataset
from yolo9k.datasets.loader.sampler import SampleRequest, StepSampler
from yolo9k.datasets.transforms.detection import DetectionTransform
from yolo9k.datasets.transforms.grey import for_channels
from yolo9k.drawing import colour, draw_boxes, fit, mosaic

CELL_WH = (360, 360)


def augmented_mosaic(training: TrainingSet, config: Config, count: int) -> np.ndarray:
    """Return a mosaic (H, W, 3) uint8 of the first `count` training images of a run with this config.

    Boxes are drawn, ignored ones dashed; an image-level label is written below its image. Raises `ConfigError` for a
    transform that cannot be applied, `DataError` for an unreadable image.
    """
    data, train = config.data, config.train
    sources = [source.read.records for source in training.sources]
    transform = for_channels(DetectionTransform(data.augment, data.resize_mode), data.channels)
    dataset = TrainingDataset(sources, transform, train.seed, data.on_error, reduce=data.resize != "darknet")
    order, steps = training.sample_order(train.seed), -(-count // train.batch)
    sampler = StepSampler(order, train.batch, 1, data.training_sizes, data.size_period, 0, steps)
    requests = islice(chain.from_iterable(sampler), count)
    cells = [_draw_sample(dataset, request, training.labels.names) for request in requests]
    return mosaic([cell for cell, _ in cells], cell_wh=CELL_WH, captions=[caption for _, caption in cells])


def _draw_sample(dataset: TrainingDataset, request: SampleRequest, names: tuple[str, ...]) -> tuple[np.ndarray, str]:
    """Return one image with its boxes at the size of a cell, and its caption."""
    batch = make_batch(dataset, [request])
    image, xyxy = fit(batch.images[0].expand(3, -1, -1).permute(1, 2, 0).numpy(), batch.xyxy.numpy(), CELL_WH)
    labels = batch.label.tolist()
    texts = [names[label] for label in labels]
    drawn = draw_boxes(image, xyxy, texts, [colour(label) for label in labels], ignore=batch.ignore.numpy())
    w, h = batch.size_wh
    image_label = "".join(f"{names[node]}: " for node in batch.image_label.tolist())
    return drawn, f"{image_label}{Path(batch.names[0]).name}, {w}x{h}"
