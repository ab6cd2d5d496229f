"""One training step: forward, loss, backward, a guarded update."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from yolo9k.config.schema import TrainConfig
from yolo9k.errors import ConfigError
from yolo9k.hardware import Precision, autocast
from yolo9k.samples import Batch
from yolo9k.training.freezing import Freezing
from yolo9k.training.optimizer import FiniteGuard, build_optimizer, clip_gradients, set_learning_rate

SINGLE_VALUE = "more than 1 value per channel"  # torch's words
DROPOUT = 1001  # keeps its random stream apart from those of images


class TrainingStep(nn.Module, ABC):
    """Network and loss as one module: a batch to its losses, each divided by `images`, those of the whole update.

    `compute`: what the network makes of images under autocast; may be replaced by its compiled form.
    """

    compute: Callable[[Tensor], Tensor]

    def __init__(self, network: nn.Module, *, device: torch.device, precision: Precision, images: int) -> None:
        super().__init__()
        self.network, self.images = network, images
        self.device, self.precision = device, precision

    def forward(self, batch: Batch, images: Tensor, seen: int) -> dict[str, Tensor]:
        """The losses of a batch on the device, `images` its normalised images.

        `seen` counts the images of the run, this update's included.
        """
        losses = self.losses(batch, images, seen)
        return {name: value / self.images for name, value in losses.items()}

    @abstractmethod
    def losses(self, batch: Batch, images: Tensor, seen: int) -> dict[str, Tensor]:
        """Sums over the batch, by part."""

    def computed(self, images: Tensor) -> Tensor:
        """`compute` in this run's precision, as float32."""
        with autocast(self.device, self.precision):
            return self.compute(images).float()


class Stepper:
    """Owns the optimiser and runs whole updates. `steps_per_epoch` is what `config.unfreeze_at` counts in."""

    def __init__(
        self,
        step: TrainingStep,
        config: TrainConfig,
        memory_format: torch.memory_format,
        steps_per_epoch: float = math.inf,
    ) -> None:
        self.step, self.config, self.memory_format = step, config, memory_format
        self.freezing = Freezing(step.network, config, steps_per_epoch)
        self.optimizer = build_optimizer(step.network, config)
        self.guard = FiniteGuard(step.network, self.optimizer, step.device)
        self.scaler = torch.amp.GradScaler(step.device.type, enabled=step.precision == "fp16")
        self._draws = any(isinstance(module, nn.Dropout) for module in step.network.modules())

    def __call__(self, number: int, parts: Sequence[Batch], rate: float) -> dict[str, Tensor]:
        """Update number `number` (from 0) with the batch's parts; gives the losses, and `gradient_norm`.

        Nothing here waits for the device.
        """
        set_learning_rate(self.optimizer, rate)
        if self._draws:  # so that a resumed run drops the same
            torch.manual_seed(int(np.random.default_rng([self.config.seed, DROPOUT, number]).integers(2**63)))
        self.freezing.apply(number)
        self.guard.begin()
        seen = number * self.config.batch
        total: dict[str, Tensor] = {}
        for part in parts:
            seen += len(part)
            for name, value in self._backward(part, seen).items():
                total[name] = total[name] + value if name in total else value
        self.freezing.finish(number)
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.step.network.parameters(), self.config.clip_grad)
        loss = torch.stack(list(total.values())).sum()
        self.guard.update(number, loss, norm, overflow_is_normal=self.scaler.is_enabled())
        if self.scaler.is_enabled():
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return {**total, "gradient_norm": norm}

    def state(self) -> dict[str, Any]:
        """All that going on needs beside the weights: what the optimiser remembers, by the names of parameters."""
        names: dict[Tensor, str] = {p: name for name, p in self.step.network.named_parameters()}
        memory = {names[parameter]: dict(values) for parameter, values in self.optimizer.state.items()}
        return {"optimizer": self.config.optimizer, "memory": memory, "scaler": self.scaler.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the `state` of an earlier run; rates, decay and momentum are those of this run's config.

        Of weights that it has nothing of the memory begins anew. Raises `ValueError` and `KeyError` for the state of
        another optimiser or network.
        """
        if state["optimizer"] != self.config.optimizer:
            raise ValueError("the state of another optimiser")
        parameters = dict(self.step.network.named_parameters())
        for name, memory in state["memory"].items():
            own = parameters[name]
            self.optimizer.state[own] = {key: _as_memory(value, own) for key, value in memory.items()}
        self.scaler.load_state_dict(dict(state["scaler"]))

    def _backward(self, part: Batch, seen: int) -> dict[str, Tensor]:
        batch = part.to(self.step.device)
        images = batch.normalised().contiguous(memory_format=self.memory_format)
        with _explain_single_values():
            losses = self.step(batch, images, seen)
        self.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
        return {name: value.detach() for name, value in losses.items()}


@contextmanager
def _explain_single_values() -> Iterator[None]:
    """Make a `ConfigError` of what torch says where a batch norm has one value of each channel, and so no variance."""
    try:
        yield
    except ValueError as error:
        if SINGLE_VALUE not in str(error):
            raise
        raise ConfigError(
            "train.batch: of one such small image at a time a batch norm sees one value of each channel; take "
            "larger images or parts (train.batch, train.accumulate), or another model.norm"
        ) from error


def _as_memory(value: Tensor, parameter: Tensor) -> Tensor:
    """What an optimiser remembers of a parameter, on its device; fused kernels need the weights' own memory format."""
    if value.dim() == 0 and parameter.dim() != 0:  # a number of steps
        return value.to(parameter.device, copy=True)
    if value.shape != parameter.shape:
        raise ValueError("the state of another network")
    return torch.empty_like(parameter).copy_(value)
