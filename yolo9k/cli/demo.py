"""`yolo9k demo`: the story of YOLO9000 on data it draws itself, from images to a trained detector."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from yolo9k.cli.console import out, table, track, write_json
from yolo9k.cli.outputs import check_outputs

MAX_NAMED = 6

if TYPE_CHECKING:
    from yolo9k.datasets.joint import TrainingSet
    from yolo9k.demo import Story
    from yolo9k.evaluation import Evaluation


def demo(
    folder: Annotated[Path, typer.Option("--out", help="Everything is written below this folder.")] = Path(
        "demo-output"
    ),
    all_boxes: Annotated[
        bool, typer.Option("--all-boxes", help="Train on boxes that are labelled by kind instead: the upper bound.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of training; the config's if left out.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the images, the anchors and the training.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value of configs/demo.yaml: KEY=VALUE.")
    ] = None,
    json: Annotated[str, typer.Option(help="Write the scores to this file.")] = "",
) -> None:
    """Train one detector from boxes that say little and images that have no boxes, and see what it finds.

    It draws shapes: some images have boxes, labelled round or angular and no more; others show a single thing each,
    labelled red star or blue ring, without a box. Trained on both, over a label tree, the detector is scored on
    the kinds of things that never had a box. It takes minutes, and no network.

    Example: yolo9k demo --out demo-output
    """
    from yolo9k.datasets.joint import read_training
    from yolo9k.datasets.load import read_annotations
    from yolo9k.demo import configure, detect_some, make_dataset, score
    from yolo9k.evaluation.plots import write_plots
    from yolo9k.inference.detector import Detector
    from yolo9k.training import train

    check_outputs(files={"--json": json}, folders={"--out": folder})
    start = time.monotonic()
    _chapter(1, f"Drawing images of shapes into {folder / 'data'}")
    toy = make_dataset(folder / "data", seed, all_boxes=all_boxes, track=track)
    training, test = read_training(toy.joint, track=track), read_annotations(toy.test, "test", track=track)
    _print_sets(training)
    out.print(f"the label tree: yolo9k tree show {toy.taxonomy}", markup=False)

    _chapter(2, "Clustering anchors from the training boxes")
    changes = [*(overrides or []), *([f"train.steps={steps}"] if steps else [])]
    config, anchors = configure(toy.joint, training.box_records, changes, seed)
    out.print(f"{len(anchors)} anchors in grid cells: {anchors.rounded()}", markup=False)
    out.print(f"average IoU with the boxes {anchors.average_iou:.3f}")

    _chapter(3, f"Training {config.model.name} at width {config.model.width:g} for {config.train.steps} steps")
    run = train(config, folder / "run")

    _chapter(4, f"Scoring on {len(test.records)} test images")
    detector = Detector.load(run)
    scores, found, story = score(detector, test, track)
    plots = write_plots(folder / "plots", scores, found, scores.records)

    _chapter(5, "Detecting")
    images = detect_some(detector, test.records, folder / "detections")
    _print_scores(scores)
    _print_story(story, all_boxes=all_boxes, usual=not (changes or seed or all_boxes))
    out.print(f"images with detections  {images[0]} and beside it", markup=False)
    out.print(f"plots                     {', '.join(str(path) for path in plots)}", markup=False)
    out.print(f"the trained detector      {run}")
    out.print(f"done in {(time.monotonic() - start) / 60:.1f} minutes; try: yolo9k detect --weights {run} IMAGE")
    if json:
        write_json(json, {**scores.to_dict(), **vars(story)})


def _chapter(number: int, text: str) -> None:
    out.print(f"\n[bold]{number}/5[/] {text}")


def _print_sets(training: "TrainingSet") -> None:
    labels = training.labels
    supervision = training.supervision()
    for source, nodes in zip(training.sources, (supervision.boxes, supervision.images), strict=False):
        names = [labels.names[node] for node in nodes]
        more = f", … {len(names)} in all" if len(names) > MAX_NAMED else ""
        out.print(f"{source}: {', '.join(names[:MAX_NAMED])}{more}", markup=False)


def _print_scores(scores: "Evaluation") -> None:
    from yolo9k.evaluation import report

    out.print(table("Test images", report.columns(scores), report.table_rows(scores)))
    if scores.depth is not None:
        out.print(table("Right down to which depth", report.DEPTH_COLUMNS, report.depth_rows(scores.depth)))
    for line in report.summary(scores):
        out.print(line)


def _print_story(story: "Story", *, all_boxes: bool, usual: bool) -> None:
    """What training with few boxes gave, beside what all boxes would give, where that was measured."""
    from yolo9k.demo import ALL_BOXES
    from yolo9k.demo.toy_joint import COARSE

    kinds = {" and ".join(COARSE): "box_supervised", "shapes and colours": "weakly_supervised"}
    rows = []
    for names, name in kinds.items():
        title = names if all_boxes else f"{names}: {name.replace('_', ' ')}"
        found, bound = getattr(story, name), getattr(ALL_BOXES, name)
        rows.append([title, found, *([bound, f"{found / bound:.0%}"] if usual else [])])
    columns = ["mAP50 of", "here", *(["with all boxes", "share"] if usual else [])]
    out.print(table("What boxes for all kinds give" if all_boxes else "What never had a box is found", columns, rows))
