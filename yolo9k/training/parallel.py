"""`ParallelStep`: a training step shared by several processes, each with its part of the images (torch's DDP)."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from yolo9k import processes
from yolo9k.models.norms import BatchNorm
from yolo9k.samples import Batch


class Forward(Protocol):
    """Maps a micro-batch to its losses."""

    def __call__(self, batch: Batch, images: Tensor, seen: int) -> dict[str, Tensor]:
        """See `TrainingStep.forward`."""


class ParallelStep:
    """Runs a training step in every process of the group, and makes their results one.

    After the last backward pass of a step the gradients are those of the whole batch, in every process; `combine` does
    the same for losses and the running statistics of batch norms. So all processes make the same update, and their
    weights stay equal in every bit. Without a group, or with one process in it, nothing is exchanged.
    """

    def __init__(self, training_step: nn.Module, network: nn.Module, loss_names: Sequence[str]) -> None:
        self._training_step, self._network, self._loss_names = training_step, network, tuple(loss_names)
        self._wrapped: DistributedDataParallel | None = None
        self._trained: list[bool] = []  # which parameters are trained, as `_wrapped` knows them
        self.count = processes.count()

    def forward(self) -> Forward:
        """Return what to call for the micro-batches of a step. Call it after layers were frozen or unfrozen."""
        if not processes.is_joined():
            return self._training_step
        trained = [parameter.requires_grad for parameter in self._network.parameters()]
        if self._wrapped is None or trained != self._trained:
            self._wrapped = None  # first, so that it no longer receives gradients
            # Networks from a cfg may have layers that nothing reads: their parameters get no gradient.
            self._wrapped = DistributedDataParallel(
                self._training_step, find_unused_parameters=True, gradient_as_bucket_view=True
            )
            self._wrapped.broadcast_buffers = False  # `combine` keeps them equal
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")  # 1x1: same data
            self._trained = trained
        return self._wrapped

    def collecting(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Return the context of a micro-batch: gradients are exchanged in the backward pass of the last one."""
        wrapped = self._wrapped
        return nullcontext() if wrapped is None or is_last else wrapped.no_sync()

    def combine(self, losses: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """Return the sums of the losses over all processes, and which processes have a loss that is not finite.

        A loss may be missing in some processes. The running statistics of batch norms become their mean. Nothing here
        waits for a GPU.
        """
        own = torch.stack([*losses.values()])
        is_finite = own.isfinite().all()
        if self.count == 1:
            return dict(losses), ~is_finite[None]
        occurs = processes.maximum([name in losses for name in self._loss_names])
        names = [name for name, flag in zip(self._loss_names, occurs, strict=True) if flag]
        zero = own.new_zeros(())
        bad = own.new_zeros(self.count)
        bad[processes.rank()] = ~is_finite
        statistics = self._running_statistics()
        parts = [*(losses.get(name, zero)[None] for name in names), bad, *(each.flatten() for each in statistics)]
        flat = torch.cat(parts)
        with processes.explain_lost_process():
            torch.distributed.all_reduce(flat)
        sums = flat.split([len(part) for part in parts])
        for buffer, total in zip(statistics, sums[len(names) + 1 :], strict=True):
            buffer.copy_((total / self.count).view_as(buffer))
        return dict(zip(names, (total[0] for total in sums), strict=False)), sums[len(names)] > 0

    def _running_statistics(self) -> list[Tensor]:
        """Return the buffers that this step has changed, from the images of this process alone."""
        norms = (module for module in self._network.modules() if isinstance(module, BatchNorm) and module.training)
        pairs = ((norm.running_mean, norm.running_var) for norm in norms if not isinstance(norm, nn.SyncBatchNorm))
        return [buffer for pair in pairs for buffer in pair if buffer is not None]
