"""Estimate the memory that a network needs without allocating it: a pass over tensors without content is counted."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

IMAGES = 2  # of the pass: batch norm refuses a single image whose map has one cell


def image_bytes(
    network: nn.Module,
    size_wh: tuple[int, int],
    *,
    forward: Callable[[Tensor], Tensor] | None = None,
    training: bool = False,
) -> int:
    """Return the bytes that one image of `size_wh` occupies in a network in float32: the least, without the weights.

    `forward`: the part of the network that runs (default: all of it); `training`: with what the backward pass needs,
    for the parameters that require gradients. The image has the module's `input_channels`, 3 if it has no such
    attribute.
    """
    module = _Forward(network, forward or network.forward)
    was_training = network.training
    try:
        with torch.set_grad_enabled(training), FakeTensorMode(), _LiveBytes() as counter:
            tensors = {
                name: torch.empty(value.shape, dtype=value.dtype, requires_grad=training and value.requires_grad)
                for name, value in [*module.named_parameters(), *module.named_buffers()]
            }
            images = torch.empty(IMAGES, getattr(network, "input_channels", 3), size_wh[1], size_wh[0])
            weights = counter.live
            functional_call(module.train(training), tensors, images)
    finally:
        network.train(was_training)
    return (counter.peak - weights) // IMAGES


class _Forward(nn.Module):
    """A part of a network as a module: `functional_call` replaces the parameters for `forward` alone."""

    def __init__(self, network: nn.Module, forward: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.run = network, forward

    def forward(self, images: Tensor) -> Tensor:
        return self.run(images)


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of all results that are alive; `peak`: the most so far."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.counted: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()  # tensors may share one

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and (storage := value.untyped_storage()) not in self.counted:
                self.counted.add(storage)
                self.live += storage.nbytes()
                weakref.finalize(storage, self._release, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def _release(self, size: int) -> None:
        self.live -= size
