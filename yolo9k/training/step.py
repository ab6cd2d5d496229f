"""`Stepper`: one step of training, with forward and backward passes, gradient clipping and a guarded update."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from yolo9k import processes
from yolo9k.config.schema import TrainConfig
from yolo9k.errors import ConfigError
from yolo9k.hardware import Precision, autocast
from yolo9k.samples import Batch
from yolo9k.training.freezing import Freezing
from yolo9k.training.guard import FiniteGuard
from yolo9k.training.optimizer import build_optimizer, clip_gradients, set_learning_rate
from yolo9k.training.parallel import Forward, ParallelStep

SINGLE_VALUE = "more than 1 value per channel"  # from torch's message
MAX_SKIPPED_IN_A_ROW = 10  # steps that are not finite; more will not end by themselves
DROPOUT = 1001  # keeps this random stream apart from those of the images


class TrainingStep(nn.Module, ABC):
    """Network and loss as one module: maps a micro-batch to its losses, divided by `batch_size`.

    `batch_size`: images of the whole step, of all processes, so that the losses of its micro-batches add up to the mean
    per image.
    `forward_network`: maps images to outputs under autocast; may be replaced by its compiled form. `loss_names`: the
    names of all losses that may occur.
    """

    loss_names: Sequence[str]
    forward_network: Callable[[Tensor], Tensor]

    def __init__(self, network: nn.Module, *, device: torch.device, precision: Precision, batch_size: int) -> None:
        super().__init__()
        self.network, self.batch_size = network, batch_size
        self.device, self.precision = device, precision

    def forward(self, batch: Batch, images: Tensor, seen: int) -> dict[str, Tensor]:
        """Return the losses by name. `batch` is on the device, `images` are its normalised images.

        `seen`: images seen in the run, those of this micro-batch included, by all processes.
        """
        losses = self.losses(batch, images, seen)
        return {name: value / self.batch_size for name, value in losses.items()}

    @abstractmethod
    def losses(self, batch: Batch, images: Tensor, seen: int) -> dict[str, Tensor]:
        """Return the losses by name, each summed over the micro-batch."""

    def outputs(self, images: Tensor) -> Tensor:
        """Run `forward_network` in this run's precision; return float32."""
        with autocast(self.device, self.precision):
            return self.forward_network(images).float()


