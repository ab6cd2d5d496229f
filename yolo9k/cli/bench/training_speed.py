"""`yolo9k bench train`: training speed, compared with the bare network."""

from yolo9k.cli import options as opt
from yolo9k.cli.console import speaker, table, track, write_json
from yolo9k.cli.outputs import check_outputs


def train_speed(
    dataset: opt.DatasetOption,
    config: opt.BenchConfigOption = "small.yaml",
    steps: opt.SpeedStepsOption = 10,
    rounds: opt.BenchRoundsOption = 3,
    overrides: opt.OverridesOption = None,
    json: opt.JsonOption = "",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Measure training on real images against the bare network on a batch in memory, and the fraction of the loss.

    Example: yolo9k bench train --dataset voc --config voc.yaml --set train.batch=8
    """
    from yolo9k.bench.training_speed import measure
    from yolo9k.config import load_config
    from yolo9k.datasets.autodetect import open_dataset
    from yolo9k.resolve import with_dataset

    check_outputs(files={"--json": json}, inputs=(dataset, config), overwrite=overwrite)
    loaded = with_dataset(load_config(config, overrides or []), open_dataset(dataset, track))
    speed = measure(loaded, steps=steps, rounds=rounds, track=track)
    rows = [
        ("bare network (images/s)", speed.bare),
        ("training (images/s)", speed.training),
        ("training speed / bare network speed", speed.ratio),
        ("loss, fraction of a bare step", speed.loss_ratio),
    ]
    speaker(json).print(table(f"{speed.device}, {speed.precision}, {speed.size}", ["", ""], rows))
    if json:
        write_json(json, vars(speed))
