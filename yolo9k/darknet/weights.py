"""Read and write Darknet's weights files (Darknet `parser.c: load_weights_upto, save_weights_upto`).

Header: int32 major, minor, revision; `seen` as int64 from version 0.2 on, before as int32. Then, as float32 per
convolution: biases; with batch norm also scales, running means and running variances; weights (out, in / groups, k, k).
A file that ends after any layer is a *partial* file (`darknet19_448.conv.23`), from which training can start.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from yolo9k.errors import WeightsError
from yolo9k.fetch import HTML_STARTS
from yolo9k.io import check_regular, replacing
from yolo9k.models.norms import BatchNorm

VERSION = struct.Struct("<iii")
OLD_SEEN, NEW_SEEN = struct.Struct("<i"), struct.Struct("<q")
BYTES = 4  # per float32
MAX_VERSION = 1_000_000  # Darknet gives numbers above 1000 a meaning


@dataclass(frozen=True)
class Header:
    """The header of a weights file. `seen`: number of images that the network was trained on."""

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0

    @property
    def has_long_seen(self) -> bool:
        """Whether `seen` is stored in 64 bits."""
        return self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000

    @property
    def size(self) -> int:
        """Bytes of the header: 16, or 20 from version 0.2 on."""
        return VERSION.size + (NEW_SEEN if self.has_long_seen else OLD_SEEN).size

    def to_bytes(self) -> bytes:
        """Return the header as in a file. Raises `WeightsError` if `seen` exceeds the 32 bits of an old version."""
        seen = NEW_SEEN if self.has_long_seen else OLD_SEEN
        try:
            return VERSION.pack(self.major, self.minor, self.revision) + seen.pack(self.seen)
        except struct.error as error:
            raise WeightsError(
                f"header: version {self.major}.{self.minor}.{self.revision} cannot hold seen {self.seen}"
            ) from error


@dataclass(frozen=True)
class ConvLayer:
    """A convolution with its norm: its tensors in the order of a weights file."""

    name: str
    tensors: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return BYTES * sum(tensor.numel() for tensor in self.tensors)


@dataclass(frozen=True)
class LoadResult:
    """The header of a loaded weights file, and how many of the network's convolutions it contained."""

    header: Header
    layer_count: int


def conv_layers(network: nn.Module) -> list[ConvLayer]:
    """List the convolutions of a network in the order of a weights file, which is the order of its modules.

    A convolution includes the batch norm that follows it in the same parent. Raises `WeightsError` for what the format
    cannot store: other norms, and convolutions with neither norm nor bias.
    """
    modules = list(network.named_modules())  # a convolution has no children, so its next sibling comes next
    following = [*modules[1:], ("", network)]
    return [
        _conv_layer(name, module, after if after_name.rpartition(".")[0] == name.rpartition(".")[0] else None)
        for (name, module), (after_name, after) in zip(modules, following, strict=True)
        if isinstance(module, nn.Conv2d)
    ]


def _conv_layer(name: str, conv: nn.Conv2d, norm: nn.Module | None) -> ConvLayer:
    if isinstance(norm, BatchNorm):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        return ConvLayer(name, (norm.bias, norm.weight, norm.running_mean, norm.running_var, conv.weight))
    if isinstance(norm, nn.GroupNorm):
        raise WeightsError(f"{name}: Darknet's weights have batch norm or none; this model has group norm")
    if conv.bias is None:
        raise WeightsError(
            f"{name}: Darknet's weights have a norm or a bias in every convolution; this one has neither"
        )
    return ConvLayer(name, (conv.bias, conv.weight))


