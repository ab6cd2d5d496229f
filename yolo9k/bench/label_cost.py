"""Measure time and memory of training and detection with a label tree, compared with 20 flat labels.

Each variant runs in its own process, so that its peak memory is its own. The variants take turns, so that changes in
the machine's speed affect all of them.
"""

import multiprocessing
import statistics
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from yolo9k.bench.timing import seconds_per_call
from yolo9k.build import Network, build_codec, build_network, build_scores
from yolo9k.config import Config
from yolo9k.detection.class_decoder import ClassDecoder, HierarchicalDescent, MultiLabel
from yolo9k.detection.head import Head
from yolo9k.detection.postprocess import find_candidates, suppress
from yolo9k.detection.thresholds import Thresholds
from yolo9k.hardware import autocast, choose_device, choose_memory_format, choose_precision, peak_memory
from yolo9k.models.head import RawMap
from yolo9k.models.layers import count_parameters
from yolo9k.progress import Track, silent
from yolo9k.samples import Batch
from yolo9k.training.step import Stepper
from yolo9k.training.tasks.detection import DetectionStep, build_loss
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.tree import HIER_THRESH

FLAT_LABELS = 20  # as VOC
BOXES_PER_IMAGE = 7  # COCO has 7.3
BOX_IMAGE_PERIOD = 5  # one image in 5 has boxes, the others an image-level label (YOLO9000 section 4)
DETECTIONS = 20  # boxes above the threshold in one image
EVALUATION_CONF = 0.005  # Darknet's
LEARNING_RATE = 1e-6  # so small that the measured steps hardly change the weights

Variant = Literal["flat", "sparse", "dense"]
VARIANTS: tuple[Variant, ...] = ("flat", "sparse", "dense")


@dataclass(frozen=True)
class Cost:
    """Seconds of a training step, of the optimiser step in it, and of detection and evaluation per image.

    `memory`: peak memory of training in bytes; `None`: unknown on this machine.
    """

    labels: int
    parameters: int
    training_step: float
    optimizer_step: float
    detection: float
    evaluation: float
    memory: int | None


@dataclass(frozen=True)
class Comparison:
    """The cost of each variant, and its ratio to that of `flat`: medians over the rounds.

    `flat`: 20 flat labels. `sparse`: the tree; class logits are computed only where they are needed. `dense`: the
    tree; all class logits are computed.
    """

    device: str
    precision: str
    setting: str
    costs: dict[Variant, Cost]
    ratios: dict[Variant, dict[str, float]]


class DenseStep(DetectionStep):
    """A training step that computes all class logits of the head."""

    def losses(self, batch: Batch, images: Tensor, seen: int) -> dict[str, Tensor]:
        """Return the losses of `DetectionStep`."""
        return self.loss(_raw_map(self.network), self.network.head.dense(self.outputs(images)), batch, seen)


def compare(
    config: Config, tree: WordTree, *, steps: int, rounds: int, boxes_only: bool = False, track: Track = silent
) -> Comparison:
    """Measure `steps` steps of the config's model with each variant, `rounds` times in turn.

    Images and labels are random. A batch mixes box labels and image-level labels as in joint training, unless
    `boxes_only`.
    """
    context = multiprocessing.get_context("spawn")
    measured: list[dict[Variant, Cost]] = [{} for _ in range(rounds)]
    turns = [(costs, variant) for costs in measured for variant in VARIANTS]
    for costs, variant in track(turns, "Measuring", len(turns)):
        with context.Pool(1) as pool:
            costs[variant] = pool.apply(measure, (config, variant, tree.to_dict(), steps, boxes_only))
    device = choose_device(config.train.device)
    w, h = config.data.size
    return Comparison(
        device=str(device),
        precision=choose_precision(config.train.precision, device),
        setting=f"{config.model.name}, {w}x{h}, batch {config.train.batch}",
        costs={variant: _median([costs[variant] for costs in measured]) for variant in VARIANTS},
        ratios={variant: _ratios([(costs[variant], costs["flat"]) for costs in measured]) for variant in VARIANTS},
    )


def _median(costs: list[Cost]) -> Cost:
    """Return the median of each field."""
    rows = [asdict(cost) for cost in costs]
    values: dict[str, Any] = {
        key: None if value is None else statistics.median(row[key] for row in rows) for key, value in rows[0].items()
    }
    return Cost(**values)


def _ratios(pairs: list[tuple[Cost, Cost]]) -> dict[str, float]:
    """Return the median ratio of each field to that of `flat`; fields without a value are skipped."""
    rows = [(asdict(cost), asdict(flat)) for cost, flat in pairs]
    keys = [key for key, value in rows[0][1].items() if value]
    return {key: statistics.median(cost[key] / flat[key] for cost, flat in rows) for key in keys}


