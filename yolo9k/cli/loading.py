"""Turn the options about weights, network input and device into arguments of `Detector.load` and its like."""

from pathlib import Path
from typing import Any

from yolo9k.cli.console import track


def load_arguments(
    *, cfg: Path | None, names: Path | None, tree: Path | None, data: Path | None, strict: bool, size: str, device: str
) -> dict[str, Any]:
    """Return the keyword arguments. Raises `ConfigError` if `size` is neither N nor WIDTHxHEIGHT."""
    from yolo9k.config import parse_size
    from yolo9k.pretrained import DarknetFiles

    return {
        "files": DarknetFiles(cfg, names, tree, data, strict),
        "size_wh": parse_size(size) if size else None,
        "device": device,
        "track": track,
    }
