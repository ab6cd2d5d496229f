"""`yolo9k demo`: the whole way, from pictures to a trained detector, on data it draws itself."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yolo9k.cli.console import out, table, track, write_json

if TYPE_CHECKING:
    from yolo9k.datasets.check import Report
    from yolo9k.evaluation import Evaluation


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Everything is written below this folder.")] = Path(
        "demo-output"
    ),
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of training; the config's if left out.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the pictures, the anchors and the training.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value of configs/demo.yaml: KEY=VALUE.")
    ] = None,
    json: Annotated[str, typer.Option(help="Write the scores to this file.")] = "",
) -> None:
    """Draw a data set, cluster anchors, train a small YOLOv2, score it, detect: minutes, and no network.

    Example: yolo9k demo --out demo-output
    """
    from yolo9k.datasets.check import check_dataset
    from yolo9k.demo import configure, detect_some, make_dataset
    from yolo9k.evaluation import evaluate_detector
    from yolo9k.evaluation.plots import write_plots
    from yolo9k.inference.detector import Detector
    from yolo9k.training import train

    start = time.monotonic()
    _chapter(1, f"Drawing pictures of shapes into {folder / 'data'}")
    dataset = make_dataset(folder / "data", seed, track)
    report = check_dataset(dataset, track=track)
    _print_report(report)

    _chapter(2, "Clustering anchors from the training boxes")
    changes = [*(overrides or []), *([f"train.steps={steps}"] if steps else [])]
    config, anchors = configure(dataset, report.annotations["train"].records, changes, seed)
    out.print(f"{len(anchors)} anchors in grid cells: {anchors.rounded()}", markup=False)
    out.print(f"average IoU with the boxes {anchors.average_iou:.3f}")

    _chapter(3, f"Training {config.model.name} at width {config.model.width:g} for {config.train.steps} steps")
    run = train(config, folder / "run")

    _chapter(4, "Scoring on the test pictures")
    detector = Detector.load(run)
    test = report.annotations["test"]
    scores, found = evaluate_detector(detector, test, track=track)
    plots = write_plots(folder / "plots", scores, found, test.records)

    _chapter(5, "Detecting")
    pictures = detect_some(detector, test.records, folder / "detections")
    _print_scores(scores)
    out.print(f"pictures with detections  {pictures[0]} and beside it", markup=False)
    out.print(f"plots                     {', '.join(str(path) for path in plots)}", markup=False)
    out.print(f"the trained detector      {run}")
    out.print(f"done in {(time.monotonic() - start) / 60:.1f} minutes; try: yolo9k detect --weights {run} IMAGE")
    if json:
        write_json(json, scores.to_dict())


def _chapter(number: int, text: str) -> None:
    out.print(f"\n[bold]{number}/5[/] {text}")


def _print_report(report: "Report") -> None:
    rows = ((s.name, s.images, s.boxes, s.small, s.medium, s.large) for s in report.splits)
    out.print(table("", ["split", "pictures", "boxes", "small", "medium", "large"], rows))
    out.print(f"labels: {', '.join(report.labels)}; {len(report.defects)} defects")


def _print_scores(scores: "Evaluation") -> None:
    from yolo9k.evaluation import report

    out.print(table("Test pictures", report.COLUMNS, report.table_rows(scores)))
    for line in report.summary(scores):
        out.print(line)