def read_weights(path: str | Path, layers: Sequence[ConvLayer]) -> LoadResult:
    """Load the tensors of `layers` from a file; a partial file leaves the remaining layers unchanged.

    Raises `WeightsError` for a file that is missing, empty, an HTML page, truncated inside a layer or longer than the
    network; the message names the first layer that does not fit and the remaining bytes.
    """
    path = Path(path)
    check_regular(path, WeightsError.at)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = _read_header(file, size, path)
            layer_count = _count_layers(layers, size - header.size, path)
            for layer in layers[:layer_count]:
                for tensor in layer.tensors:
                    _read_tensor(tensor, file, path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    return LoadResult(header, layer_count)


def read_header(path: str | Path) -> tuple[Header, int]:
    """Read the header of a file and count the float32 values after it.

    Raises `WeightsError` if the file is not a weights file.
    """
    path = Path(path)
    check_regular(path, WeightsError.at)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = _read_header(file, size, path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    if (size - header.size) % BYTES:
        raise WeightsError(f"{path}: {size - header.size:,} bytes after the header; must be a multiple of {BYTES}")
    return header, (size - header.size) // BYTES


def write_weights(path: str | Path, layers: Sequence[ConvLayer], header: Header) -> None:
    """Write a weights file atomically. Raises `MachineError` if it cannot be written."""
    start = header.to_bytes()
    with replacing(Path(path)) as draft, draft.open("wb") as file:
        file.write(start)
        for layer in layers:
            for tensor in layer.tensors:
                file.write(tensor.detach().float().cpu().contiguous().numpy().data)


def describe(layers: Sequence[ConvLayer], floats: int) -> Iterator[tuple[ConvLayer, str]]:
    """Yield, for a file of `floats` values, each layer with "whole", "missing" or the bytes that the file contains."""
    remaining = floats * BYTES
    for layer in layers:
        if remaining >= layer.size:
            yield layer, "whole"
        elif remaining > 0:
            yield layer, f"{remaining:,} of {layer.size:,} bytes"
        else:
            yield layer, "missing"
        remaining = max(remaining - layer.size, 0)


def _read_header(file: BinaryIO, size: int, path: Path) -> Header:
    """Read the header of a file of `size` bytes and seek to its end."""
    start = file.read(64)
    if start.lstrip().lower().startswith(HTML_STARTS):
        raise WeightsError(f"{path}: an HTML page, not weights; download it again (yolo9k weights download)")
    if start[:2] == b"PK":
        raise WeightsError(f"{path}: a PyTorch or zip file, not Darknet weights")
    if not size:
        raise WeightsError(f"{path}: the file is empty")
    if size < VERSION.size + OLD_SEEN.size:
        raise WeightsError(f"{path}: {size} bytes; a weights file begins with a header of 16 or 20 bytes")
    major, minor, revision = VERSION.unpack_from(start)
    header = Header(major, minor, revision)
    if not all(0 <= part <= MAX_VERSION for part in (major, minor, revision)):
        raise WeightsError(f"{path}: neither a checkpoint nor a Darknet weights file")
    if size < header.size:
        raise WeightsError(f"{path}: {size} bytes; the header of this version has {header.size}")
    seen = (NEW_SEEN if header.has_long_seen else OLD_SEEN).unpack_from(start, VERSION.size)[0]
    file.seek(header.size)
    return replace(header, seen=seen)


def _count_layers(layers: Sequence[ConvLayer], size: int, path: Path) -> int:
    """Count the layers in `size` bytes. Raises `WeightsError` if the bytes end inside a layer or after the last."""
    remaining = size
    for index, layer in enumerate(layers):
        if not remaining and index:
            return index
        if remaining < layer.size:
            after = f"after {index} layers that fit, " if index else ""
            raise WeightsError(
                f"{path}: {after}{layer.name} does not fit: it requires {layer.size:,} bytes, {remaining:,} remain; "
                f"check that the cfg belongs to these weights"
            )
        remaining -= layer.size
    if remaining:
        raise WeightsError(
            f"{path}: {remaining:,} bytes remain after the last of {len(layers)} layers; "
            f"check that the cfg belongs to these weights"
        )
    return len(layers)


def _read_tensor(tensor: Tensor, file: BinaryIO, path: Path) -> None:
    """Read into the tensor's memory if it is contiguous float32 on the CPU, else through a copy."""
    direct = tensor.is_contiguous() and tensor.device.type == "cpu" and tensor.dtype == torch.float32
    target = tensor.detach() if direct else torch.empty(tensor.shape)
    view = target.numpy().reshape(-1).view("uint8").data
    if file.readinto(view) != len(view):  # type: ignore[attr-defined]
        raise WeightsError(f"{path}: became shorter while it was read")
    if not direct:
        with torch.no_grad():
            tensor.copy_(target)
