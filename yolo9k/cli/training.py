"""What the commands that train share: options, the config they make, starting a run and going on with it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from yolo9k.cli.console import err, out, table, track
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import ConfigError

if TYPE_CHECKING:
    from yolo9k.config import ClassifierConfig, Config, Override
    from yolo9k.pretrained import DarknetFiles
    from yolo9k.training.dry_run import DryRun

    Run = TypeVar("Run", Config, ClassifierConfig)

RUNS = Path("runs")

ResumeOption = Annotated[Path | None, typer.Option(help="Go on with this run folder exactly where it stopped.")]
WeightsOption = Annotated[
    str,
    typer.Option(help="Start from a run, a checkpoint, a Darknet file or a name of `yolo9k weights list`: what fits."),
]
NameOption = Annotated[
    str, typer.Option(help="Name of the run folder (-2, -3, ... is added to one that is taken); else CONFIG-DATASET.")
]
RunsOption = Annotated[Path, typer.Option(help="The folder of all run folders.")]
EpochsOption = Annotated[float | None, typer.Option(help="Passes over the images. Short for train.epochs.")]
StepsOption = Annotated[int | None, typer.Option(help="Updates, instead of epochs. Short for train.steps.")]
BatchOption = Annotated[int | None, typer.Option(help="Images of an update. Short for train.batch.")]
LrOption = Annotated[float | None, typer.Option(help="Learning rate. Short for train.lr.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps. Short for train.device.")]
PrecisionOption = Annotated[str, typer.Option(help="auto, float32, bf16, fp16. Short for train.precision.")]
SeedOption = Annotated[int | None, typer.Option(help="Seed of all that is random. Short for train.seed.")]
WorkersOption = Annotated[
    int | None, typer.Option(help="Processes that read images, 0 for none. Short for data.workers.")
]
PatienceOption = Annotated[
    int | None, typer.Option(help="Stop after so many epochs without a better score. Short for train.patience.")
]
OverridesOption = Annotated[
    list[str] | None, typer.Option("--set", help="Any key of `yolo9k config show`: KEY=VALUE; repeat it for more.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Build all, run one step at the largest size, and say what a run takes.")
]


def load(kind: "type[Run]", name: str, changes: "list[str | Override]", strict: bool) -> "Run":
    """The config of that name, or what a Darknet cfg says of training. Raises `ConfigError` for another kind."""
    from yolo9k.config import with_overrides
    from yolo9k.config.loading import load_of, refuse_other

    if not name.endswith(".cfg"):
        return load_of(kind, name or None, changes)
    from yolo9k.darknet.cfg import read_cfg
    from yolo9k.darknet.recipe import config_of

    cfg = read_cfg(name, strict=strict)
    of_cfg = config_of(cfg)
    refuse_other(kind, of_cfg.task, name)
    assert isinstance(of_cfg, kind)
    loaded = with_overrides(of_cfg, changes)
    for warning in cfg.warnings:
        err.print(f"warning: {warning}", markup=False)
    if loaded.train.batch == 1:
        err.print(f"warning: {name}: batch=1 is for testing; Darknet's networks were trained with 64 (--batch 64)")
    return loaded


def changes(
    short: Mapping[str, Any], sizes: Mapping[str, Any], size: str, overrides: list[str]
) -> "list[str | Override]":
    """Options as changes of the config; the length that is given replaces the config's, whichever way that counted.

    `short`: values of keys, where they were given; `sizes`: what `--size` means.
    """
    from yolo9k.config import Override

    given = {key: value for key, value in short.items() if value is not None}
    made = [Override(key, value, f"--{key.rpartition('.')[2]} {value}") for key, value in given.items()]
    for length, other in (("epochs", "steps"), ("steps", "epochs")):
        if f"train.{length}" in given and f"train.{other}" not in given:
            made.append(Override(f"train.{other}", None, f"--{length}"))
    made += [Override(key, value, f"--size {size}") for key, value in sizes.items()]
    return [*made, *overrides]


def with_dataset(config: "Run", dataset: str, opened: "Callable[[str], Any]") -> "Run":
    """The config with its data set, or the one that is named, `opened`. Raises `ConfigError` where there is none."""
    from yolo9k import resolve

    source = dataset or config.data.dataset
    if not isinstance(source, str):  # written out in the config
        return config
    if not source:
        raise ConfigError("data.dataset: is missing; name a data set with --dataset (a name, a config or a folder)")
    return resolve.with_dataset(config, opened(source))


def run_name(config: str, loaded: Any) -> str:
    """What a run is called that nobody named."""
    parts = [Path(config).stem if config else loaded.model.name, loaded.data.dataset.name]
    return "-".join(dict.fromkeys(part for part in parts if part))


def check_place(name: str, runs: Path) -> None:
    """Raises `ConfigError` for a name that is a path, `MachineError` for a folder that cannot be written."""
    if Path(name).name != name or name in (".", ".."):
        raise ConfigError(f"--name {name}: is the name of a folder inside --runs, without any path")
    check_outputs(folders={"--runs": runs})


def start(
    config: "Config | ClassifierConfig",
    place: tuple[Path, str],
    *,
    weights: str | None,
    files: "DarknetFiles",
    dry_run: bool,
) -> None:
    """Train in a new folder, `place`: the folder of all runs and a name; or try it out."""
    from yolo9k.cli.screen import Screen
    from yolo9k.training import loop
    from yolo9k.training.output.run_folder import new_run_folder

    if dry_run:
        from yolo9k.training.dry_run import dry_run_report

        _print_trial(dry_run_report(config, weights=weights, files=files, track=track))
        return
    with new_run_folder(*place) as folder, Screen() as screen:
        loop.train(config, folder, weights=weights, files=files, callback=screen, track=track)


def go_on(folder: Path, kind: "type[Run]", changes: "list[str | Override]", starts_anew: bool) -> None:
    """Go on with a run of that kind. Raises `ConfigError` where an option is about a new one (`starts_anew`)."""
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
        loop.resume(folder, overrides=changes, kind=kind, callback=screen, track=track)


def _print_trial(trial: "DryRun") -> None:
    for note in trial.notes:
        err.print(note, markup=False)
    rows = [
        ("parameters", f"{trial.parameters:,}"),
        (
            "operations of an image",
            f"{trial.operations / 1e9:.3g} billion at {trial.size_wh[0]}x{trial.size_wh[1]}",
        ),
        ("device, numbers", f"{trial.device}, {trial.precision}"),
        ("one step of this batch", f"{trial.step_seconds:.2f} s ({trial.images_per_second:.1f} images/s)"),
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
