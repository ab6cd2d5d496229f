"""Training images as the network will really see them, for people to look at."""

from itertools import chain, islice
from pathlib import Path

import numpy as np

from yolo9k.config import Config
from yolo9k.datasets.joint import TrainingSet
from yolo9k.datasets.loader.dataset import TrainingDataset, make_batch
from yolo9k.datasets.loader.sampler import SampleRequest, StepSampler
from yolo9k.datasets.transforms.detection import DetectionTransform
from yolo9k.drawing import colour, draw_boxes, fit, mosaic

CELL_WH = (360, 360)


def augmented_mosaic(training: TrainingSet, config: Config, number: int) -> np.ndarray:
    """The first `number` images that a run with this config learns from, with what is learnt of them.

    Boxes are drawn, ignored ones dashed; the label of a whole image stands below it. Gives (H, W, 3) uint8. Raises
    `ConfigError` for a transform that does not fit, `DataError` for an image that cannot be read.
    """
    data, train = config.data, config.train
    sources = [source.read.records for source in training.sources]
    images = TrainingDataset(sources, DetectionTransform(data.augment), train.seed, data.on_error)
    steps = range(-(-number // train.batch))
    stream = training.stream(train.seed)
    sampler = StepSampler(stream, train.batch, 1, data.training_sizes, data.size_period, 0, len(steps))
    requests = list(islice(chain.from_iterable(map(sampler.step, steps)), number))
    cells = [_labelled(images, request, training.labels.names) for request in requests]
    return mosaic([cell for cell, _ in cells], cell_wh=CELL_WH, captions=[caption for _, caption in cells])


def _labelled(images: TrainingDataset, request: SampleRequest, names: tuple[str, ...]) -> tuple[np.ndarray, str]:
    """One image with its boxes, at the size of a cell, and what it is."""
    batch = make_batch(images, [request])
    image, xyxy = fit(batch.images[0].permute(1, 2, 0).numpy(), batch.xyxy.numpy(), CELL_WH)
    labels = batch.label.tolist()
    drawn = draw_boxes(
        image,
        xyxy,
        [names[label] for label in labels],
        [colour(label) for label in labels],
        ignore=batch.ignore.numpy(),
    )
    w, h = batch.size_wh
    label = "".join(f"{names[node]}: " for node in batch.image_label.tolist())
    return drawn, f"{label}{Path(batch.names[0]).name}, {w}x{h}"
