"""Measure the cost of backbones: parameters, operations, and the time per image on this machine's CPU."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from yolo9k.build import build_network
from yolo9k.config.schema import ModelConfig
from yolo9k.errors import ConfigError
from yolo9k.models.layers import count_operations, count_parameters
from yolo9k.models.norms import fold_norms
from yolo9k.models.torchvision_backbone import LISTED, full_name
from yolo9k.models.yolov2 import DetectionNetwork
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree

LABELS = WordTree.flat([str(label) for label in range(20)])
ANCHORS = (
    (1.0, 1.0),
    (2.0, 2.0),
    (3.0, 3.0),
    (5.0, 5.0),
    (8.0, 8.0),
)  # in grid cells; only their count affects the cost
OWN = {"darknet19": "yolov2", "tiny": "yolov2-tiny-voc"}  # backbones of this package, and the models that use them
NAMES = (*OWN, *LISTED)


@dataclass(frozen=True)
class Cost:
    """Parameters and operations of a detector and of its backbone alone; a multiply-add is two operations.

    `seconds`: time of the network for one image, median of the runs. `fastest`: minimum of the runs.
    """

    backbone: str
    model: str
    parameters: int
    backbone_parameters: int
    operations: int
    backbone_operations: int
    seconds: float
    fastest: float


def compare(
    size_wh: tuple[int, int], names: Sequence[str] = NAMES, *, runs: int = 5, track: Track = silent
) -> list[Cost]:
    """Measure a detector with 20 labels and 5 anchors for each backbone.

    The network is in evaluation mode, float32, channels last, with norms folded into the convolutions as for
    detection. Raises `ConfigError` for an unknown backbone.
    """
    backbones = [_full_name(name) for name in names]
    return [_measure(backbone, size_wh, runs) for backbone in track(backbones, "Measuring", len(backbones))]


def _full_name(name: str) -> str:
    if name in OWN:
        return name
    try:
        return full_name(name)
    except ConfigError as error:
        raise ConfigError(f"{error}; this package also has {' and '.join(OWN)}") from error


def _measure(name: str, size_wh: tuple[int, int], runs: int) -> Cost:
    config = model_config(name)
    network = build_network(config, LABELS).eval()
    assert isinstance(network, DetectionNetwork)
    network.check_size(size_wh)
    seconds = _time_runs(network, size_wh, runs)
    return Cost(
        backbone=name,
        model=config.name,
        parameters=count_parameters(network),
        backbone_parameters=count_parameters(network.backbone),
        operations=count_operations(network, size_wh),
        backbone_operations=count_operations(network.backbone, size_wh),
        seconds=statistics.median(seconds),
        fastest=min(seconds),
    )


def model_config(name: str) -> ModelConfig:
    """Return the detector that a backbone is measured in: YOLOv2, or tiny YOLOv2 for `tiny`."""
    if name in OWN:
        return ModelConfig.model_validate({"name": OWN[name], "anchors": ANCHORS})
    return ModelConfig(backbone=name, anchors=ANCHORS)


@torch.inference_mode()
def _time_runs(network: DetectionNetwork, size_wh: tuple[int, int], runs: int) -> list[float]:
    """Return the seconds of each run, after an untimed first one."""
    folded = fold_norms(network).to(memory_format=torch.channels_last)
    w, h = size_wh
    image = torch.rand(1, 3, h, w).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        folded(image)
        times.append(time.perf_counter() - start)
    return times[1:]
