"""Inspect a Darknet weights file or a checkpoint: facts, and one row per layer."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from yolo9k import checkpoint
from yolo9k.config.schema import ModelConfig
from yolo9k.darknet.catalogue import ENTRIES
from yolo9k.darknet.cfg import read_cfg
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.darknet.weights import BYTES, conv_layers, describe, read_header
from yolo9k.models.layers import layer_names
from yolo9k.wordtree.tree import describe as describe_labels

PART_BYTES = 1 << 24
Facts = dict[str, Any]


class LayerRow(NamedTuple):
    """One convolution with its norm; `status`: "whole", "missing", or how much of it the file holds."""

    layer: str
    shape: str
    values: int
    status: str


def inspect_weights(path: Path, cfg: Path | None = None, *, strict: bool = False) -> tuple[Facts, list[LayerRow]]:
    """Inspect a Darknet weights file, and its layers if the cfg is given (`strict`: cfg warnings are errors).

    Raises `WeightsError` if a file is not what it should be.
    """
    header, floats = read_header(path)
    size = header.size + BYTES * floats
    official = [name for name, entry in ENTRIES.items() if size in entry.weights.remote.sizes]
    facts: Facts = {
        "file": str(path),
        "bytes": size,
        "version": f"{header.major}.{header.minor}.{header.revision}",
        "seen": header.seen,
        "header bytes": header.size,
        "values": floats,
        "size matches": ", ".join(official) or "no official file",
    }
    if bad := _count_not_finite(path, header.size):
        facts["NaN or infinite values"] = bad
    if cfg is None:
        return facts, []
    read = read_cfg(cfg, strict=strict)
    read.log_warnings()
    read.check_channels()
    network = DarknetNetwork(read)
    layers = conv_layers(network)
    rows = [
        LayerRow(block.name, "x".join(map(str, block.tensors[-1].shape)), block.size // BYTES, status)
        for block, status in describe(layers, floats)
    ]
    leftover = max(BYTES * floats - sum(block.size for block in layers), 0)
    facts["layers"] = f"{sum(row.status == 'whole' for row in rows)} of {len(rows)} whole"
    facts["leftover bytes"] = leftover
    facts["fits the cfg"] = verdict = _verdict(rows, leftover)
    if verdict.startswith("yes"):
        network.read(path)
        checkpoint.log_weight_warnings(network.state_dict(), path)
    return facts, rows


def _count_not_finite(path: Path, start: int) -> int:
    """Count the float32 values after byte `start` that are NaN or infinite, a part at a time."""
    count = 0
    with path.open("rb") as file:
        file.seek(start)
        while part := file.read(PART_BYTES):
            count += int((~np.isfinite(np.frombuffer(part, "<f4"))).sum())
    return count


def _verdict(rows: list[LayerRow], leftover: int) -> str:
    """Return whether the file fits its cfg, in words."""
    broken = next((row for row in rows if row.status not in ("whole", "missing")), None)
    if broken is not None:
        return f"no, it ends inside {broken.layer}"
    if leftover:
        return "no, it is longer than the network"
    if rows[0].status == "missing":
        return "no, it holds no layer"
    return "yes" if rows[-1].status == "whole" else "yes, as a partial file"


def inspect_checkpoint(path: Path) -> tuple[Facts, list[LayerRow]]:
    """Inspect a checkpoint. Raises `WeightsError` if the file is not one."""
    stored = checkpoint.load(path)
    model, data = stored.config.model, stored.config.data
    facts: Facts = {
        "file": str(path),
        "task": stored.config.task,
        "model": model.name,
        "labels": f"{len(stored.labels)}: {describe_labels(stored.labels.names)}",
        "size": f"{data.size[0]}x{data.size[1]}",
        "steps trained": (stored.training or {}).get("next_step", "not stored (a finished model)"),
    }
    if model.backbone:
        facts["backbone"] = f"{model.backbone} (torchvision)"
    if isinstance(model, ModelConfig) and model.anchors != "auto":
        facts["anchors in cells"] = "; ".join(f"{w:g},{h:g}" for w, h in model.anchors)
    if stored.darknet is not None:
        facts["from Darknet"] = ", ".join(f"{name} {value}" for name, value in stored.darknet.items())
    values: Counter[str] = Counter()
    shapes: dict[str, str] = {}
    for name, layer in layer_names(stored.weights).items():
        value, part = stored.weights[name], name.rpartition(".")[2]
        values[layer] += value.numel() if part != "num_batches_tracked" else 0
        if part == "weight" and value.dim() > 1:
            shapes[layer] = "x".join(map(str, value.shape))
    facts["values"] = sum(values.values())
    return facts, [LayerRow(layer, shapes.get(layer, ""), values[layer], "whole") for layer in values]
