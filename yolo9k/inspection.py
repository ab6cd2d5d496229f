"""What a weights file or a checkpoint holds, as facts and one row for each layer."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from yolo9k import checkpoint
from yolo9k.config.schema import ModelConfig
from yolo9k.darknet.catalogue import ENTRIES
from yolo9k.darknet.cfg import read_cfg
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.darknet.weights import BYTES, blocks, describe, read_header
from yolo9k.models.layers import layer_names
from yolo9k.wordtree.tree import describe as describe_labels

Facts = dict[str, Any]


class LayerRow(NamedTuple):
    """One convolution with its norm."""

    layer: str
    shape: str
    numbers: int
    holds: str


def inspect_weights(path: Path, cfg: Path | None = None, *, strict: bool = False) -> tuple[Facts, list[LayerRow]]:
    """A Darknet file; its layers where the cfg is given (`strict`: warnings about that are errors).

    Raises `WeightsError` for what is no such file or cfg.
    """
    header, floats = read_header(path)
    size = header.size + BYTES * floats
    facts: Facts = {
        "file": str(path),
        "bytes": size,
        "version": f"{header.major}.{header.minor}.{header.revision}",
        "seen": header.seen,
        "header bytes": header.size,
        "numbers": floats,
        "size of": ", ".join(name for name, e in ENTRIES.items() if size in e.weights.remote.sizes) or "no known file",
    }
    if cfg is None:
        return facts, []
    read = read_cfg(cfg, strict=strict)
    read.log_warnings()
    network = blocks(DarknetNetwork(read))
    rows = [
        LayerRow(block.name, "x".join(map(str, block.tensors[-1].shape)), block.size // BYTES, holds)
        for block, holds in describe(network, floats)
    ]
    leftover = max(BYTES * floats - sum(block.size for block in network), 0)
    facts["layers"] = f"{sum(row.holds == 'whole' for row in rows)} of {len(rows)} whole"
    facts["leftover bytes"] = leftover
    facts["fits the cfg"] = _verdict(rows, leftover)
    return facts, rows


def _verdict(rows: list[LayerRow], leftover: int) -> str:
    """Whether a file can be read with its cfg."""
    broken = next((row for row in rows if row.holds not in ("whole", "missing")), None)
    if broken is not None:
        return f"no, it ends inside {broken.layer}"
    if leftover:
        return "no, it is longer than the network"
    if rows[0].holds == "missing":
        return "no, it has no layer"
    return "yes" if rows[-1].holds == "whole" else "yes, as a partial file"


def inspect_checkpoint(path: Path) -> tuple[Facts, list[LayerRow]]:
    """A checkpoint. Raises `WeightsError` for what is none."""
    stored = checkpoint.load(path)
    model, data = stored.config.model, stored.config.data
    facts: Facts = {
        "file": str(path),
        "task": stored.config.task,
        "model": model.name,
        "labels": f"{len(stored.labels)}: {describe_labels(stored.labels.names)}",
        "size": f"{data.size[0]}x{data.size[1]}",
        "steps trained": (stored.training or {}).get("next_step", "a finished one"),
    }
    if model.backbone:
        facts["backbone"] = f"{model.backbone} of torchvision"
    if isinstance(model, ModelConfig) and model.anchors != "auto":
        facts["anchors in cells"] = "; ".join(f"{w:g},{h:g}" for w, h in model.anchors)
    if stored.darknet is not None:
        facts["from Darknet"] = ", ".join(f"{name} {value}" for name, value in stored.darknet.items())
    numbers: Counter[str] = Counter()
    shapes: dict[str, str] = {}
    for name, layer in layer_names(stored.weights).items():
        value, part = stored.weights[name], name.rpartition(".")[2]
        numbers[layer] += value.numel() if part != "num_batches_tracked" else 0
        if part == "weight" and value.dim() > 1:
            shapes[layer] = "x".join(map(str, value.shape))
    facts["numbers"] = sum(numbers.values())
    return facts, [LayerRow(layer, shapes.get(layer, ""), numbers[layer], "whole") for layer in numbers]
