"""Darknet's weights files: a header, then float32 of every convolution in order (Darknet `parser.c: load_weights`).

int32 major, minor, revision; `seen` as int64 from version 0.2 on, else int32. Then of each convolution its biases
and, where it has batch norm, scales, running means and variances, then the weights (out, in / groups, k, k). A file
may end after any layer: such *partial* files (`darknet19_448.conv.23`) are where a training starts.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from yolo9k.errors import MachineError, WeightsError
from yolo9k.fetch import HTML_STARTS
from yolo9k.models.norms import BatchNorm

VERSION = struct.Struct("<iii")
OLD_SEEN, NEW_SEEN = struct.Struct("<i"), struct.Struct("<q")
BYTES = 4  # of a float32
MAX_VERSION = 1_000_000  # Darknet itself gives numbers above 1000 a meaning


@dataclass(frozen=True)
class Header:
    """The start of a weights file. `seen`: images that the network was trained on."""

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0

    @property
    def has_long_seen(self) -> bool:
        """Whether `seen` is written with 64 bits."""
        return self.major * 10 + self.minor >= 2 and self.major < 1000 and self.minor < 1000

    @property
    def size(self) -> int:
        """Bytes of the header: 16, or 20 from version 0.2 on."""
        return VERSION.size + (NEW_SEEN if self.has_long_seen else OLD_SEEN).size

    def to_bytes(self) -> bytes:
        """As it is written. Raises `WeightsError` where `seen` is too large for an old version's 32 bits."""
        seen = NEW_SEEN if self.has_long_seen else OLD_SEEN
        try:
            return VERSION.pack(self.major, self.minor, self.revision) + seen.pack(self.seen)
        except struct.error as error:
            raise WeightsError(
                f"header: version {self.major}.{self.minor}.{self.revision} cannot hold seen {self.seen}"
            ) from error


@dataclass(frozen=True)
class Block:
    """One convolution as a weights file has it: its parts in the file's order."""

    name: str
    tensors: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return BYTES * sum(tensor.numel() for tensor in self.tensors)


@dataclass(frozen=True)
class Loaded:
    """What came out of a file: its header, and how many of the network's blocks it had."""

    header: Header
    blocks: int


def blocks(network: nn.Module) -> list[Block]:
    """The convolutions of a network in the order of a weights file, which is the order of its modules.

    A convolution takes in the batch norm that follows it inside the same parent. Raises `WeightsError` for what the
    format has no place for: other norms, and convolutions with neither norm nor bias.
    """
    modules = list(network.named_modules())  # a convolution has no children: its next sibling, if any, comes next
    following = [*modules[1:], ("", network)]
    return [
        _block(name, module, after if _are_siblings(name, after_name) else None)
        for (name, module), (after_name, after) in zip(modules, following, strict=True)
        if isinstance(module, nn.Conv2d)
    ]


def _are_siblings(name: str, other: str) -> bool:
    return name.rpartition(".")[0] == other.rpartition(".")[0]


def _block(name: str, conv: nn.Conv2d, norm: nn.Module | None) -> Block:
    if isinstance(norm, BatchNorm):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        first = (norm.bias, norm.weight, norm.running_mean, norm.running_var)
        return Block(name, (*first, conv.weight))
    if isinstance(norm, nn.GroupNorm):
        raise WeightsError(f"{name}: Darknet's weights have batch norm or none, and this model has group norm")
    if conv.bias is None:
        raise WeightsError(f"{name}: Darknet's weights have a norm or a bias behind every convolution; it has none")
    return Block(name, (conv.bias, conv.weight))


