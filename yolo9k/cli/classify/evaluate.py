"""`yolo9k classify eval`: score a classifier on a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from yolo9k.cli.console import err, speaker, table, track, write_json
from yolo9k.cli.files import CfgOption, DataOption, NamesOption, StrictOption, TreeOption
from yolo9k.cli.outputs import check_outputs
from yolo9k.cli.running import (
    DeviceOption,
    ScoredDatasetOption,
    ScoresJsonOption,
    SizeOption,
    SplitOption,
    WeightsOption,
)
from yolo9k.cli.tree_options import HierThreshOption, MapOption, nodes_of
from yolo9k.errors import DataError

if TYPE_CHECKING:
    from yolo9k.config import DatasetConfig
    from yolo9k.evaluation.classifier import ClassifierScores
    from yolo9k.inference.classifier import ImageClassifier


def evaluate(
    weights: WeightsOption,
    cfg: CfgOption = None,
    names: NamesOption = None,
    tree: TreeOption = None,
    data: DataOption = None,
    strict: StrictOption = False,
    dataset: ScoredDatasetOption = "",
    split: SplitOption = "",
    size: SizeOption = "",
    batch: Annotated[int | None, typer.Option(min=1, help="Images at a time.")] = None,
    device: DeviceOption = "auto",
    json: ScoresJsonOption = "",
    plots: Annotated[Path | None, typer.Option(help="Folder for plots and the worst mistakes.")] = None,
    map_file: MapOption = None,
    hier_thresh: HierThreshOption = None,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst classes and mistakes to show.")] = 20,
) -> None:
    """Score a classifier: top-1 and top-5, the worst classes, the most frequent mistakes, and depth in a tree.

    A data set is one of labelled images: folders called after their class (or its id, n02084071), or tar shards.

    Example: yolo9k classify eval --weights runs/imagenet --split val --json scores.json --plots plots
    Example: yolo9k classify eval --weights runs/birds --dataset photos/ --split train
    """
    from yolo9k.config import parse_size
    from yolo9k.datasets.load import read_images
    from yolo9k.evaluation.classifier import evaluate_classifier
    from yolo9k.evaluation.classifier_plots import write_plots
    from yolo9k.inference.classifier import ImageClassifier
    from yolo9k.pretrained import DarknetFiles

    check_outputs(files={"--json": json}, folders={"--plots": plots})
    files = DarknetFiles(cfg, names, tree, data, strict)
    size_wh = parse_size(size) if size else None
    classifier = ImageClassifier.load(weights, device=device, size_wh=size_wh, files=files, track=track)
    source, read_split = _to_score(dataset, classifier, split)
    images = read_images(source, read_split, track)
    options: dict[str, Any] = {"hier_thresh": hier_thresh, "batch": batch or classifier.config.eval.batch}
    if map_file:
        options["nodes"] = nodes_of(map_file, len(classifier.labels), images.labels)
    bad: list[DataError] = []
    if classifier.config.data.on_error == "skip":
        options["on_bad"] = bad.append
    scores = evaluate_classifier(classifier, images, **options, track=track)
    if bad:
        err.print(f"warning: {len(bad)} images could not be read and are left out; the first: {bad[0]}", markup=False)

    say = speaker(json)
    _print(say, f"{source.name or source.root}, {read_split}", scores, worst)
    if json:
        origin = {"weights": weights, "dataset": source.name or source.root, "split": read_split}
        write_json(json, {**origin, "size_wh": list(classifier.size_wh), **scores.to_dict()})
    for path in write_plots(plots, scores) if plots else ():
        say.print(f"wrote {path}", markup=False)


def _to_score(name: str, classifier: "ImageClassifier", split: str) -> "tuple[DatasetConfig, str]":
    """The data set that is named, else the one trained on, and its split: of a folder with one split just that."""
    from yolo9k.config import load_dataset_config
    from yolo9k.datasets.autodetect import open_images
    from yolo9k.datasets.joint import single
    from yolo9k.datasets.load import split_names

    dataset = open_images(name) if name else single(load_dataset_config(classifier.config.data.dataset))
    there = split_names(dataset)
    if name and not split and len(there) == 1 and Path(name).expanduser().is_dir():
        return dataset, there[0]
    return dataset, split or classifier.config.eval.split


def _print(say: Console, title: str, scores: "ClassifierScores", worst: int) -> None:
    from yolo9k.evaluation import classifier_report as report

    for line in report.protocol(scores):
        say.print(line, style="dim")
    if rows := report.worst_rows(scores, worst):
        say.print(table(f"{title}: the worst classes", report.CLASS_COLUMNS, rows))
        say.print(table("The most frequent mistakes", report.PAIR_COLUMNS, report.pair_rows(scores, worst)))
    if scores.tree is not None:
        say.print(table("Right down to which depth", report.DEPTH_COLUMNS, report.depth_rows(scores.tree)))
    for line in report.summary(scores):
        say.print(line, markup=False)
