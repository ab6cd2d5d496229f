"""`yolo9k bench train`: how near training comes to the bare network."""

from typing import Annotated

import typer

from yolo9k.cli.console import speaker, table, track, write_json
from yolo9k.cli.outputs import check_outputs


def train_speed(
    dataset: Annotated[str, typer.Option(help="A data set: a name, a config or a folder.")],
    config: Annotated[str, typer.Option(help="The config whose model and batch are measured.")] = "small.yaml",
    steps: Annotated[int, typer.Option(min=2, help="Steps of each measurement.")] = 10,
    rounds: Annotated[int, typer.Option(min=1, help="How often the two are measured in turn.")] = 3,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Any config key: KEY=VALUE.")] = None,
    json: Annotated[str, typer.Option(help="Write the numbers to this file; - is standard output.")] = "",
) -> None:
    """Training with real images against the bare network on one batch in memory, in turn, and the loss's share.

    Example: yolo9k bench train --dataset voc --config voc.yaml --set train.batch=8
    """
    from yolo9k.bench.training_speed import measure
    from yolo9k.config import load_config
    from yolo9k.datasets.autodetect import open_dataset
    from yolo9k.resolve import with_dataset

    check_outputs(files={"--json": json})
    loaded = with_dataset(load_config(config, overrides or []), open_dataset(dataset, track))
    speed = measure(loaded, steps=steps, rounds=rounds, track=track)
    rows = [
        ("bare network, images/s", speed.bare),
        ("training, images/s", speed.training),
        ("training over bare", speed.ratio),
        ("loss, share of a bare step", speed.loss_share),
    ]
    speaker(json).print(table(f"{speed.device}, {speed.precision}, {speed.size}", ["", ""], rows))
    if json:
        write_json(json, vars(speed))
