"""`yolo9k classify train`: train an image classifier."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from yolo9k.cli import options as opt
from yolo9k.cli.training import NEW_RUN_ONLY, TrainingOptions, run_training
from yolo9k.errors import ConfigError

if TYPE_CHECKING:
    from yolo9k.config import ClassifierConfig


def train(
    config: opt.ConfigOption = "",
    dataset: opt.ClassifierDatasetOption = "",
    labels: opt.LabelTreeOption = "",
    resume: opt.ResumeOption = None,
    auto_resume: opt.AutoResumeOption = False,
    replay: opt.ReplayOption = None,
    weights: opt.InitialWeightsOption = "",
    cfg: opt.CfgOption = None,
    tree: opt.TreeOption = None,
    strict: opt.StrictOption = False,
    name: opt.NameOption = "",
    runs: opt.RunsOption = opt.RUNS,
    epochs: opt.EpochsOption = None,
    steps: opt.StepsOption = None,
    batch: opt.BatchOption = None,
    size: opt.ClassifierSizeOption = "",
    lr: opt.LrOption = None,
    device: opt.TrainingDeviceOption = "",
    devices: opt.DevicesOption = "",
    max_restarts: opt.MaxRestartsOption = None,
    precision: opt.PrecisionOption = "",
    seed: opt.SeedOption = None,
    workers: opt.WorkersOption = None,
    max_pixels: opt.MaxPixelsOption = None,
    patience: opt.PatienceOption = None,
    overrides: opt.OverridesOption = None,
    dry_run: opt.DryRunOption = False,
) -> None:
    """Train an image classifier, in the stages of its config.

    Writes the run folder runs/NAME: config, metrics, plots, checkpoints/best.pt,
    last.pt and, after the first of several stages, stage1.pt. To use it as the
    backbone of a detector: yolo9k train --weights runs/NAME. --epochs, --steps
    and --lr apply to stages without values of their own; --size trains a single
    stage.

    Example: yolo9k classify train --config darknet19-imagenet --dataset imagenet
    Example: yolo9k classify train --config small-classifier --dataset my-folders/ --name kinds
    Example: yolo9k classify train --config small-classifier --dataset my-folders/ --labels kinds.txt
    Example: yolo9k classify train --config darknet19.cfg --dataset imagenet --batch 128
    Example: yolo9k classify train --resume runs/kinds
    """
    options = TrainingOptions(**locals())  # first: the parameters are the only local names
    from yolo9k.config import ClassifierConfig
    from yolo9k.datasets.autodetect import open_image_dataset

    run_training(
        ClassifierConfig, options,
        open_dataset=open_image_dataset, cleared_by_size="stages", new_run_only=(*NEW_RUN_ONLY, "size"),
        adjust=partial(_adjust, options),
    )  # fmt: skip


def _adjust(options: TrainingOptions, config: "ClassifierConfig") -> "ClassifierConfig":
    """Return the config with `--labels` applied. Raises `ConfigError` for an option without effect."""
    _refuse_unused(config, {"epochs": options.epochs, "steps": options.steps, "lr": options.lr})
    return _with_labels(config, options.labels) if options.labels else config


def _refuse_unused(config: "ClassifierConfig", values: Mapping[str, float | None]) -> None:
    """Raise `ConfigError` for an option that every stage overrides."""
    for name, value in values.items():
        keys = ("epochs", "steps") if name in ("epochs", "steps") else (name,)
        overridden = [any(getattr(stage, key) is not None for key in keys) for stage in config.stages]
        if value is not None and overridden and all(overridden):
            raise ConfigError(
                f"--{name} {value}: has no effect, every stage of this config sets its own; use --size N for a single "
                "stage, or --set 'stages=[...]'"
            )


def _with_labels(config: "ClassifierConfig", tree: str) -> "ClassifierConfig":
    """Return the config with the nodes of a tree as the labels of its data set; other label settings stay."""
    from yolo9k.config import DatasetConfig, updated
    from yolo9k.config.datasets import TreeLabels

    assert isinstance(config.data.dataset, DatasetConfig)
    own = config.data.dataset.labels
    labels = updated(own, {"tree": tree}) if isinstance(own, TreeLabels) else TreeLabels(tree=tree)
    return updated(config, {"data.dataset.labels": labels})
