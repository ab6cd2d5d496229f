"""`yolo9k train`: the short forms of config keys."""

from typing import Annotated

import typer

from yolo9k.cli import training
from yolo9k.cli.console import track
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
            help="A name of `yolo9k data list`, a data set config, or a folder of images with boxes. "
            "Short for data.dataset."
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
        str,
        typer.Option(help="One size for training and evaluation, N or WIDTHxHEIGHT. Short for data.size, data.sizes."),
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
    """Train a detector.

    Writes the folder runs/NAME: the whole config, metrics, plots, checkpoints/best.pt and last.pt.
    Ctrl-C saves, and --resume goes on. Anchors are clustered from the boxes unless the config names some.

    Example: yolo9k train --config voc.yaml --batch 32 --size 416
    Example: yolo9k train --config small.yaml --dataset my-images/ --name cells
    Example: yolo9k train --config voc.yaml --weights darknet19_448.conv.23
    Example: yolo9k train --config yolov2-voc.cfg --dataset voc --batch 64
    Example: yolo9k train --resume runs/cells
    """
    from yolo9k.config import Config

    short = {
        "train.epochs": epochs, "train.steps": steps, "train.batch": batch, "train.lr": lr,
        "train.device": device or None, "train.precision": precision or None, "train.seed": seed,
        "data.workers": workers, "train.patience": patience,
    }  # fmt: skip
    changes = training.changes(short, {"data.size": size, "data.sizes": []} if size else {}, size, overrides or [])
    if resume is not None:
        starts_anew = bool(config or dataset or weights or cfg or tree or strict or name or runs != RUNS or dry_run)
        training.go_on(resume, Config, changes, starts_anew)
        return
    from yolo9k.datasets.autodetect import open_dataset
    from yolo9k.pretrained import DarknetFiles

    training.check_place(name, runs)
    loaded = training.load(Config, config, changes, strict)
    loaded = training.with_dataset(loaded, dataset, lambda source: open_dataset(source, track))
    files = DarknetFiles(cfg, tree=tree, strict=strict)
    place = runs, name or training.run_name(config, loaded)
    training.start(loaded, place, weights=weights or None, files=files, dry_run=dry_run)
