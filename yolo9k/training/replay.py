"""Repeat a step whose loss or gradient was not finite, and find the first layer, loss term and image that are not.

`save_step` writes a checkpoint of the weights before the step, with the batch; `replay` needs no other file.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from yolo9k import checkpoint
from yolo9k.build import build_classifier, build_network
from yolo9k.checkpoint import WRONG_PARTS, Checkpoint
from yolo9k.config import ClassifierConfig, Config, RunConfig
from yolo9k.config.loading import refuse_other
from yolo9k.errors import DataError, WeightsError
from yolo9k.hardware import DTYPES, choose_device, choose_memory_format, choose_precision
from yolo9k.models.layers import layer_names
from yolo9k.samples import Batch
from yolo9k.training.freezing import Freezing
from yolo9k.training.step import TrainingStep, seed_dropout
from yolo9k.training.tasks.classification import classification_step
from yolo9k.training.tasks.detection import DetectionStep, detection_step
from yolo9k.wordtree.tree import describe

if TYPE_CHECKING:
    from yolo9k.training.run import Run

BATCH, PRECISION = "batch", "precision"  # keys in the file, among the others of `save_step`
MAX_IMAGES = 16  # on the screen


def save_step(run: "Run", step: int, batch: Batch, path: Path) -> None:
    """Write what `replay` needs: the weights, which must be those before the step, and the batch of the whole step.

    Raises `MachineError` if the file cannot be written.
    """
    stage = run.stage(step)
    values = {
        "step": step,
        "lr": stage.learning_rate(step, run.steps_per_epoch),
        "accumulate": stage.train.accumulate,
        "steps_per_epoch": run.steps_per_epoch,
        PRECISION: run.precision,
        BATCH: vars(batch),
    }
    task, weights = run.task, run.network.state_dict()
    checkpoint.save(Checkpoint(task.config_in(stage), task.labels, weights, values, supervision=task.supervision), path)


@dataclass
class Replay:
    """What a repeated step was like. Layers are in the order in which the step computes them.

    `bad_weights`: layers that were not finite before the step. `losses`: means per image by term. `layer`: the first
    one whose output is not finite, "" if none; `images`: the names of images for which it, or else a loss term, is not
    finite. `bad_gradients`: layers from the last to the first. `bad_statistics`: norms whose statistics overflowed.
    `largest_weight`: the largest absolute value and its layer.
    """

    step: int
    lr: float
    seen: int
    device: str
    precision: str
    bad_weights: list[str] = field(default_factory=list)
    largest_weight: tuple[float, str] = (0.0, "")
    losses: dict[str, float] = field(default_factory=dict)
    layer: str = ""
    images: dict[str, str] = field(default_factory=dict)
    bad_gradients: list[str] = field(default_factory=list)
    bad_statistics: list[str] = field(default_factory=list)

    @property
    def bad_losses(self) -> list[str]:
        """Return the loss terms that are not finite."""
        return [name for name, value in self.losses.items() if not _is_finite(value)]

    @property
    def is_finite(self) -> bool:
        """Return whether the step went well: the failure was not repeated."""
        return not (self.bad_losses or self.bad_gradients or self.bad_statistics)

    def lines(self) -> list[str]:
        """Return the result as lines of text."""
        value, layer = self.largest_weight
        weights = f"NaN or infinite before the step in {describe(self.bad_weights)}" if self.bad_weights else "finite"
        terms = ", ".join(f"{name} {loss:.4g}" for name, loss in self.losses.items())
        images = [f"{name} ({what})" for name, what in self.images.items()]
        lines = [
            f"step {self.step}: lr {self.lr:.4g}, {self.seen:,} images seen, {self.precision} on {self.device}",
            f"weights: {weights}; the largest value is {value:.3g} in {layer}",
            f"first layer whose output is not finite: {self.layer or 'none'}",
            f"loss terms: {terms}",
            f"images: {describe(images, MAX_IMAGES) or 'all finite'}",
            f"gradients that are not finite, from the loss: {describe(self.bad_gradients) or 'none'}",
        ]
        statistics = [f"statistics that overflowed: {describe(self.bad_statistics)}"] if self.bad_statistics else []
        return lines + statistics


def replay(path: Path, *, kind: type[RunConfig] | None = None, device: str = "", precision: str = "") -> Replay:
    """Repeat the step of a file that `save_step` wrote; nothing is changed, and no data set is needed.

    `device` and `precision` replace those of the run. `kind`: the required kind of run. Raises `WeightsError` for any
    other file, `ConfigError` for a run of another kind, `MachineError` for a device that is not available.
    """
    stored = checkpoint.load(path)
    values = stored.training
    if values is None or BATCH not in values:
        raise WeightsError(f"{path}: is not a step that failed; a diverged run writes diverged-stepN.pt to its folder")
    if kind is not None:
        refuse_other(kind, stored.config.task, str(path))
    on = choose_device(device or stored.config.train.device)
    chosen = choose_precision(precision or _precision_of(values), on)
    try:
        batch = _batch(values[BATCH], len(stored.labels), path)
        training_step = _build_step(stored, on, chosen)
        return _Repetition(training_step, stored.config, values, batch).run()
    except (*WRONG_PARTS, DataError) as error:
        raise WeightsError(f"{path}: its step cannot be repeated: {' '.join(str(error).split())}") from error


def _precision_of(values: Mapping[str, Any]) -> str:
    value = values.get(PRECISION)
    return value if isinstance(value, str) and value in DTYPES else "auto"


def _batch(values: Any, num_labels: int, path: Path) -> Batch:
    """Return the stored batch. Raises one of `WRONG_PARTS` if it is none: the file may be a stranger's."""
    batch = Batch(**{each.name: values[each.name] for each in fields(Batch)})
    tensors = [value for value in vars(batch).values() if isinstance(value, Tensor)]
    if sum(value.numel() * value.element_size() for value in tensors) > path.stat().st_size:
        raise ValueError("its batch claims more bytes than the file has")
    count = len(batch)
    limits = (batch.image_index, count), (batch.labelled_image, count), (batch.label, num_labels)
    for index, limit in (*limits, (batch.image_label, num_labels)):
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < limit:
            raise ValueError(f"an index of its batch is not below {limit}")
    if len(batch.names) != count:
        raise ValueError("its batch has another number of names than of images")
    return batch


