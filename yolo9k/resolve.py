"""Resolve a config against its data and machine: the final config of a run, validated, with nothing left to choose.

A resolved config names its labels, sizes, anchors and precision, so that a checkpoint which stores it needs no other
file.
"""

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from yolo9k.anchors import cluster
from yolo9k.config import AnyDataset, ClassifierConfig, Config, DatasetConfig, updated
from yolo9k.config.datasets import TreeLabels
from yolo9k.config.section import STRIDE, SizeWH
from yolo9k.datasets.box_sizes import fitted_sizes
from yolo9k.datasets.load import portable_path
from yolo9k.datasets.tools.check_files import missing_boxes
from yolo9k.errors import DataError
from yolo9k.hardware import choose_device, choose_precision

if TYPE_CHECKING:
    from yolo9k.datasets.joint import TrainingSet
    from yolo9k.datasets.readers.records import Record

Run = TypeVar("Run", Config, ClassifierConfig)


def resolve_detection(config: Config, training: "TrainingSet") -> Config:
    """Return the config of a detector's run: data set written out, aspect applied, anchors clustered.

    Raises `DataError` if no image has a box.
    """
    records = training.box_records
    if problem := missing_boxes(records, "training images"):
        raise DataError(f"{problem}; a detector needs boxes")
    return with_anchors(with_aspect(with_dataset(config, training.dataset), records), records)


def resolve_classification(config: ClassifierConfig, dataset: DatasetConfig) -> ClassifierConfig:
    """Return the config of a classifier's run: label files located, and a size for every stage.

    `data.size` becomes the size of the stage that a checkpoint is from (`at_size`).
    """
    if isinstance(dataset.labels, TreeLabels):
        files = {"labels.tree": portable_path(dataset.labels.tree), "labels.map": portable_path(dataset.labels.map)}
        dataset = updated(dataset, files)
    stages = tuple(updated(stage, {"size": stage.size or config.data.size}) for stage in config.stages)
    return updated(with_dataset(config, dataset), {"stages": stages})


def resolve_precision(config: Run) -> Run:
    """Return the config with the precision that `auto` means on its device."""
    precision = choose_precision(config.train.precision, choose_device(config.train.device))
    return updated(config, {"train.precision": precision})


def with_dataset(config: Run, dataset: AnyDataset) -> Run:
    """Return the config with this data set."""
    return updated(config, {"data.dataset": dataset})


def at_size(config: Run, size_wh: SizeWH) -> Run:
    """Return the config with this size of evaluation and detection."""
    return updated(config, {"data.size": size_wh})


def with_aspect(config: Config, records: Sequence["Record"]) -> Config:
    """Return the config with `data.fit_aspect` applied: its sizes have the median aspect ratio of the images."""
    if not config.data.fit_aspect:
        return config
    aspect = statistics.median(w / h for w, h in (record.size_wh for record in records))
    sizes = tuple(dict.fromkeys(_fitted(size, aspect) for size in config.data.sizes))
    return updated(
        config,
        {"data.size": _fitted(config.data.size, aspect), "data.sizes": sizes, "data.fit_aspect": False},
    )


def _fitted(size_wh: SizeWH, aspect: float) -> SizeWH:
    """Return multiples of the stride near the area of `size_wh`, with width over height near `aspect`."""
    side = math.sqrt(size_wh[0] * size_wh[1])
    w, h = (max(1, round(length / STRIDE)) * STRIDE for length in (side * aspect**0.5, side / aspect**0.5))
    return w, h


def with_anchors(config: Config, records: Sequence["Record"]) -> Config:
    """Return the config with `model.anchors: auto` replaced by anchors clustered from the boxes of these records.

    There are fewer than `model.num_anchors` if fewer sizes differ. Raises `DataError` if there is no box.
    """
    if config.model.anchors != "auto":
        return config
    sizes_wh = fitted_sizes(records, config.data.size, STRIDE, config.data.resize_mode)
    anchors = cluster(sizes_wh, config.model.num_anchors, config.train.seed)
    return updated(config, {"model.anchors": tuple(map(tuple, anchors.rounded())), "model.num_anchors": len(anchors)})
