"""Turn the options about weights, network input and device into arguments of `Detector.load` and its like."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from yolo9k.cli.console import track
from yolo9k.cli.options import EngineName, InferencePrecision

if TYPE_CHECKING:
    from yolo9k.inference.classifier import ImageClassifier
    from yolo9k.inference.detector import Detector


def load_arguments(
    *,
    cfg: Path | None,
    names: Path | None,
    tree: Path | None,
    data: Path | None,
    strict: bool,
    size: str,
    device: str,
    engine: EngineName,
    precision: InferencePrecision,
) -> dict[str, Any]:
    """Return the keyword arguments. Raises `ConfigError` if `size` is neither N nor WIDTHxHEIGHT."""
    from yolo9k.config import parse_size

    arguments: dict[str, Any] = {
        "size_wh": parse_size(size) if size else None,
        "device": device,
        "engine": engine.value,
        "precision": precision.value,
        "track": track,
    }
    if cfg or names or tree or data or strict:
        from yolo9k.pretrained import DarknetFiles  # imports torch, which exported files do not need

        arguments["files"] = DarknetFiles(cfg, names, tree, data, strict)
    return arguments


def describe_engine(model: "Detector | ImageClassifier") -> dict[str, Any]:
    """Return what runs a network, for JSON."""
    engine = model.engine
    return {"engine": engine.name, "precision": engine.precision, "size_wh": list(model.size_wh)}


def say_engine(console: Console, model: "Detector | ImageClassifier") -> None:
    """Print what has run a network."""
    facts = describe_engine(model)
    w, h = facts["size_wh"]
    console.print(f"network: {facts['engine']}, {facts['precision']}, {w}x{h}", style="dim")
