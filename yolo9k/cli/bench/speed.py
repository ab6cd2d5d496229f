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
    """Training with real pictures against the bare network on one batch in memory, in turn, and the loss's share.

    Example: yolo9k bench train --dataset voc --config voc.yaml --set train.batch=8
    """
    from yolo9k.bench.training import measure
    from yolo9k.config import load_config
    from yolo9k.datasets.make import open_dataset

    check_outputs(files={"--json": json})
    loaded = load_config(config, overrides or [])
    data = loaded.data.model_copy(update={"dataset": open_dataset(dataset, track)})
    speed = measure(loaded.model_copy(update={"data": data}), steps=steps, rounds=rounds, track=track)
    rows = [
        ("bare network, pictures/s", speed.bare),
        ("training, pictures/s", speed.training),
        ("training over bare", speed.ratio),
        ("loss, share of a bare step", speed.loss_share),
    ]
    speaker(json).print(table(f"{speed.device}, {speed.precision}, {speed.size}", ["", ""], rows))
    if json:
        write_json(json, vars(speed))
