"""`yolo9k classify eval`: evaluate an image classifier on a data set."""

from typing import TYPE_CHECKING, Any

from rich.console import Console

from yolo9k import processes
from yolo9k.cli import options as opt
from yolo9k.cli.console import speaker, table, track, warn, write_json
from yolo9k.cli.interrupts import StoppableWork
from yolo9k.cli.loading import describe_engine, load_arguments
from yolo9k.cli.node_map import read_node_map
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import DataError
from yolo9k.io import expanded, is_folder

if TYPE_CHECKING:
    from yolo9k.config import DatasetConfig
    from yolo9k.datasets.load import ImageSet
    from yolo9k.evaluation.classifier import ClassifierScores
    from yolo9k.inference.classifier import ImageClassifier


def evaluate(
    weights: opt.WeightsOption,
    cfg: opt.CfgOption = None,
    names: opt.NamesOption = None,
    tree: opt.TreeOption = None,
    data: opt.DataOption = None,
    strict: opt.StrictOption = False,
    dataset: opt.EvalDatasetOption = "",
    split: opt.EvalSplitOption = "",
    size: opt.SizeOption = "",
    batch: opt.EvalBatchOption = None,
    max_pixels: opt.MaxPixelsOption = None,
    device: opt.DeviceOption = "auto",
    engine: opt.EngineOption = opt.EngineName.auto,
    precision: opt.InferencePrecisionOption = opt.InferencePrecision.auto,
    json: opt.JsonOption = "",
    plots: opt.PlotsOption = None,
    map_file: opt.MapOption = None,
    hier_thresh: opt.HierThreshOption = None,
    worst: opt.WorstOption = 20,
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Evaluate a classifier: top-1 and top-5 accuracy, the worst classes, the most frequent mistakes.

    The data set has one folder per class, named after the class or its WordNet id
    (n02084071), or tar shards. With a label tree the accuracy at each depth is
    reported as well.

    Example: yolo9k classify eval --weights runs/imagenet --split val --json scores.json --plots plots
    Example: yolo9k classify eval --weights runs/birds --dataset photos/ --split train
    """
    from yolo9k.datasets.load import read_images
    from yolo9k.evaluation.classifier_plots import write_plots
    from yolo9k.inference.classifier import ImageClassifier

    inputs = (weights, cfg, names, tree, data, dataset, map_file)
    check_outputs(files={"--json": json}, folders={"--plots": plots}, inputs=inputs, overwrite=overwrite)
    arguments = load_arguments(
        cfg=cfg, names=names, tree=tree, data=data, strict=strict,
        size=size, device=device, engine=engine, precision=precision,
    )  # fmt: skip
    classifier = processes.together(lambda: ImageClassifier.load(weights, **arguments))
    source, read_split = processes.together(lambda: _choose_dataset(dataset, classifier, split))
    images = processes.together(lambda: read_images(source, read_split, track))
    node_map = read_node_map(map_file, nodes=len(classifier.labels), labels=images.labels) if map_file else None
    batch = batch or classifier.config.eval.batch
    with StoppableWork() as work:
        scores = _run(classifier, images, work, node_map=node_map, hier_thresh=hier_thresh, batch=batch)
        work.combine(scores.images + scores.unreadable, len(images.records))
        if json and processes.is_main():
            model = {"weights": weights, "dataset": source.name or source.root, "split": read_split}
            write_json(json, {**model, **describe_engine(classifier), **work.to_dict(), **scores.to_dict()})
        written = write_plots(plots, scores) if plots and processes.is_main() else ()
        console = speaker(json)
        _print(console, work.titled(f"{source.name or source.root}, {read_split}"), scores, worst)
        for path in written:
            console.print(f"wrote {path}")
        work.finish("the scores are those of these images")


def _choose_dataset(name: str, classifier: "ImageClassifier", split: str) -> "tuple[DatasetConfig, str]":
    """Return the data set `name`, or the one trained on, and its split (the only one of a folder with one split)."""
    from yolo9k.config import load_dataset_config
    from yolo9k.datasets.autodetect import open_image_dataset
    from yolo9k.datasets.joint import require_single
    from yolo9k.datasets.load import split_names

    dataset = open_image_dataset(name) if name else require_single(load_dataset_config(classifier.config.data.dataset))
    splits = split_names(dataset)
    if name and not split and len(splits) == 1 and is_folder(expanded(name)):
        return dataset, splits[0]
    return dataset, split or classifier.config.eval.split


def _run(classifier: "ImageClassifier", images: "ImageSet", work: StoppableWork, **options: Any) -> "ClassifierScores":
    """Evaluate; print a warning about unreadable images if the config skips them."""
    from yolo9k.evaluation.classifier import evaluate_classifier

    unreadable: list[DataError] = []
    if classifier.config.data.on_error == "skip":
        options["on_unreadable"] = unreadable.append
    scores = evaluate_classifier(classifier, images, track=work.track, **options)
    if unreadable:
        warn(f"{len(unreadable)} images could not be read and are excluded; first: {unreadable[0]}")
    return scores


def _print(console: Console, title: str, scores: "ClassifierScores", worst: int) -> None:
    from yolo9k.evaluation import classifier_report as report

    for line in report.protocol(scores):
        console.print(line, style="dim")
    if rows := report.worst_rows(scores, worst):
        console.print(table(f"{title}: worst classes", report.CLASS_COLUMNS, rows))
        console.print(table("Most frequent mistakes", report.PAIR_COLUMNS, report.pair_rows(scores, worst)))
    if scores.tree is not None:
        console.print(
            table("Accuracy by depth in the label tree", report.DEPTH_COLUMNS, report.depth_rows(scores.tree))
        )
    for line in report.summary(scores):
        console.print(line)
