"""`yolo9k bench`: measurements a user can repeat."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yolo9k.cli.ablation import ablation
from yolo9k.cli.console import err, out, table, track, write_json
from yolo9k.cli.norms import norms
from yolo9k.cli.outputs import check_outputs

if TYPE_CHECKING:
    from yolo9k.bench.labels import Comparison

app = typer.Typer(no_args_is_help=True, help="Measure training and detection on this machine.")


app.command("ablation")(ablation)
app.command("norms")(norms)


@app.command("train")
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
    (err if json == "-" else out).print(table(f"{speed.device}, {speed.precision}, {speed.size}", ["", ""], rows))
    if json:
        write_json(json, vars(speed))


@app.command("labels")
def label_cost(
    tree: Annotated[Path, typer.Option(help="The label tree: a .tree file or a taxonomy.")],
    config: Annotated[str, typer.Option(help="The config whose model, size and batch are measured.")] = "voc.yaml",
    size: Annotated[str, typer.Option(help="Size of the pictures, N or WIDTHxHEIGHT.")] = "544",
    batch: Annotated[int, typer.Option(min=1, help="Pictures of a step.")] = 16,
    boxes_only: Annotated[bool, typer.Option(help="Every picture has boxes, none a label of its own.")] = False,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each measurement.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="How often the ways are measured in turn.")] = 3,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Any config key: KEY=VALUE.")] = None,
    json: Annotated[str, typer.Option(help="Write the numbers to this file; - is standard output.")] = "",
) -> None:
    """What the labels of a tree cost beside 20 flat ones, with the rows that are needed and with all.

    Training mixes a picture with boxes with four that have a label each.
    Detection descends the tree for 20 boxes of a picture, evaluation scores all labels of all boxes.

    Example: yolo9k bench labels --tree 9k.tree
    """
    from yolo9k.bench.labels import compare
    from yolo9k.config import load_config
    from yolo9k.wordtree.taxonomy import open_tree

    check_outputs(files={"--json": json})
    anchors = "model.anchors=[[0.77,1.02],[1.98,4.27],[3.86,2.95]]"
    given = [anchors, f"data.size={size}", f"train.batch={batch}", *(overrides or [])]
    loaded, labels = load_config(config, given), open_tree(tree)
    found = compare(loaded, labels, steps=steps, rounds=rounds, boxes_only=boxes_only, track=track)
    title = f"{found.device}, {found.precision}, {found.setting}"
    (err if json == "-" else out).print(table(title, ["", *found.costs], _cost_rows(found)))
    if json:
        write_json(json, _as_dict(found))


def _cost_rows(found: "Comparison") -> list[list[Any]]:
    """A row for each number: its value, and as a multiple of what flat labels cost."""
    units = {"step": "training step, s", "update": "update alone, s", "detection": "detection of a picture, s",
             "evaluation": "evaluation of a picture, s", "memory": "memory in training, MB"}  # fmt: skip
    rows: list[list[Any]] = [
        [what.replace("_", " "), *(f"{int(getattr(cost, what)):,}" for cost in found.costs.values())]
        for what in ("labels", "parameters")
    ]
    for what, text in units.items():
        cells = []
        for way, cost in found.costs.items():
            value = getattr(cost, what)
            shown = "-" if value is None else f"{value / 2**20:.0f}" if what == "memory" else f"{value:.3f}"
            cells.append(f"{shown} ({found.ratios[way][what]:.2f})" if what in found.ratios[way] else shown)
        rows.append([text, *cells])
    return rows


def _as_dict(found: "Comparison") -> dict[str, Any]:
    return {**vars(found), "costs": {way: vars(cost) for way, cost in found.costs.items()}}


@app.command("backbones")
def backbone_cost(
    size: Annotated[str, typer.Option(help="Size of the picture, N or WIDTHxHEIGHT.")] = "416",
    only: Annotated[list[str] | None, typer.Option(help="Only this backbone; may be given again.")] = None,
    runs: Annotated[int, typer.Option(min=1, help="Runs, of which the median is taken.")] = 5,
    json: Annotated[str, typer.Option(help="Write the numbers to this file; - is standard output.")] = "",
) -> None:
    """Parameters, operations and time on the CPU of a detector with each backbone: 20 labels, 5 anchors, one picture.

    Example: yolo9k bench backbones --only darknet19 --only resnet18 --size 320
    """
    import torch

    from yolo9k.bench.backbones import NAMES, compare
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
    (err if json == "-" else out).print(table(title, columns, rows))
    if json:
        write_json(json, {"size": size_wh, "threads": threads, "costs": [vars(cost) for cost in costs]})