def read_weights(path: str | Path, wanted: Sequence[Block]) -> Loaded:
    """Fill the blocks from a file; one that ends between two blocks leaves the rest as they are.

    Raises `WeightsError` naming the first layer that does not fit and the bytes that are left, for a file that is
    missing, empty, a web page, cut off inside a layer, or longer than the network.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = _read_header(file, size, path)
            count = _count(wanted, size - header.size, path)
            for block in wanted[:count]:
                for tensor in block.tensors:
                    _fill(tensor, file, path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    return Loaded(header, count)


def read_header(path: str | Path) -> tuple[Header, int]:
    """The header of a file, and how many float32 follow it. Raises `WeightsError` for what is no weights file."""
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header = _read_header(file, size, path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    if (size - header.size) % BYTES:
        raise WeightsError(f"{path}: {size - header.size:,} bytes after the header are no whole number of float32")
    return header, (size - header.size) // BYTES


def write_weights(path: str | Path, network_blocks: Sequence[Block], header: Header) -> None:
    """Write a file: beside its place first, then renamed. Raises `MachineError` where it cannot be written."""
    path = Path(path)
    draft = path.with_name(path.name + ".part")
    start = header.to_bytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            file.write(start)
            for block in network_blocks:
                for tensor in block.tensors:
                    file.write(tensor.detach().float().cpu().contiguous().numpy().data)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):  # its folder may be what is missing
            draft.unlink()
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}") from error


def describe(wanted: Sequence[Block], floats: int) -> Iterator[tuple[Block, str]]:
    """Each block with what a file of so many numbers holds of it: whole, missing, or how much."""
    left = floats * BYTES
    for block in wanted:
        if left >= block.size:
            yield block, "whole"
        elif left > 0:
            yield block, f"{left:,} of {block.size:,} bytes"
        else:
            yield block, "missing"
        left = max(left - block.size, 0)


def _read_header(file: BinaryIO, size: int, path: Path) -> Header:
    start = file.read(64)
    if start.lstrip().lower().startswith(HTML_STARTS):
        raise WeightsError(f"{path}: a web page, not weights; fetch it again (yolo9k weights download)")
    if start[:2] == b"PK":
        raise WeightsError(f"{path}: a PyTorch or zip file, not Darknet's weights")
    if size < VERSION.size + OLD_SEEN.size:
        raise WeightsError(f"{path}: {size} bytes; a weights file begins with a header of 16 or 20 bytes")
    major, minor, revision = VERSION.unpack_from(start)
    header = Header(major, minor, revision)
    if not all(0 <= part <= MAX_VERSION for part in (major, minor, revision)):
        raise WeightsError(f"{path}: neither a checkpoint nor a weights file of Darknet")
    if size < header.size:
        raise WeightsError(f"{path}: {size} bytes; the header of this version has {header.size}")
    seen = (NEW_SEEN if header.has_long_seen else OLD_SEEN).unpack_from(start, VERSION.size)[0]
    file.seek(header.size)
    return replace(header, seen=seen)


def _count(wanted: Sequence[Block], size: int, path: Path) -> int:
    """How many blocks `size` bytes hold. Raises `WeightsError` where they end inside one or are left over."""
    left = size
    for number, block in enumerate(wanted):
        if not left and number:
            return number
        if left < block.size:
            after = f"after {number} layers that fit, " if number else ""
            raise WeightsError(
                f"{path}: {after}{block.name} does not fit: it needs {block.size:,} bytes, {left:,} are left"
            )
        left -= block.size
    if left:
        raise WeightsError(
            f"{path}: {left:,} bytes are left after the last of {len(wanted)} layers; is it the right cfg?"
        )
    return len(wanted)


def _fill(tensor: Tensor, file: BinaryIO, path: Path) -> None:
    """Read straight into the tensor's own memory where it is plain, else by way of a copy."""
    plain = tensor.is_contiguous() and tensor.device.type == "cpu" and tensor.dtype == torch.float32
    target = tensor.detach() if plain else torch.empty(tensor.shape)
    view = target.numpy().reshape(-1).view("uint8").data
    if file.readinto(view) != len(view):  # type: ignore[attr-defined]
        raise WeightsError(f"{path}: became shorter while it was read")
    if not plain:
        with torch.no_grad():
            tensor.copy_(target)
