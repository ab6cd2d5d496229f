"""`scripts/norms`: what the size of a batch does to each norm."""

from pathlib import Path
from typing import Annotated

import typer

from yolo9k.cli.console import err, out, table, track, write_json
from yolo9k.cli.outputs import check_outputs

JSON = "norms.json"


def norms(
    dataset: Annotated[str, typer.Option(help="A name of `yolo9k data list`, a data set config, or a folder.")],
    folder: Annotated[Path, typer.Option("--out", help="All runs, the table and the plot go here.")] = Path("norms"),
    config: Annotated[str, typer.Option(help="The training; its rate is for its own batch and follows the others.")] = (
        "small.yaml"
    ),
    images: Annotated[int, typer.Option(min=1, help="So many images each training sees.")] = 8000,
    batches: Annotated[list[int] | None, typer.Option("--batch", min=1, help="Size of a batch [1, 2, 4, 16].")] = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", help="A kind of norm: batch, group, and frozen with --weights.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often each is trained.")] = 3,
    weights: Annotated[str, typer.Option(help="What they start from; its batch norms are what is frozen.")] = "",
    group_weights: Annotated[str, typer.Option(help="What group norm starts from, if not the same.")] = "",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="A config key, for all: KEY=VALUE; repeat it for more. Not kind, seed or length."),
    ] = None,
) -> None:
    """Train with each norm in batches of each size, all over the same number of images.

    What is finished in --out is not done again: after Ctrl-C the same command goes on. Table, JSON and plot are
    written after every run.

    Example: scripts/norms --dataset cells.yaml --weights runs/crops --set model.name=yolo9000
    """
    from studies.norms import BATCHES, KINDS, NormGrid, Settings, to_dict
    from studies.norms_report import METRICS, table_rows, write_report
    from yolo9k.cli.screen import Screen
    from yolo9k.datasets.autodetect import open_dataset

    check_outputs(folders={"--out": folder})
    source = open_dataset(dataset, track)
    settings = Settings(config, source, images, tuple(overrides or ()), weights, group_weights)
    grid = NormGrid(folder, settings, kinds or KINDS[: 3 if weights else 2], batches or BATCHES, seeds)
    for number, cell in enumerate(grid.cells, start=1):
        err.print(f"\n{number}/{len(grid.cells)} {cell.kind}, batches of {cell.batch}, seed {cell.seed}", markup=False)
        with Screen() as screen:
            score = grid.run(cell, screen, track)
        err.print(score.diverged or f"mAP50 {score.map50:.4f} mAP50-95 {score.map50_95:.4f}", markup=False)
        write_json(str(folder / JSON), to_dict(grid))
        written = write_report(grid)
    for metric, name in METRICS.items():
        title = f"{name} in percent on {source.name}, {images:,} images"
        out.print(table(title, *table_rows(grid, metric)))
    out.print(f"written: {', '.join(str(name) for name in (*written, folder / JSON))}", markup=False)
