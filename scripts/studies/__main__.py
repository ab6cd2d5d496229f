"""Run a study: `python -m studies ablation|norms`, or `scripts/ablation` and `scripts/norms`."""

from pathlib import Path
from typing import Annotated

import typer

from yolo9k.cli import EXIT_CODES, run
from yolo9k.cli.console import err, out, table, track, write_json
from yolo9k.cli.outputs import check_outputs

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Studies with many training runs: a table, JSON and a plot.",
)

DatasetOption = Annotated[str, typer.Option(help="Dataset: a name from `yolo9k data list`, a YAML file or a folder.")]
SeedsOption = Annotated[int, typer.Option(min=1, help="Number of seeds, each a training run.")]


@app.command(epilog=EXIT_CODES)
def ablation(
    dataset: DatasetOption,
    folder: Annotated[Path, typer.Option("--out", help="Folder for runs, table, JSON and plot.")] = Path("ablation"),
    size: Annotated[
        int, typer.Option(help="Image size that replaces the configs' 416; anchors and other sizes scale with it.")
    ] = 416,
    seeds: SeedsOption = 3,
    only: Annotated[
        list[str] | None, typer.Option(help="Row by name or number (default: all rows). Can be repeated.")
    ] = None,
    classifier: Annotated[
        str, typer.Option(help="Pretrained classifier at 224 pixels, for rows 1 and 2 (default: random weights).")
    ] = "",
    classifier_448: Annotated[
        str,
        typer.Option(
            "--classifier-448",
            help="Pretrained classifier at 448 pixels, for the rows from 3 on (default: --classifier, without row 3).",
        ),
    ] = "",
    split: Annotated[str, typer.Option(help="Split to evaluate (default: test if the dataset has it, else val).")] = "",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Config override for all rows, KEY=VALUE. Can be repeated.")
    ] = None,
) -> None:
    """Train each step from YOLO to YOLOv2 (configs/ablation) and compare the scores with the paper's.

    The table, JSON and plot are written after every run. Finished runs in --out are not repeated:
    after Ctrl-C, the same command continues.

    Example: scripts/ablation --dataset voc --classifier runs/darknet19 --classifier-448 runs/darknet19-448
    Example: scripts/ablation --dataset cells.yaml --size 224 --set model.width=0.5 --set train.epochs=30
    """
    from studies.ablation import Ablation, Settings, find_split, select_rows
    from studies.ablation_report import table_rows, to_dict, write_report
    from yolo9k.cli.screen import Screen
    from yolo9k.datasets.autodetect import open_dataset

    check_outputs(folders={"--out": folder})
    rows, source = select_rows(only or []), open_dataset(dataset, track)
    settings = Settings(source, find_split(source, split), size, tuple(overrides or ()), classifier, classifier_448)
    study = Ablation(folder, settings, rows, seeds)
    for row in rows:
        if row not in study.rows:
            err.print(f"{row.name} is skipped: without --classifier-448 it equals the row before")
    json_path, count = folder / "ablation.json", seeds * len(study.rows)
    for number, (row, seed) in enumerate(study.jobs(), start=1):
        err.print()
        err.print(f"{number}/{count} {row.name}, seed {seed}: {row.adds}")
        with Screen() as screen:
            score = study.run(row, seed, screen, track)
        err.print(score.diverged or f"{settings.split}: mAP50 {score.map50:.4f}, recall {score.recall:.3f}")
        write_json(str(json_path), to_dict(study))
        report_paths = write_report(study)
    listing = table(f"The path to YOLOv2 on {source.name}", *table_rows(study))
    listing.columns[1].justify = "left"
    out.print(listing)
    out.print(f"written: {', '.join(map(str, (*report_paths, json_path)))}")


@app.command(epilog=EXIT_CODES)
def norms(
    dataset: DatasetOption,
    folder: Annotated[Path, typer.Option("--out", help="Folder for runs, table, JSON and plot.")] = Path("norms"),
    config: Annotated[
        str, typer.Option(help="Training config; its learning rate is scaled from its batch size to each --batch.")
    ] = "small.yaml",
    images: Annotated[int, typer.Option(min=1, help="Training images per run.")] = 8000,
    batches: Annotated[
        list[int] | None, typer.Option("--batch", min=1, help="Batch size (default: 1, 2, 4, 16). Can be repeated.")
    ] = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--kind", help="Norm (default: batch, group, and frozen if --weights is given). Can be repeated."),
    ] = None,
    seeds: SeedsOption = 3,
    weights: Annotated[
        str, typer.Option(help="Pretrained weights with batch norm, required for frozen (default: random weights).")
    ] = "",
    group_weights: Annotated[
        str, typer.Option(help="Pretrained weights for group norm (default: --weights, converted).")
    ] = "",
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Config override for all runs, KEY=VALUE; not norm, seed or training length. Can be repeated.",
        ),
    ] = None,
) -> None:
    """Train each norm with each batch size on the same number of images, and compare the scores.

    The table, JSON and plot are written after every run. Finished runs in --out are not repeated:
    after Ctrl-C, the same command continues.

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
    json_path = folder / "norms.json"
    for number, norm_run in enumerate(grid.runs, start=1):
        err.print(
            f"\n{number}/{len(grid.runs)} {norm_run.kind} norm, batch size {norm_run.batch}, seed {norm_run.seed}",
        )
        with Screen() as screen:
            score = grid.train(norm_run, screen, track)
        err.print(score.diverged or f"mAP50 {score.map50:.4f}, mAP50-95 {score.map50_95:.4f}")
        write_json(str(json_path), to_dict(grid))
        report_paths = write_report(grid)
    for metric, name in METRICS.items():
        title = f"{name} in percent on {source.name}, {images:,} images"
        out.print(table(title, *table_rows(grid, metric)))
    out.print(f"written: {', '.join(map(str, (*report_paths, json_path)))}")


if __name__ == "__main__":
    run(app, "scripts")
