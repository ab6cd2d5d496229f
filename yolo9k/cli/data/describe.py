"""`yolo9k data make config`: detect the format of a folder and write its data set config."""

from pathlib import Path
from typing import TYPE_CHECKING

from yolo9k.cli import options as opt
from yolo9k.cli.console import out, track
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import ConfigError
from yolo9k.io import write_text

if TYPE_CHECKING:
    from yolo9k.config import DatasetConfig


def make_config(
    folder: opt.DescribedFolderArgument,
    output: opt.DatasetConfigOption = None,
    kind: opt.KindOption = None,
    holdout: opt.HoldoutOption = 0.2,
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Write a data set config for a folder: its annotation format and splits are detected.

    Without a val split, some training images (at least one) are held out as val.

    Example: yolo9k data make config ~/images/cells -o cells.yaml
    """
    from yolo9k.config.kinds import BOX_KINDS
    from yolo9k.datasets.autodetect import detect_dataset, to_yaml

    target = output or Path(f"{folder.resolve().name}.yaml")
    if target.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"-o {target}: the name of a config must end in .yaml, not {target.suffix or 'no suffix'!r}")
    check_outputs(files={"-o": target}, overwrite=overwrite)
    known = next((name for name in BOX_KINDS if name == kind), None)
    if kind is not None and known is None:
        raise ConfigError(f"--kind {kind}: must be one of {', '.join(BOX_KINDS)}")
    config = detect_dataset(folder, known, holdout, track)
    counts, errors = _count_splits(config)
    write_text(target, to_yaml(config, counts))
    _show_config(config, counts, errors, target)


def _count_splits(config: "DatasetConfig") -> tuple[dict[str, str], int]:
    """Return the contents of each split in words, and the number of annotation errors."""
    from yolo9k.datasets.load import read_annotations, split_names

    counts, errors = {}, 0
    for split in split_names(config):
        annotations = read_annotations(config, split, "skip", track)
        boxes = sum(len(record.boxes) for record in annotations.records)
        counts[split] = f"{_count(len(annotations.records), 'image')}, {_count(boxes, 'box')}"
        errors += len(annotations.errors)
    return counts, errors


def _count(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith(("x", "ss")) else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def _show_config(config: "DatasetConfig", counts: dict[str, str], errors: int, target: Path) -> None:
    from yolo9k.config.kinds import KINDS

    out.print(f"{config.root}: {KINDS[config.kind].description}")
    for split, text in counts.items():
        held_out = " (held out of train)" if split not in config.splits else ""
        out.print(f"  {split}: {text}{held_out}")
    if "val" not in counts:
        out.print("  no val split: training keeps the last weights; with a val split it keeps the best")
    out.print(f"  {_count(len(config.classes), 'class')}: {', '.join(config.classes)}")
    if errors:
        out.print(f"  {_count(errors, 'error')}: see yolo9k data check")
    out.print(f"wrote {target}")
    out.print(f"next: yolo9k data check {target}")
    out.print(f"      yolo9k train --config small.yaml --dataset {target}")
