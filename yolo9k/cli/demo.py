"""`yolo9k demo`: YOLO9000 on a toy dataset, from images to a trained and evaluated detector."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from yolo9k.cli import options as opt
from yolo9k.cli.console import speaker, table, track, write_json
from yolo9k.cli.evaluate import print_scores
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import ConfigError

if TYPE_CHECKING:
    from yolo9k.config import Config
    from yolo9k.datasets.joint import TrainingSet
    from yolo9k.demo import SupervisionScores
    from yolo9k.demo.toy_joint import ToyJoint

MAX_NAMED = 6  # labels of a source


def demo(
    folder: opt.DemoFolderOption = Path("demo-output"),
    all_boxes: opt.AllBoxesOption = False,
    steps: opt.DemoStepsOption = None,
    seed: opt.DemoSeedOption = 0,
    overrides: opt.OverridesOption = None,
    json: opt.JsonOption = "",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Train YOLO9000 on a toy dataset: boxes for coarse classes, image-level labels for fine ones.

    The dataset is drawn: images of several shapes with boxes labelled round or
    angular, and images of a single shape with a label such as red star or blue
    ring, but no box. A detector is trained on both with a label tree, and
    evaluated on boxes of the fine classes. Takes minutes on a CPU and needs no
    network.

    Example: yolo9k demo --out demo-output
    """
    from yolo9k.datasets.load import read_annotations
    from yolo9k.demo import evaluate, write_detections, write_toy_joint
    from yolo9k.evaluation.plots import write_plots
    from yolo9k.inference.detector import Detector
    from yolo9k.training import train

    check_outputs(files={"--json": json}, folders={"--out": folder}, overwrite=overwrite)
    _refuse_foreign_folder(folder)
    console, start = speaker(json), time.monotonic()
    _heading(console, 1, f"Drawing the images into {folder / 'data'}")
    toy = write_toy_joint(folder / "data", all_boxes=all_boxes, seed=seed, track=track)
    test = read_annotations(toy.test, "test", track=track)
    changes = [*(overrides or []), *([f"train.steps={steps}"] if steps else [])]
    config = _configure(console, toy, changes, seed)

    _heading(console, 3, f"Training {config.model.name}, width {config.model.width:g}, {config.train.steps} steps")
    run = train(config, folder / "run")

    _heading(console, 4, f"Evaluating on {len(test.records)} test images")
    detector = Detector.load(run)
    scores, detections, means = evaluate(detector, test, track)
    plots = write_plots(folder / "plots", scores, detections)

    _heading(console, 5, "Detecting")
    drawn = write_detections(detector, test.records, folder / "detections")
    print_scores(console, "Test images", scores)
    _print_means(console, means, all_boxes=all_boxes, is_default=not (changes or seed or all_boxes))
    for title, paths in {"drawn images": drawn[:1], "plots": plots, "run": [run]}.items():
        console.print(f"{title:14}{', '.join(map(str, paths))}")
    console.print(f"done in {(time.monotonic() - start) / 60:.1f} minutes; next: yolo9k detect IMAGE --weights {run}")
    if json:
        write_json(json, {**scores.to_dict(), **vars(means)})


def _refuse_foreign_folder(folder: Path) -> None:
    """Raise `ConfigError` for a folder with files that are not of a demo, among which its own would be lost."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "data" / "shapes.txt").is_file():
        raise ConfigError(f"--out {folder}: contains files that are not of a demo; choose a new or empty folder")


def _heading(console: Console, step: int, text: str) -> None:
    console.print()
    console.print(Text.assemble((f"{step}/5", "bold"), f" {text}"))


def _configure(console: Console, toy: "ToyJoint", overrides: list[str], seed: int) -> "Config":
    """Print the training set, cluster anchors from its boxes, and return the config."""
    from yolo9k.datasets.joint import read_training
    from yolo9k.demo import configure

    training = read_training(toy.joint, track=track)
    _print_sources(console, training)
    console.print(f"to draw the label tree: yolo9k tree show {toy.taxonomy}")
    _heading(console, 2, "Clustering anchors from the training boxes")
    config, anchors = configure(toy.joint, training.box_records, overrides, seed)
    console.print(f"{len(anchors)} anchors in grid cells: {anchors.rounded()}")
    console.print(f"average IoU with the boxes {anchors.average_iou:.3f}")
    return config


def _print_sources(console: Console, training: "TrainingSet") -> None:
    labels = training.labels
    supervision = training.supervision()
    for source, nodes in zip(training.sources, (supervision.boxes, supervision.images), strict=False):
        names = [labels.names[node] for node in nodes]
        more = f", … ({len(names)} in total)" if len(names) > MAX_NAMED else ""
        console.print(f"{source}: {', '.join(names[:MAX_NAMED])}{more}")


def _print_means(console: Console, means: "SupervisionScores", *, all_boxes: bool, is_default: bool) -> None:
    """Print the mAP50 of coarse and fine labels; next to the upper bound, for the options it was measured with."""
    from yolo9k.demo import ALL_BOXES_SCORES
    from yolo9k.demo.toy_joint import COARSE_CLASSES

    labels = {"box_supervised": " and ".join(COARSE_CLASSES), "weakly_supervised": "shapes and colours"}
    rows: list[list[Any]] = []
    for name, text in labels.items():
        value, bound = getattr(means, name), getattr(ALL_BOXES_SCORES, name)
        title = text if all_boxes else f"{text}: {name.replace('_', ' ')}"
        rows.append([title, value, *([bound, f"{value / bound:.0%}"] if is_default else [])])
    columns = ["labels", "mAP50", *(["mAP50 with all boxes", "ratio"] if is_default else [])]
    title = "Upper bound: box labels for all classes" if all_boxes else "Classes without box labels are detected, too"
    console.print(table(title, columns, rows))
