"""`yolo9k train`: the short forms of config keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yolo9k.cli.console import err, out, table, track
from yolo9k.cli.files import CfgOption, StrictOption, TreeOption
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import ConfigError

if TYPE_CHECKING:
    from yolo9k.config import Override
    from yolo9k.training.trial import Trial

RUNS = Path("runs")


def train(
    config: Annotated[
        str,
        typer.Option(
            help="A config file, a name of `yolo9k config list`, or a Darknet cfg (NAME.cfg); the defaults if left out."
        ),
    ] = "",
    dataset: Annotated[
        str,
        typer.Option(
            help="A name of `yolo9k data list`, a data set config, or a folder of pictures with boxes. "
            "Short for data.dataset."
        ),
    ] = "",
    resume: Annotated[Path | None, typer.Option(help="Go on with this run folder exactly where it stopped.")] = None,
    weights: Annotated[
        str,
        typer.Option(
            help="Start from a run, a checkpoint, a Darknet file or a name of `yolo9k weights list`: what fits."
        ),
    ] = "",
    cfg: CfgOption = None,
    tree: TreeOption = None,
    strict: StrictOption = False,
    name: Annotated[
        str,
        typer.Option(help="Name of the run folder (-2, -3, ... is added to one that is taken); else CONFIG-DATASET."),
    ] = "",
    runs: Annotated[Path, typer.Option(help="The folder of all run folders.")] = RUNS,
    epochs: Annotated[float | None, typer.Option(help="Passes over the pictures. Short for train.epochs.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates, instead of epochs. Short for train.steps.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures of an update. Short for train.batch.")] = None,
    size: Annotated[
        str,
        typer.Option(help="One size for training and evaluation, N or WIDTHxHEIGHT. Short for data.size, data.sizes."),
    ] = "",
    lr: Annotated[float | None, typer.Option(help="Learning rate. Short for train.lr.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps. Short for train.device.")] = "",
    precision: Annotated[str, typer.Option(help="auto, float32, bf16, fp16. Short for train.precision.")] = "",
    seed: Annotated[int | None, typer.Option(help="Seed of all that is random. Short for train.seed.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that read pictures, 0 for none. Short for data.workers.")
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after so many epochs without a better score. Short for train.patience."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Any key of `yolo9k config show`: KEY=VALUE; repeat it for more.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Build all, run one step at the largest size, and say what a run takes."),
    ] = False,
) -> None:
    """Train a detector.

    Writes the folder runs/NAME: the whole config, metrics, plots, checkpoints/best.pt and last.pt.
    Ctrl-C saves, and --resume goes on. Anchors are clustered from the boxes unless the config names some.

    Example: yolo9k train --config voc.yaml --batch 32 --size 416
    Example: yolo9k train --config small.yaml --dataset my-pictures/ --name cells
    Example: yolo9k train --config voc.yaml --weights darknet19_448.conv.23
    Example: yolo9k train --config yolov2-voc.cfg --dataset voc --batch 64
    Example: yolo9k train --resume runs/cells
    """
    short = {
        "train.epochs": epochs, "train.steps": steps, "train.batch": batch, "train.lr": lr,
        "train.device": device or None, "train.precision": precision or None, "train.seed": seed,
        "data.workers": workers, "train.patience": patience,
    }  # fmt: skip
    if resume is not None:
        starts_anew = bool(config or dataset or weights or cfg or tree or strict or name or runs != RUNS or dry_run)
        _resume(resume, _changes(short, size, overrides or []), starts_anew)
        return
    from yolo9k.cli.screen import Screen
    from yolo9k.pretrained import DarknetFiles
    from yolo9k.training import loop
    from yolo9k.training.run_folder import new_run_folder

    if Path(name).name != name or name in (".", ".."):
        raise ConfigError(f"--name {name}: is the name of a folder inside --runs, without any path")
    check_outputs(folders={"--runs": runs})
    changes = _changes(short, size, overrides or [])
    loaded = _with_dataset(_load(config, changes, strict), dataset)
    source: dict[str, Any] = {"weights": weights or None, "files": DarknetFiles(cfg, tree=tree, strict=strict)}
    if dry_run:
        from yolo9k.training.trial import try_out

        _print_trial(try_out(loaded, **source, track=track))
        return
    with new_run_folder(runs, name or _run_name(config, loaded)) as folder, Screen() as screen:
        loop.train(loaded, folder, **source, watcher=screen, track=track)


def _load(config: str, changes: "list[str | Override]", strict: bool) -> Any:
    """The config of that name, or what a Darknet cfg says of training."""
    from yolo9k.config import load_config, with_overrides

    if not config.endswith(".cfg"):
        return load_config(config or None, changes)
    from yolo9k.darknet.cfg import read_cfg
    from yolo9k.darknet.recipe import config_of

    cfg = read_cfg(config, strict=strict)
    loaded = with_overrides(config_of(cfg), changes)
    for warning in cfg.warnings:
        err.print(f"warning: {warning}", markup=False)
    if loaded.train.batch == 1:
        err.print(f"warning: {config}: batch=1 is for testing; Darknet's networks were trained with 64 (--batch 64)")
    return loaded


def _changes(short: Mapping[str, Any], size: str, overrides: list[str]) -> "list[str | Override]":
    """Options as changes of the config; the length that is given replaces the config's, whichever way that counted."""
    from yolo9k.config import Override

    given = {key: value for key, value in short.items() if value is not None}
    changes = [Override(key, value, f"--{key.rpartition('.')[2]} {value}") for key, value in given.items()]
    for length, other in (("epochs", "steps"), ("steps", "epochs")):
        if f"train.{length}" in given and f"train.{other}" not in given:
            changes.append(Override(f"train.{other}", None, f"--{length}"))
    if size:
        changes += [Override(key, value, f"--size {size}") for key, value in (("data.size", size), ("data.sizes", []))]
    return [*changes, *overrides]


