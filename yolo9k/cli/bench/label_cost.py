"""`yolo9k bench labels`: what many labels cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yolo9k.cli.console import speaker, table, track, write_json
from yolo9k.cli.outputs import check_outputs

if TYPE_CHECKING:
    from yolo9k.bench.label_cost import Comparison


def label_cost(
    tree: Annotated[Path, typer.Option(help="The label tree: a .tree file or a taxonomy.")],
    config: Annotated[str, typer.Option(help="The config whose model, size and batch are measured.")] = "voc.yaml",
    size: Annotated[str, typer.Option(help="Size of the images, N or WIDTHxHEIGHT.")] = "544",
    batch: Annotated[int, typer.Option(min=1, help="Images of a step.")] = 16,
    boxes_only: Annotated[bool, typer.Option(help="Every image has boxes, none a label of its own.")] = False,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each measurement.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="How often the ways are measured in turn.")] = 3,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Any config key: KEY=VALUE.")] = None,
    json: Annotated[str, typer.Option(help="Write the numbers to this file; - is standard output.")] = "",
) -> None:
    """What the labels of a tree cost beside 20 flat ones, with the rows that are needed and with all.

    Training mixes an image with boxes with four that have a label each.
    Detection descends the tree for 20 boxes of an image, evaluation scores all labels of all boxes.

    Example: yolo9k bench labels --tree 9k.tree
    """
    from yolo9k.bench.label_cost import compare
    from yolo9k.config import load_config
    from yolo9k.wordtree.taxonomy import open_tree

    check_outputs(files={"--json": json})
    anchors = "model.anchors=[[0.77,1.02],[1.98,4.27],[3.86,2.95]]"
    given = [anchors, f"data.size={size}", f"train.batch={batch}", *(overrides or [])]
    loaded, labels = load_config(config, given), open_tree(tree)
    found = compare(loaded, labels, steps=steps, rounds=rounds, boxes_only=boxes_only, track=track)
    title = f"{found.device}, {found.precision}, {found.setting}"
    speaker(json).print(table(title, ["", *found.costs], _cost_rows(found)))
    if json:
        write_json(json, _as_dict(found))


def _cost_rows(found: "Comparison") -> list[list[Any]]:
    """A row for each number: its value, and as a multiple of what flat labels cost."""
    units = {"step": "training step, s", "update": "update alone, s", "detection": "detection of an image, s",
             "evaluation": "evaluation of an image, s", "memory": "memory in training, MB"}  # fmt: skip
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
