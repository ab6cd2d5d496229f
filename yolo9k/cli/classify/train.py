"""`yolo9k classify train`: the short forms of a classifier's config keys."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yolo9k.cli import training
from yolo9k.cli.files import CfgOption, StrictOption, TreeOption
from yolo9k.cli.training import (
    RUNS,
    BatchOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    LrOption,
    NameOption,
    OverridesOption,
    PatienceOption,
    PrecisionOption,
    ResumeOption,
    RunsOption,
    SeedOption,
    StepsOption,
    WeightsOption,
    WorkersOption,
)  # fmt: skip
from yolo9k.errors import ConfigError

if TYPE_CHECKING:
    from yolo9k.config import ClassifierConfig


def train(
    config: Annotated[
        str,
        typer.Option(
            help="A classifier's config file, a name of `yolo9k config list`, or a Darknet cfg (NAME.cfg); "
            "the defaults if left out."
        ),
    ] = "",
    dataset: Annotated[
        str,
        typer.Option(
            help="A name of `yolo9k data list`, a data set config (kind folder or shards), or a folder of class "
            "folders or tar shards. Short for data.dataset."
        ),
    ] = "",
    labels: Annotated[
        str,
        typer.Option(
            help="A label tree (a .tree file or a taxonomy) whose nodes the classes are; flat labels if left out. "
            "Short for labels.tree of the data set."
        ),
    ] = "",
    resume: ResumeOption = None,
    weights: WeightsOption = "",
    cfg: CfgOption = None,
    tree: TreeOption = None,
    strict: StrictOption = False,
    name: NameOption = "",
    runs: RunsOption = RUNS,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    size: Annotated[
        str, typer.Option(help="One size for all, N or WIDTHxHEIGHT, and one stage. Short for data.size, stages.")
    ] = "",
    lr: LrOption = None,
    device: DeviceOption = "",
    precision: PrecisionOption = "",
    seed: SeedOption = None,
    workers: WorkersOption = None,
    patience: PatienceOption = None,
    overrides: OverridesOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Train a classifier of whole images, in the stages of its config.

    Writes the folder runs/NAME: the whole config, metrics, plots, checkpoints/best.pt, last.pt, and stage1.pt, the
    weights at the end of the first of several stages. A detector starts from it with yolo9k train --weights runs/NAME.
    --epochs, --steps and --lr are those of every stage that does not say its own; --size N makes one stage.

    Example: yolo9k classify train --config darknet19-imagenet --dataset imagenet
    Example: yolo9k classify train --config small-classifier --dataset my-folders/ --name kinds
    Example: yolo9k classify train --config small-classifier --dataset my-folders/ --labels kinds.txt
    Example: yolo9k classify train --config darknet19.cfg --dataset imagenet --batch 128
    Example: yolo9k classify train --resume runs/kinds
    """
    from yolo9k.config import ClassifierConfig

    short = {
        "train.epochs": epochs, "train.steps": steps, "train.batch": batch, "train.lr": lr,
        "train.device": device or None, "train.precision": precision or None, "train.seed": seed,
        "data.workers": workers, "train.patience": patience,
    }  # fmt: skip
    changes = training.changes(short, {"data.size": size, "stages": []} if size else {}, size, overrides or [])
    if resume is not None:
        given = bool(config or dataset or labels or weights or cfg or tree or strict or name or runs != RUNS or dry_run)
        training.go_on(resume, ClassifierConfig, changes, given or bool(size))
        return
    from yolo9k.datasets.autodetect import open_images
    from yolo9k.pretrained import DarknetFiles

    training.check_place(name, runs)
    loaded = training.with_dataset(training.load(ClassifierConfig, config, changes, strict), dataset, open_images)
    _refuse_idle(loaded, {"epochs": epochs, "steps": steps, "lr": lr})
    if labels:
        loaded = _with_labels(loaded, labels)
    files = DarknetFiles(cfg, tree=tree, strict=strict)
    place = runs, name or training.run_name(config, loaded)
    training.start(loaded, place, weights=weights or None, files=files, dry_run=dry_run)


def _refuse_idle(config: "ClassifierConfig", given: Mapping[str, Any]) -> None:
    """Raises `ConfigError` for an option that no stage would follow, since each says its own."""
    for name, value in given.items():
        keys = ("epochs", "steps") if name in ("epochs", "steps") else (name,)
        says_own = [any(getattr(stage, key) is not None for key in keys) for stage in config.stages]
        if value is not None and says_own and all(says_own):
            raise ConfigError(
                f"--{name} {value}: every stage of this config says its own; --size N makes one stage of it, "
                f"--set 'stages=[...]' others"
            )


def _with_labels(config: Any, tree: str) -> Any:
    """The config whose data set has the nodes of a tree as labels; what else it says of its labels stays."""
    from yolo9k.config import updated
    from yolo9k.config.datasets import TreeLabels

    own = config.data.dataset.labels
    labels = updated(own, {"tree": tree}) if isinstance(own, TreeLabels) else TreeLabels(tree=tree)
    return updated(config, {"data.dataset.labels": labels})
