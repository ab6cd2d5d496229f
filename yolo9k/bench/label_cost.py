"""What thousands of labels in a tree cost beside twenty flat ones: time and memory of training and detection.

Each variant runs in a process of its own, so that its peak of memory is its own; the variants take turns, so that a
change in the machine's speed meets all of them.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from yolo9k.build import Network, build_codec, build_loss, build_network, build_scores
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
from yolo9k.training.tasks.detection import DetectionStep
from yolo9k.wordtree import WordTree

FLAT = 20
BOXES = 7  # of an image that has boxes; COCO has 7.3
SHARES = 5  # one image of so many has boxes, the others a label each (YOLO9000 section 4)
FOUND = 20  # boxes above the threshold in one image
HIER_THRESH = 0.5
EVALUATION_CONF = 0.005  # Darknet's
RATE = 1e-6  # of the updates, that shall change next to nothing

Way = Literal["flat", "sparse", "dense"]
WAYS: tuple[Way, ...] = ("flat", "sparse", "dense")


@dataclass(frozen=True)
class Cost:
    """Seconds of one training step, of its update alone, of detecting in one image, and of evaluation on it.

    `memory`: the most bytes in use while training; none where nobody counts them.
    """

    labels: int
    parameters: int
    step: float
    update: float
    detection: float
    evaluation: float
    memory: int | None


@dataclass(frozen=True)
class Comparison:
    """The costs of each way (medians over the rounds), and as multiples of `flat` (medians of each round's)."""

    device: str
    precision: str
    setting: str
    costs: dict[Way, Cost]
    ratios: dict[Way, dict[str, float]]


class DenseStep(DetectionStep):
    """A training step that computes all of the head's output before it asks for parts."""

    def losses(self, batch: Batch, images: Tensor, seen: int) -> dict[str, Tensor]:
        """As `DetectionStep`."""
        return self.loss(_raw_map(self.network), self.network.head.dense(self.computed(images)), batch, seen)


def compare(
    config: Config, tree: WordTree, *, steps: int, rounds: int, boxes_only: bool = False, track: Track = silent
) -> Comparison:
    """Measure `steps` steps of the config's model with each way of having labels, `rounds` times in turn.

    Images are noise, labels random; a batch mixes box labels and image labels as in joint training, unless
    `boxes_only`.
    """
    context = multiprocessing.get_context("spawn")
    measured: list[dict[Way, Cost]] = []
    turns = [(number, way) for number in range(rounds) for way in WAYS]
    for number, way in track(turns, "Measuring", len(turns)):
        with context.Pool(1) as pool:
            cost = pool.apply(measure, (config, way, tree.to_dict(), steps, boxes_only))
        measured += [{}] if number == len(measured) else []
        measured[number][way] = cost
    device = choose_device(config.train.device)
    w, h = config.data.size
    return Comparison(
        device=str(device),
        precision=choose_precision(config.train.precision, device),
        setting=f"{config.model.name}, {w}x{h}, batch {config.train.batch}",
        costs={way: _median([costs[way] for costs in measured]) for way in WAYS},
        ratios={way: _ratios([(costs[way], costs["flat"]) for costs in measured]) for way in WAYS},
    )


def _median(costs: list[Cost]) -> Cost:
    """Of each number by itself."""
    table = [asdict(cost) for cost in costs]
    numbers: dict[str, Any] = {
        key: None if value is None else statistics.median(row[key] for row in table) for key, value in table[0].items()
    }
    return Cost(**numbers)


def _ratios(pairs: list[tuple[Cost, Cost]]) -> dict[str, float]:
    """The median multiple of each number, where it is known."""
    table = [(asdict(cost), asdict(flat)) for cost, flat in pairs]
    keys = [key for key, value in table[0][1].items() if value]
    return {key: statistics.median(cost[key] / flat[key] for cost, flat in table) for key in keys}


def measure(config: Config, way: Way, tree: Mapping[str, list], steps: int, boxes_only: bool) -> Cost:
    """The cost of one way, in this process."""
    labels = WordTree.flat([str(label) for label in range(FLAT)]) if way == "flat" else WordTree.from_dict(tree)
    device = choose_device(config.train.device)
    memory_format = choose_memory_format(config.train.channels_last, device)
    precision = choose_precision(config.train.precision, device)
    torch.manual_seed(config.train.seed)
    network = build_network(config.model, labels)
    network.to(device, memory_format=memory_format)  # type: ignore[call-overload]
    kind = DenseStep if way == "dense" else DetectionStep
    images = config.train.batch
    loss = build_loss(config, network, labels).to(device)
    step = kind(network, loss, device=device, precision=precision, images=images)
    stepper = Stepper(step, config.train, memory_format)
    batch = _noise(images, config.data.size, len(labels), boxes_only).to(device)
    stepper(0, [batch], RATE)
    seconds = _time(device, lambda: stepper(0, [batch], RATE), steps)
    memory, _ = peak_memory(device)
    detect = _detection(config, network.eval(), labels, way == "dense", batch.images[:1], memory_format)
    return Cost(
        labels=len(labels),
        parameters=count_parameters(network),
        step=seconds,
        update=_update_seconds(stepper, steps),
        detection=_time(device, lambda: detect(None), 2 * steps),
        evaluation=_time(device, lambda: detect(EVALUATION_CONF), steps),
        memory=memory,
    )


def _noise(images: int, size_wh: tuple[int, int], labels: int, boxes_only: bool) -> Batch:
    """A batch of noise with random labels: of `SHARES` images one has boxes, the others a label."""
    rng = torch.Generator().manual_seed(0)
    w, h = size_wh
    boxed = torch.tensor([image for image in range(images) if boxes_only or image % SHARES == 0])
    labelled = torch.tensor([image for image in range(images) if image not in boxed.tolist()], dtype=torch.int64)
    count = BOXES * len(boxed)
    corner = torch.rand(count, 2, generator=rng) * 0.6
    side = 0.1 + torch.rand(count, 2, generator=rng) * 0.3
    return Batch(
        images=torch.randint(0, 256, (images, 3, h, w), generator=rng, dtype=torch.uint8),
        image_index=boxed.repeat_interleave(BOXES),
        xyxy=torch.cat([corner, corner + side], dim=1) * torch.tensor([w, h, w, h]),
        label=torch.randint(0, labels, (count,), generator=rng),
        ignore=torch.zeros(count, dtype=torch.bool),
        labelled_image=labelled,
        image_label=torch.randint(0, labels, (len(labelled),), generator=rng),
    )


def _update_seconds(stepper: Stepper, times: int) -> float:
    """Of the optimiser alone, on gradients that are zero."""
    for parameter in stepper.step.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    return _time(stepper.step.device, stepper.optimizer.step, times)


def _detection(
    config: Config,
    network: Network,
    labels: WordTree,
    dense: bool,
    image: Tensor,
    memory_format: torch.memory_format,
) -> Callable[[float | None], object]:
    """Detection in one image by descent, at a threshold that `FOUND` boxes pass, or with all labels above `conf`."""
    device = image.device
    scores, codec = build_scores(config.model, labels).to(device), build_codec(config.model, network)
    everything = MultiLabel(labels, config.model.classes, device)
    one: ClassDecoder = everything if labels.is_flat else HierarchicalDescent(labels, scores, HIER_THRESH)
    precision = choose_precision(config.train.precision, device)

    @torch.no_grad()
    def detect(conf: float | None) -> object:
        images = (image.float() / 255).contiguous(memory_format=memory_format)
        with autocast(device, precision):
            features = network.features(images)
        features = features.float()
        head: Head = _raw_map(network) if dense else network.head
        given = network.head.dense(features) if dense else features
        naming, threshold = (one, usual) if conf is None else (everything, conf)
        found = find_candidates(head, given, codec, config.data.size, naming, threshold)
        return suppress(found, Thresholds(), spans=naming.spans)

    with torch.no_grad(), autocast(device, precision):
        features = network.features((image.float() / 255).contiguous(memory_format=memory_format)).float()
        objectness = network.head.geometry(features)[:, :, 4].sigmoid().flatten()
    usual = float(objectness.sort(descending=True).values[: FOUND + 1][-1])
    return detect


def _raw_map(network: Network) -> RawMap:
    return RawMap(network.head.num_anchors, network.head.num_labels)


def _time(device: torch.device, action: Callable[[], object], times: int) -> float:
    """Seconds of one call."""
    _wait(device)
    start = time.monotonic()
    for _ in range(times):
        action()
    _wait(device)
    return (time.monotonic() - start) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
