"""`scripts/ablation`: the path from YOLO to YOLOv2, step by step."""

from pathlib import Path
from typing import Annotated

import typer

from yolo9k.cli.console import err, out, table, track, write_json
from yolo9k.cli.outputs import check_outputs

JSON = "ablation.json"


def ablation(
    dataset: Annotated[str, typer.Option(help="A name of `yolo9k data list`, a data set config, or a folder.")],
    folder: Annotated[Path, typer.Option("--out", help="All runs, the table and the plot go here.")] = Path("ablation"),
    size: Annotated[
        int, typer.Option(help="Side of the images, where the configs have 416; all lengths follow.")
    ] = 416,
    seeds: Annotated[int, typer.Option(min=1, help="How often each row is trained.")] = 3,
    only: Annotated[
        list[str] | None, typer.Option(help="A row of the path, by name or number; repeat it for more.")
    ] = None,
    classifier: Annotated[
        str, typer.Option(help="The classifier that rows 1 and 2 start from, trained at 224; random weights without.")
    ] = "",
    classifier_448: Annotated[
        str, typer.Option("--classifier-448", help="The one that all later rows start from; without it, no row 3.")
    ] = "",
    split: Annotated[str, typer.Option(help="The split to score; test if there is one, else val.")] = "",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Any config key, for all rows: KEY=VALUE; repeat it for more.")
    ] = None,
) -> None:
    """Train every step from YOLO to YOLOv2 on a data set (configs/ablation), and put the scores beside the paper's.

    What is finished in --out is not done again: after Ctrl-C the same command goes on. Table, JSON and plot are
    written after every run.

    Example: scripts/ablation --dataset voc --classifier runs/darknet19 --classifier-448 runs/darknet19-448
    Example: scripts/ablation --dataset cells.yaml --size 224 --set model.width=0.5 --set train.epochs=30
    """
    from studies.ablation import Ablation, Settings, rows_named, split_to_score
    from studies.ablation_report import table_rows, to_dict, write_report
    from yolo9k.cli.screen import Screen
    from yolo9k.datasets.autodetect import open_dataset

    check_outputs(folders={"--out": folder})
    rows, source = rows_named(only or []), open_dataset(dataset, track)
    settings = Settings(source, split_to_score(source, split), size, tuple(overrides or ()), classifier, classifier_448)
    path = Ablation(folder, settings, rows, seeds)
    for row in rows:
        if row not in path.rows:
            err.print(f"{row.name} is left out: without --classifier-448 it is the row before it", markup=False)
    total = seeds * len(path.rows)
    for number, (row, seed) in enumerate(path.jobs(), start=1):
        err.print(f"\n{number}/{total} {row.name}, seed {seed}: {row.adds}", markup=False)
        with Screen() as screen:
            score = path.run(row, seed, screen, track)
        err.print(
            score.diverged or f"{settings.split}: mAP50 {score.map50:.4f}, recall {score.recall:.3f}", markup=False
        )
        write_json(str(folder / JSON), to_dict(path))
        written = write_report(path)
    listing = table(f"The path to YOLOv2 on {source.name}", *table_rows(path))
    listing.columns[1].justify = "left"
    out.print(listing)
    out.print(f"written: {', '.join(str(name) for name in (*written, folder / JSON))}", markup=False)
