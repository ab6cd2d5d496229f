"""Start, resume or dry-run a training: what `yolo9k train` and `yolo9k classify train` share."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from yolo9k import processes
from yolo9k.cli.console import err, out, table, track, warn
from yolo9k.cli.launching import MAX_RESTARTS, launch
from yolo9k.cli.options import RUNS
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import ConfigError, DivergedError, Yolo9kError

if TYPE_CHECKING:
    from yolo9k.config import ClassifierConfig, Config, Override
    from yolo9k.training.dry_run import DryRun

    Run = TypeVar("Run", Config, ClassifierConfig)

SHORT_FORMS: Mapping[str, str] = {  # option: config key
    "epochs": "train.epochs",
    "steps": "train.steps",
    "batch": "train.batch",
    "lr": "train.lr",
    "device": "train.device",
    "precision": "train.precision",
    "seed": "train.seed",
    "workers": "data.workers",
    "patience": "train.patience",
}
NEW_RUN_ONLY = (
    "config",
    "dataset",
    "labels",
    "weights",
    "cfg",
    "tree",
    "strict",
    "name",
    "runs",
    "dry_run",
    "auto_resume",
)
WITH_REPLAY = ("replay", "device", "precision", "max_pixels")  # options


@dataclass(frozen=True)
class TrainingOptions:
    """Values of the options of a training command; `labels`: of classifiers only; `max_pixels`: already in force."""

    config: str
    dataset: str
    resume: Path | None
    auto_resume: bool
    weights: str
    cfg: Path | None
    tree: Path | None
    strict: bool
    name: str
    runs: Path
    epochs: float | None
    steps: int | None
    batch: int | None
    size: str
    lr: float | None
    device: str
    devices: str
    max_restarts: int | None
    precision: str
    seed: int | None
    workers: int | None
    patience: int | None
    overrides: list[str] | None
    dry_run: bool
    labels: str = ""
    max_pixels: int | None = None
    replay: Path | None = None


def run_training(
    kind: "type[Run]",
    options: TrainingOptions,
    *,
    open_dataset: Callable[[str], Any],
    cleared_by_size: str,
    new_run_only: tuple[str, ...] = NEW_RUN_ONLY,
    adjust: "Callable[[Run], Run]" = lambda config: config,
) -> None:
    """Train a model of the `kind` of config that is given: a new run, a resumed one, a dry run, or one step again.

    `cleared_by_size`: the config key that `--size` resets; `new_run_only`: options that `--resume` refuses; `adjust`:
    last change of the config of a new run. Raises `ConfigError` for options that exclude each other, and the errors of
    `training.train`.
    """
    if options.replay is not None:
        _replay(options.replay, kind, options)
        return
    if options.devices and not processes.is_launched():
        restarts = MAX_RESTARTS if options.max_restarts is None else options.max_restarts
        raise SystemExit(launch(options.devices, options.device, restarts))
    if options.max_restarts is not None and not options.devices:
        raise ConfigError("--max-restarts: only with --devices")
    if restarts := processes.restarts():
        err.print(f"warning: a process was killed; restart {restarts}", style="yellow")
    overrides = _overrides(options, cleared_by_size)
    if options.resume is not None:
        given = [name for name in new_run_only if getattr(options, name) not in ("", None, False, RUNS)]
        processes.together(lambda: _refuse_with_resume(given))
        _resume(_path_to_resume(options.resume, restarts), kind, overrides)
        return
    processes.together(lambda: _check_name(options.name))
    check_outputs(folders={"--runs": options.runs})
    check_outputs(folders={"--name": options.runs / options.name})

    def read_config() -> "Run":
        return adjust(_with_dataset(_load_config(kind, options, overrides), options.dataset, open_dataset))

    config = processes.together(read_config)
    name = options.name or _default_name(options.config, config)
    folder, message = _folder_to_resume(options, name, restarts)
    if folder is not None:
        err.print(message.format(folder))
        _resume(folder, kind, overrides)
        return
    with _cfg_named(options.config):
        _start(config, name, options)


@contextmanager
def _cfg_named(name: str) -> Iterator[None]:
    """Name the cfg file in errors about `model.cfg`, the config key that holds its text."""
    try:
        yield
    except Yolo9kError as error:
        if not name.endswith(".cfg") or not str(error).startswith("model.cfg:"):
            raise
        raise type(error)(f"{name}:{str(error).removeprefix('model.cfg:')}") from error


def _overrides(options: TrainingOptions, cleared_by_size: str) -> "list[str | Override]":
    """Return short forms and `--set` as config overrides; `--epochs` clears `train.steps` and vice versa."""
    from yolo9k.config import Override

    values = {name: getattr(options, name) for name in SHORT_FORMS}
    given = {name: value for name, value in values.items() if value not in (None, "")}
    overrides = [Override(SHORT_FORMS[name], value, f"--{name} {value}") for name, value in given.items()]
    for length, other in (("epochs", "steps"), ("steps", "epochs")):
        if length in given and other not in given:
            overrides.append(Override(f"train.{other}", None, f"--{length}"))
    if options.size:
        sizes = {"data.size": options.size, cleared_by_size: []}
        overrides += [Override(key, value, f"--size {options.size}") for key, value in sizes.items()]
    return [*overrides, *(options.overrides or [])]


def _refuse_with_resume(names: list[str]) -> None:
    if names:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in names)
        raise ConfigError(f"--resume continues a run with its own settings: remove {options}")


def _replay(path: Path, kind: "type[Run]", options: TrainingOptions) -> None:
    """Repeat a step that failed and print what was not finite. Raises `DivergedError` if it fails again."""
    from yolo9k.training.replay import replay

    others = {name: value for name, value in vars(options).items() if name not in WITH_REPLAY}
    if given := [name for name, value in others.items() if value not in ("", None, False, [], RUNS)]:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"--replay repeats a step with its own settings: remove {names}")
    found = replay(path, kind=kind, device=options.device, precision=options.precision)
    for line in found.lines():
        out.print(line)
    if not found.is_finite:
        raise DivergedError(f"{path}: step {found.step} is not finite again")
    out.print("every loss and gradient is finite: the failure was not repeated")


def _folder_to_resume(options: TrainingOptions, name: str, restarts: int) -> tuple[Path | None, str]:
    """Return the run that `--auto-resume`, or a launcher that starts the command again, goes on with, and its message.

    `None`: a new run begins.
    """
    from yolo9k.training.output.checkpoints import is_resumable
    from yolo9k.training.output.run_folder import folder_of_launch

    def find() -> tuple[Path | None, str]:
        if options.auto_resume and is_resumable(options.runs / name):
            return options.runs / name, "--auto-resume: {} exists and is resumed"
        folder = folder_of_launch(options.runs) if restarts else None
        if folder is not None and is_resumable(folder):
            return folder, "restart: {} is resumed"
        return None, ""

    return processes.from_main(find)


def _path_to_resume(path: Path, restarts: int) -> Path:
    """Return what `--resume` names; its run folder if the run went on from there before a process was killed."""
    from yolo9k.training.output.run_folder import folder_of_launch, run_folder_of

    def find() -> Path:
        folder = run_folder_of(path)
        return folder if restarts and folder_of_launch(folder.parent) == folder else path

    return processes.from_main(find)


def _resume(path: Path, kind: "type[Run]", overrides: "list[str | Override]") -> None:
    from yolo9k.cli.screen import Screen
    from yolo9k.training import loop

    with Screen() as screen:
        loop.resume(path, overrides=overrides, kind=kind, callback=screen, track=track)


def _check_name(name: str) -> None:
    """Raise `ConfigError` if the name of a run is a path or unprintable."""
    if Path(name).name != name or name in (".", ".."):
        raise ConfigError(f"--name {name}: must be the name of a folder inside --runs, not a path")
    if name and (not name.isprintable() or name.isspace()):
        raise ConfigError(f"--name {name!r}: must be printable")


def _load_config(kind: "type[Run]", options: TrainingOptions, overrides: "list[str | Override]") -> "Run":
    """Load the config from YAML, or convert a Darknet cfg. Raises `ConfigError` for a config of the other kind."""
    from yolo9k.config import with_overrides
    from yolo9k.config.loading import load_of, refuse_other

    name = options.config
    if not name.endswith(".cfg"):
        return load_of(kind, name or None, overrides)
    from yolo9k.darknet.cfg import Cfg, read_cfg
    from yolo9k.darknet.label_files import unread_files
    from yolo9k.darknet.network import DarknetNetwork
    from yolo9k.darknet.recipe import config_from_cfg

    cfg: Cfg = read_cfg(name, strict=options.strict)
    warnings: list[str] = [*cfg.warnings, *unread_files(cfg)]
    converted = config_from_cfg(cfg)
    refuse_other(kind, converted.task, name)
    assert isinstance(converted, kind)
    config = with_overrides(converted, overrides)
    network = DarknetNetwork(cfg)  # here its errors name the file: the config has the text alone
    for size in config.all_sizes:
        network.check_size(size)
    for warning in warnings:
        warn(warning)
    if config.train.batch == 1:
        warn(f"{name}: batch=1 is meant for testing; Darknet trained its networks with --batch 64")
    return config


def _with_dataset(config: "Run", dataset: str, open_dataset: Callable[[str], Any]) -> "Run":
    """Return the config with `dataset`, or with its own one, opened. Raises `ConfigError` if there is none."""
    from yolo9k import resolve

    source = dataset or config.data.dataset
    if not isinstance(source, str):  # the config contains the data set
        return config
    if not source:
        raise ConfigError("data.dataset: is missing; choose a data set with --dataset (a name, a config or a folder)")
    return resolve.with_dataset(config, open_dataset(source))


def _start(config: "Config | ClassifierConfig", name: str, options: TrainingOptions) -> None:
    from yolo9k.cli.screen import Screen
    from yolo9k.pretrained import DarknetFiles
    from yolo9k.training import loop
    from yolo9k.training.output.run_folder import new_run_folder

    weights = options.weights or None
    files = DarknetFiles(options.cfg, tree=options.tree, strict=options.strict)
    if options.dry_run:
        from yolo9k.training.dry_run import dry_run_report

        _print_dry_run(dry_run_report(config, weights=weights, files=files, track=track))
        return
    with ExitStack() as stack:
        new = new_run_folder(options.runs, name, reuse=options.auto_resume)
        folder = processes.from_main(lambda: stack.enter_context(new))
        screen = stack.enter_context(Screen())
        loop.train(config, folder, weights=weights, files=files, callback=screen, track=track)


def _default_name(config_name: str, config: Any) -> str:
    """Return CONFIG-DATASET, without the parts that have no name."""
    parts = [Path(config_name).stem if config_name else config.model.name, config.data.dataset.name]
    return "-".join(dict.fromkeys(part for part in parts if part))


def _print_dry_run(report: "DryRun") -> None:
    for note in report.notes:
        err.print(note)
    width, height = report.size_wh
    memory, seconds = report.memory_bytes, report.estimated_seconds
    duration = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
    rows = [
        ("parameters", f"{report.parameters:,}"),
        ("operations per image", f"{report.operations / 1e9:.3g} billion at {width}x{height}"),
        ("device, precision", f"{report.device}, {report.precision}"),
        ("time per step", f"{report.step_seconds:.2f} s ({report.images_per_second:.1f} images/s)"),
        ("peak memory", "unknown" if memory is None else f"{memory / 2**30:.2f} GiB{report.memory_note}"),
        ("steps", f"{report.total_steps:,} ({report.epochs:.1f} epochs)"),
        ("estimated time", f"{duration} without evaluation"),
    ]
    out.print(table("Dry run at the largest size; nothing was written", ["", ""], rows))