def _with_dataset(config: Any, dataset: str) -> Any:
    from yolo9k.datasets.make import open_dataset

    source = dataset or config.data.dataset
    if not isinstance(source, str):  # written out in the config
        return config
    if not source:
        raise ConfigError("data.dataset: is missing; name a data set with --dataset (a name, a config or a folder)")
    data = config.data.model_copy(update={"dataset": open_dataset(source, track)})
    return config.model_copy(update={"data": data})


def _run_name(config: str, loaded: Any) -> str:
    parts = [Path(config).stem if config else loaded.model.name, loaded.data.dataset.name]
    return "-".join(dict.fromkeys(part for part in parts if part))


def _resume(folder: Path, changes: "list[str | Override]", starts_anew: bool) -> None:
    from yolo9k.cli.screen import Screen
    from yolo9k.training import loop

    if starts_anew:
        raise ConfigError(
            "--resume goes on with a run as it was: leave out --config, --dataset, --weights, --cfg, --name, --runs, "
            "--dry-run"
        )
    if folder.is_file():
        raise ConfigError(f"--resume {folder}: takes a run folder; --weights starts a new run from a file")
    with Screen() as screen:
        loop.resume(folder, overrides=changes, watcher=screen, track=track)


def _print_trial(trial: "Trial") -> None:
    for note in trial.notes:
        err.print(note, markup=False)
    rows = [
        ("parameters", f"{trial.parameters:,}"),
        (
            "operations of a picture",
            f"{trial.operations / 1e9:.3g} billion at {trial.size_wh[0]}x{trial.size_wh[1]}",
        ),
        ("device, numbers", f"{trial.device}, {trial.precision}"),
        ("one step of this batch", f"{trial.step_seconds:.2f} s ({trial.images_per_second:.1f} pictures/s)"),
        (
            "memory",
            "unknown" if trial.memory_bytes is None else f"{trial.memory_bytes / 2**30:.2f} GiB{trial.memory_note}",
        ),
        ("steps", f"{trial.total_steps:,} ({trial.epochs:.1f} epochs)"),
        ("estimated time", f"{_duration(trial.estimated_seconds)} without evaluation"),
    ]
    out.print(table("Dry run at the largest size; nothing was written", ["", ""], rows))


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