def measure(config: Config, variant: Variant, tree: Mapping[str, list], steps: int, boxes_only: bool) -> Cost:
    """Measure one variant in this process."""
    labels = WordTree.flat([str(i) for i in range(FLAT_LABELS)]) if variant == "flat" else WordTree.from_dict(tree)
    device = choose_device(config.train.device)
    memory_format = choose_memory_format(config.train.channels_last, device)
    torch.manual_seed(config.train.seed)
    network = build_network(config.model, labels)
    network.to(device, memory_format=memory_format)  # type: ignore[call-overload]
    step_class = DenseStep if variant == "dense" else DetectionStep
    training_step = step_class(
        network,
        build_loss(config, network, labels).to(device),
        device=device,
        precision=choose_precision(config.train.precision, device),
        batch_size=config.train.batch,
    )
    stepper = Stepper(training_step, config.train, memory_format)
    batch = _random_batch(config.train.batch, config.data.size, len(labels), boxes_only).to(device)
    stepper(0, [batch], LEARNING_RATE)  # not timed: reserves memory and chooses kernels
    step_seconds = seconds_per_call(device, lambda: stepper(0, [batch], LEARNING_RATE), steps)
    memory, _ = peak_memory(device)
    detect = _build_detect(config, network.eval(), labels, variant == "dense", batch.images[:1], memory_format)
    return Cost(
        labels=len(labels),
        parameters=count_parameters(network),
        training_step=step_seconds,
        optimizer_step=_time_optimizer(stepper, steps),
        detection=seconds_per_call(device, lambda: detect(None), 2 * steps),
        evaluation=seconds_per_call(device, lambda: detect(EVALUATION_CONF), steps),
        memory=memory,
    )


def _random_batch(images: int, size_wh: tuple[int, int], num_labels: int, boxes_only: bool) -> Batch:
    """Return noise with random labels: one image in `BOX_IMAGE_PERIOD` has boxes, the others an image-level label."""
    rng = torch.Generator().manual_seed(0)
    w, h = size_wh
    with_boxes = [image for image in range(images) if boxes_only or image % BOX_IMAGE_PERIOD == 0]
    labelled = [image for image in range(images) if image not in with_boxes]
    boxes = BOXES_PER_IMAGE * len(with_boxes)
    corner = torch.rand(boxes, 2, generator=rng) * 0.6
    side = 0.1 + torch.rand(boxes, 2, generator=rng) * 0.3
    return Batch(
        images=torch.randint(0, 256, (images, 3, h, w), generator=rng, dtype=torch.uint8),
        image_index=torch.tensor(with_boxes).repeat_interleave(BOXES_PER_IMAGE),
        xyxy=torch.cat([corner, corner + side], dim=1) * torch.tensor([w, h, w, h]),
        label=torch.randint(0, num_labels, (boxes,), generator=rng),
        ignore=torch.zeros(boxes, dtype=torch.bool),
        labelled_image=torch.tensor(labelled, dtype=torch.int64),
        image_label=torch.randint(0, num_labels, (len(labelled),), generator=rng),
    )


def _time_optimizer(stepper: Stepper, calls: int) -> float:
    """Return the seconds of an optimiser step, with gradients of zero."""
    for parameter in stepper.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return seconds_per_call(stepper.training_step.device, stepper.optimizer.step, calls)


def _build_detect(
    config: Config,
    network: Network,
    labels: WordTree,
    dense: bool,
    image: Tensor,
    memory_format: torch.memory_format,
) -> Callable[[float | None], object]:
    """Return a function that detects objects in `image` (1, 3, H, W) above a confidence threshold, with all labels.

    Without a threshold (`None`) it descends the tree, at a threshold that `DETECTIONS` boxes exceed.
    """
    device = image.device
    softmax, codec = build_scores(config.model, labels).to(device), build_codec(config.model, network)
    multi_label = MultiLabel(labels, config.model.classes, device)
    single: ClassDecoder = multi_label if labels.is_flat else HierarchicalDescent(labels, softmax, HIER_THRESH)
    precision = choose_precision(config.train.precision, device)

    def compute_features() -> Tensor:
        images = (image.float() / 255).contiguous(memory_format=memory_format)
        with autocast(device, precision):
            return network.features(images).float()

    @torch.no_grad()
    def detect(conf: float | None) -> object:
        features = compute_features()
        head: Head = _raw_map(network) if dense else network.head
        maps = network.head.dense(features) if dense else features
        decoder, threshold = (single, detection_conf) if conf is None else (multi_label, conf)
        candidates = find_candidates(head, maps, codec, config.data.size, decoder, threshold)
        return suppress(candidates, Thresholds(), spans=decoder.spans)

    with torch.no_grad(), autocast(device, precision):
        objectness = network.head.geometry(compute_features())[:, :, 4].sigmoid().flatten()
    detection_conf = float(objectness.sort(descending=True).values[: DETECTIONS + 1][-1])
    return detect


def _raw_map(network: Network) -> RawMap:
    return RawMap(network.head.num_anchors, network.head.num_labels)
