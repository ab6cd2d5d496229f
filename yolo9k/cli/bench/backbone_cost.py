"""`yolo9k bench backbones`: parameters, operations and time of each backbone."""

from yolo9k.cli import options as opt
from yolo9k.cli.console import speaker, table, track, write_json
from yolo9k.cli.outputs import check_outputs


def backbone_cost(
    size: opt.BenchSizeOption = "416",
    only: opt.BackboneOption = None,
    runs: opt.BenchRunsOption = 5,
    json: opt.JsonOption = "",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Measure parameters, operations and CPU time per image of a detector (20 classes, 5 anchors) by backbone.

    Example: yolo9k bench backbones --only darknet19 --only resnet18 --size 320
    """
    import torch

    from yolo9k.bench.backbone_cost import NAMES, compare
    from yolo9k.config import parse_size

    check_outputs(files={"--json": json}, overwrite=overwrite)
    size_wh = parse_size(size)
    costs = compare(size_wh, only or NAMES, runs=runs, track=track)
    columns = ["backbone", "params (M)", "backbone (M)", "operations (G)", "backbone (G)", "time (ms)"]
    rows = [
        [
            cost.backbone,
            *(f"{count / 1e6:.2f}" for count in (cost.parameters, cost.backbone_parameters)),
            *(f"{count / 1e9:.2f}" for count in (cost.operations, cost.backbone_operations)),
            f"{cost.seconds * 1e3:.0f}",
        ]
        for cost in costs
    ]
    threads = torch.get_num_threads()
    title = f"cpu, float32, {size_wh[0]}x{size_wh[1]}, threads: {threads}"
    speaker(json).print(table(title, columns, rows))
    if json:
        write_json(json, {"size": size_wh, "threads": threads, "costs": [vars(cost) for cost in costs]})
