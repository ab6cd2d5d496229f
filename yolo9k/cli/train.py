"""`yolo9k train`: train a detector."""

from yolo9k.cli.console import track
from yolo9k.cli.options import (
    RUNS,
    BatchOption,
    CfgOption,
    ConfigOption,
    DryRunOption,
    EpochsOption,
    InitialWeightsOption,
    LrOption,
    NameOption,
    OverridesOption,
    PatienceOption,
    PrecisionOption,
    ResumeOption,
    RunsOption,
    SeedOption,
    StepsOption,
    StrictOption,
    TrainingDatasetOption,
    TrainingDeviceOption,
    TrainingSizeOption,
    TreeOption,
    WorkersOption,
)
from yolo9k.cli.training import TrainingOptions, run_training


def train(
    config: ConfigOption = "",
    dataset: TrainingDatasetOption = "",
    resume: ResumeOption = None,
    weights: InitialWeightsOption = "",
    cfg: CfgOption = None,
    tree: TreeOption = None,
    strict: StrictOption = False,
    name: NameOption = "",
    runs: RunsOption = RUNS,
    epochs: EpochsOption = None,
    steps: StepsOption = None,
    batch: BatchOption = None,
    size: TrainingSizeOption = "",
    lr: LrOption = None,
    device: TrainingDeviceOption = "",
    precision: PrecisionOption = "",
    seed: SeedOption = None,
    workers: WorkersOption = None,
    patience: PatienceOption = None,
    overrides: OverridesOption = None,
    dry_run: DryRunOption = False,
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
    """
    options = TrainingOptions(**locals())  # first: the parameters are the only local names
    from yolo9k.config import Config
    from yolo9k.datasets.autodetect import open_dataset

    run_training(Config, options, open_dataset=lambda source: open_dataset(source, track), cleared_by_size="data.sizes")
