"""`yolo9k bench backbones`: what each backbone costs."""

from typing import Annotated

import typer

from yolo9k.cli.console import speaker, table, track, write_json
from yolo9k.cli.outputs import check_outputs


def backbone_cost(
    size: Annotated[str, typer.Option(help="Size of the image, N or WIDTHxHEIGHT.")] = "416",
    only: Annotated[list[str] | None, typer.Option(help="Only this backbone; may be given again.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs, of which the median is taken.")] = 5,
    json: Annotated[str, typer.Option(help="Write the numbers to this file; - is standard output.")] = "",
) -> None:
    """Parameters, operations and time on the CPU of a detector with each backbone: 20 labels, 5 anchors, one image.

    Example: yolo9k bench backbones --only darknet19 --only resnet18 --size 320
    """
    import torch

    from yolo9k.bench.backbone_cost import NAMES, compare
    from yolo9k.config import parse_size

    check_outputs(files={"--json": json})
    size_wh = parse_size(size)
    costs = compare(size_wh, only or NAMES, runs=runs, track=track)
    columns = ["backbone", "params, M", "backbone's", "operations, G", "backbone's", "time, ms"]
    rows = [
        [
            cost.backbone,
            *(f"{number / 1e6:.2f}" for number in (cost.parameters, cost.backbone_parameters)),
            *(f"{number / 1e9:.2f}" for number in (cost.operations, cost.backbone_operations)),
            f"{cost.seconds * 1e3:.0f}",
        ]
        for cost in costs
    ]
    threads = torch.get_num_threads()
    title = f"cpu, float32, {size_wh[0]}x{size_wh[1]}, threads: {threads}"
    speaker(json).print(table(title, columns, rows))
    if json:
        write_json(json, {"size": size_wh, "threads": threads, "costs": [vars(cost) for cost in costs]})
