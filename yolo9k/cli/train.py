"""`yolo9k train`: train a detector."""

from yolo9k.cli import options as opt
from yolo9k.cli.console import track
from yolo9k.cli.training import TrainingOptions, run_training


def train(
    config: opt.ConfigOption = "",
    dataset: opt.TrainingDatasetOption = "",
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
    size: opt.TrainingSizeOption = "",
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
    """Train a detector.

    Writes the run folder runs/NAME: config, metrics, plots, checkpoints/best.pt
    and last.pt. Ctrl-C saves a checkpoint; --resume continues from it. Anchors
    are clustered from the training boxes unless the config has some.

    Example: yolo9k train --config voc.yaml --batch 32 --size 416
    Example: yolo9k train --config small.yaml --dataset my-images/ --name cells
    Example: yolo9k train --config voc.yaml --weights darknet19_448.conv.23
    Example: yolo9k train --config yolov2-voc.cfg --dataset voc --batch 64
    Example: yolo9k train --resume runs/cells
    Example: yolo9k train --replay runs/cells/diverged-step30.pt
    """
    options = TrainingOptions(**locals())  # first: the parameters are the only local names
    from yolo9k.config import Config
    from yolo9k.datasets.autodetect import open_dataset

    run_training(Config, options, open_dataset=lambda source: open_dataset(source, track), cleared_by_size="data.sizes")
