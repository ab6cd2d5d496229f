"""`yolo9k data make config`: a folder looked at, and described as a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yolo9k.cli.console import out, print_plain, track
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import ConfigError

if TYPE_CHECKING:
    from yolo9k.config import DatasetConfig


def make_config(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with images and their boxes.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; NAME.yaml here if left out.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="voc, coco or yolo; recognised if not given.")] = None,
    holdout: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Share of train that becomes val, where there is none."),
    ] = 0.2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Look at a folder, recognise its kind and splits, and write a data set config.

    Where there is no val split, some of the training images become one, at least one of them.

    Example: yolo9k data make config ~/images/cells -o cells.yaml
    """
    from yolo9k.datasets.autodetect import FINDERS, recognise, to_yaml

    target = output or Path(f"{folder.resolve().name}.yaml")
    check_outputs(files={"-o": target})
    if target.exists() and not overwrite:
        raise ConfigError(f"{target}: is there already; name another with -o, or give --overwrite")
    if kind not in (None, *FINDERS):
        raise ConfigError(f"--kind {kind}: allowed are {', '.join(FINDERS)}")
    config = recognise(folder, kind, holdout, track)
    counts, errors = _count_splits(config)
    _write_text(target, to_yaml(config, counts))
    _show_config(config, counts, errors, target)


def _write_text(path: Path, text: str) -> None:
    from yolo9k.errors import MachineError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}") from error


def _count_splits(config: "DatasetConfig") -> tuple[dict[str, str], int]:
    """What each split holds, in words, and how many errors the annotations have."""
    from yolo9k.datasets.load import read_annotations, split_names

    counts, errors = {}, 0
    for split in split_names(config):
        read = read_annotations(config, split, "skip", track)
        boxes = sum(len(record.boxes) for record in read.records)
        counts[split] = f"{_number(len(read.records), 'image')}, {_number(boxes, 'box')}"
        errors += len(read.errors)
    return counts, errors


def _number(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("x") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def _show_config(config: "DatasetConfig", counts: dict[str, str], errors: int, target: Path) -> None:
    from yolo9k.datasets.autodetect import KIND_WORDS

    print_plain(out, f"{config.root}: {KIND_WORDS[config.kind]}")
    for split, text in counts.items():
        held_out = " (held out of train)" if split not in config.splits else ""
        print_plain(out, f"  {split}: {text}{held_out}")
    if "val" not in counts:
        print_plain(
            out, "  no val split: training keeps its newest weights; name one in the file, and it keeps the best"
        )
    print_plain(out, f"  {_number(len(config.classes), 'label')}: {', '.join(config.classes)}")
    if errors:
        print_plain(out, f"  {_number(errors, 'issue')}: see `yolo9k data check`")
    print_plain(out, f"wrote {target}")
    print_plain(out, f"Next: yolo9k data check {target}")
    print_plain(out, f"      yolo9k train --config small.yaml --dataset {target}")
