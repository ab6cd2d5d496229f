"""`yolo9k bench labels`: time and memory of thousands of labels, compared with twenty."""

from typing import TYPE_CHECKING, Any

from yolo9k.cli import options as opt
from yolo9k.cli.console import speaker, table, track, write_json
from yolo9k.cli.outputs import check_outputs

if TYPE_CHECKING:
    from yolo9k.bench.label_cost import Comparison

ANCHORS = "model.anchors=[[0.77,1.02],[1.98,4.27],[3.86,2.95]]"  # YOLO9000 has three


def label_cost(
    tree: opt.BenchTreeOption,
    config: opt.BenchConfigOption = "voc.yaml",
    size: opt.BenchSizeOption = "544",
    batch: opt.BenchBatchOption = 16,
    boxes_only: opt.BoxesOnlyOption = False,
    steps: opt.BenchStepsOption = 3,
    rounds: opt.BenchRoundsOption = 3,
    overrides: opt.OverridesOption = None,
    json: opt.JsonOption = "",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Measure the cost of a label tree compared with 20 flat labels, with sparse and with dense class outputs.

    A training batch has four images with image-level labels per image with boxes.
    Detection descends the tree for 20 boxes per image, evaluation computes all
    labels of all boxes.

    Example: yolo9k bench labels --tree 9k.tree
    """
    from yolo9k.bench.label_cost import compare
    from yolo9k.config import load_config
    from yolo9k.wordtree.taxonomy import open_tree

    check_outputs(files={"--json": json}, inputs=(tree, config), overwrite=overwrite)
    loaded = load_config(config, [ANCHORS, f"data.size={size}", f"train.batch={batch}", *(overrides or [])])
    comparison = compare(loaded, open_tree(tree), steps=steps, rounds=rounds, boxes_only=boxes_only, track=track)
    title = f"{comparison.device}, {comparison.precision}, {comparison.setting}"
    speaker(json).print(table(title, ["", *comparison.costs], _rows(comparison)))
    if json:
        write_json(
            json, {**vars(comparison), "costs": {variant: vars(cost) for variant, cost in comparison.costs.items()}}
        )


def _rows(comparison: "Comparison") -> list[list[Any]]:
    """Return a row per measurement: its value, and in brackets its ratio to that of flat labels."""
    titles = {
        "training_step": "training step (s)", "optimizer_step": "optimiser step alone (s)",
        "detection": "detection per image (s)", "evaluation": "evaluation per image (s)",
        "memory": "training memory (MiB)",
    }  # fmt: skip
    rows: list[list[Any]] = [
        [name, *(f"{int(getattr(cost, name)):,}" for cost in comparison.costs.values())]
        for name in ("labels", "parameters")
    ]
    for name, title in titles.items():
        cells = []
        for variant, cost in comparison.costs.items():
            value, ratios = getattr(cost, name), comparison.ratios[variant]
            text = "-" if value is None else f"{value / 2**20:.0f}" if name == "memory" else f"{value:.3f}"
            cells.append(f"{text} ({ratios[name]:.2f})" if name in ratios else text)
        rows.append([title, *cells])
    return rows