def _build_step(stored: Checkpoint, device: torch.device, precision: Any) -> TrainingStep:
    """Return the network with the stored weights, and its loss, on the device."""
    config, labels = stored.config, stored.labels
    memory_format = choose_memory_format(config.train.channels_last, device)
    network: Any
    if isinstance(config, ClassifierConfig):
        network = build_classifier(config.model, labels)
    else:
        network = build_network(config.model, labels)
    network.load_state_dict(stored.weights)
    network.to(device, memory_format=memory_format)
    if isinstance(config, ClassifierConfig):
        return classification_step(config, network, labels, device, precision)
    assert isinstance(config, Config)
    return detection_step(config, network, labels, device, precision)


class _Repetition:
    """One step, watched layer by layer."""

    def __init__(self, training_step: TrainingStep, config: RunConfig, values: Mapping[str, Any], batch: Batch) -> None:
        self.training_step, self.network, self.batch = training_step, training_step.network, batch
        self.step, self.accumulate = int(values["step"]), int(values["accumulate"])
        self.layers = layer_names(self.network.state_dict(keep_vars=True))
        self.freezing = Freezing(self.network, config.train, float(values["steps_per_epoch"]))
        self.memory_format = choose_memory_format(config.train.channels_last, training_step.device)
        self.seen = self.step * config.train.batch
        self.seed = config.train.seed
        self.outputs = Tensor()  # of the network for the micro-batch
        self.micro_batch = batch
        self.found = Replay(
            self.step, float(values["lr"]), self.seen, str(training_step.device), training_step.precision
        )

    def run(self) -> Replay:
        """Repeat the step."""
        found = self.found
        state = self.network.state_dict()
        found.bad_weights = self._bad_layers(state.items())
        sizes = {
            name: float(value.detach().abs().max()) for name, value in self.network.named_parameters() if value.numel()
        }
        found.largest_weight = max((size, self.layers[name]) for name, size in sizes.items())
        seed_dropout(self.seed, self.step)
        self.freezing.apply(self.step)
        forward = self.training_step.forward_network
        self.training_step.forward_network = lambda images: self._keep(forward(images))
        for name, module in self.network.named_modules():
            if not any(module.children()):
                module.register_forward_hook(lambda _, __, output, name=name: self._check_output(name, output))
        for start, stop in self._bounds():
            self._run_part(self.batch.part(start, stop).to(self.training_step.device))
        gradients = {name: value.grad for name, value in self.network.named_parameters() if value.grad is not None}
        found.bad_gradients = self._bad_layers(reversed(gradients.items()))
        found.bad_statistics = [
            layer for layer in self._bad_layers(self.network.named_buffers()) if layer not in found.bad_weights
        ]
        return found

    def _bounds(self) -> Iterator[tuple[int, int]]:
        """Yield the first image of each micro-batch, and the one after its last."""
        size = max(1, len(self.batch) // self.accumulate)
        return ((start, min(start + size, len(self.batch))) for start in range(0, len(self.batch), size))

    def _run_part(self, part: Batch) -> None:
        self.micro_batch = part
        self.seen = self.found.seen = self.seen + len(part)
        images = part.normalised().contiguous(memory_format=self.memory_format)
        losses = self.training_step(part, images, self.seen)
        for name, value in losses.items():
            self.found.losses[name] = self.found.losses.get(name, 0.0) + float(value.detach())
        if not self.found.images:
            self.found.images = self._images_with_bad_losses(part)
        torch.stack(list(losses.values())).sum().backward()

    def _keep(self, outputs: Tensor) -> Tensor:
        self.outputs = outputs.detach().float()
        return outputs

    def _check_output(self, name: str, output: Any) -> None:
        """Note the first output that is not finite, and its images."""
        if self.found.layer or not isinstance(output, Tensor) or _is_finite(output):
            return
        self.found.layer = name
        if output.dim() and len(output) == len(self.micro_batch):
            is_bad = ~output.detach().flatten(1).isfinite().all(dim=1)
            self.found.images = {self.micro_batch.names[index]: name for index in is_bad.nonzero().flatten().tolist()}

    @torch.no_grad()
    def _images_with_bad_losses(self, part: Batch) -> dict[str, str]:
        """Return the images with loss terms that are not finite, from outputs that are; of a detector only."""
        if self.found.layer or not isinstance(self.training_step, DetectionStep):
            return {}
        images = {}
        for index, name in enumerate(part.names):
            loss, outputs = self.training_step.loss, self.outputs[index : index + 1]
            terms = loss(self.training_step.network.head, outputs, part.part(index, index + 1), self.seen)
            if bad := [term for term, value in terms.items() if not _is_finite(value)]:
                images[name] = ", ".join(bad)
        return images

    def _bad_layers(self, tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
        """Return the layers of tensors that are not finite, each once."""
        return list(dict.fromkeys(self.layers.get(name, name) for name, value in tensors if not _is_finite(value)))


def _is_finite(value: Tensor | float) -> bool:
    return bool(torch.as_tensor(value).isfinite().all())