class Stepper:
    """Owns the optimiser and runs whole steps. `steps_per_epoch` converts `config.unfreeze_at` to steps."""

    def __init__(
        self,
        training_step: TrainingStep,
        config: TrainConfig,
        memory_format: torch.memory_format,
        steps_per_epoch: float = math.inf,
    ) -> None:
        self.training_step, self.config, self.memory_format = training_step, config, memory_format
        self.network = training_step.network
        self.parallel = ParallelStep(training_step, self.network, training_step.loss_names)
        self.freezing = Freezing(self.network, config, steps_per_epoch)
        self.optimizer = build_optimizer(self.network, config)
        max_skipped = MAX_SKIPPED_IN_A_ROW if config.on_nonfinite == "skip" else 0
        self.guard = FiniteGuard(self.network, self.optimizer, training_step.device, max_skipped)
        self.scaler = torch.amp.GradScaler(training_step.device.type, enabled=training_step.precision == "fp16")
        self._has_dropout = any(isinstance(module, nn.Dropout) for module in self.network.modules())

    def __call__(self, step: int, micro_batches: Sequence[Batch], lr: float) -> dict[str, Tensor]:
        """Run step `step` (from 0) with learning rate `lr`; return the losses and `gradient_norm`, on the device.

        `micro_batches`: the images of this process; the losses are those of all processes. Nothing here waits for a
        GPU, but for parameters that get no gradient in one of several processes. Raises `LostProcessError`.
        """
        with processes.explain_lost_process():
            return self._run(step, micro_batches, lr)

    def _run(self, step: int, micro_batches: Sequence[Batch], lr: float) -> dict[str, Tensor]:
        set_learning_rate(self.optimizer, lr)
        if self._has_dropout:
            seed_dropout(self.config.seed, step)
        self.freezing.apply(step)
        self.guard.begin()
        own: dict[str, Tensor] = {}
        forward, size = self.parallel.forward(), self.config.batch // len(micro_batches)
        for number, micro_batch in enumerate(micro_batches, 1):
            with self.parallel.collecting(is_last=number == len(micro_batches)):
                losses = self._backward(forward, micro_batch, seen=step * self.config.batch + number * size)
            for name, value in losses.items():
                own[name] = own[name] + value if name in own else value
        total, bad_processes = self.parallel.combine(own)
        self.freezing.fill_gradients(step)
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.network.parameters(), self.config.clip_grad)
        loss = torch.stack(list(total.values())).sum()
        self.guard.update(step, loss, norm, bad_processes, overflow_is_normal=self.scaler.is_enabled())
        if self.scaler.is_enabled():
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return {**total, "gradient_norm": norm}

    def _backward(self, forward: Forward, micro_batch: Batch, seen: int) -> dict[str, Tensor]:
        """Add the gradients of a micro-batch; return its losses."""
        batch = micro_batch.to(self.training_step.device)
        images = batch.normalised().contiguous(memory_format=self.memory_format)
        try:
            losses = forward(batch, images, seen)
        except ValueError as error:  # batch norm has no variance of a single value
            if SINGLE_VALUE not in str(error):
                raise
            raise ConfigError(
                "train.batch: batch norm needs more than one value per channel, but a micro-batch is one small image; "
                "raise train.batch or the image size, lower train.accumulate, or choose another model.norm"
            ) from error
        loss = torch.stack(list(losses.values())).sum()
        self.scaler.scale(loss * self.parallel.count).backward()  # torch divides it by the number of processes
        return {name: value.detach() for name, value in losses.items()}

    def state(self) -> dict[str, Any]:
        """Return what resuming needs besides the weights: the optimiser's state by parameter name, and the scaler's.

        The keys are read from `last.pt` of older runs, too: keep them.
        """
        names: dict[Tensor, str] = {p: name for name, p in self.network.named_parameters()}
        memory = {names[parameter]: dict(values) for parameter, values in self.optimizer.state.items()}
        scaler, skipped = self.scaler.state_dict(), int(self.guard.skipped)
        return {"optimizer": self.config.optimizer, "memory": memory, "scaler": scaler, "skipped": skipped}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Load the `state` of an earlier run; learning rates, decay and momentum are those of this run's config.

        A parameter that the state does not have starts with new optimiser state. Raises `ValueError` or `KeyError`
        for the state of another optimiser or network.
        """
        if state["optimizer"] != self.config.optimizer:
            raise ValueError("the state of another optimiser")
        parameters = dict(self.network.named_parameters())
        for name, values in state["memory"].items():
            parameter = parameters[name]
            self.optimizer.state[parameter] = {key: _state_like(value, parameter) for key, value in values.items()}
        self.scaler.load_state_dict(dict(state["scaler"]))
        self.guard.skipped.fill_(state.get("skipped", 0))


def seed_dropout(seed: int, step: int) -> None:
    """Let dropout depend only on the step and the process, so that a resumed run drops the same values."""
    own = [processes.rank()] if processes.rank() else []
    torch.manual_seed(int(np.random.default_rng([seed, DROPOUT, step, *own]).integers(2**63)))


def _state_like(value: Tensor, parameter: Tensor) -> Tensor:
    """Copy optimiser state to the device and memory format of its parameter, as the fused kernels require."""
    if value.dim() == 0 and parameter.dim() != 0:  # AdamW's step count
        return value.to(parameter.device, copy=True)
    if value.shape != parameter.shape:
        raise ValueError("the state of another network")
    return torch.empty_like(parameter).copy_(value)
