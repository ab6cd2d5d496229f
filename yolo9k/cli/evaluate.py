"""`yolo9k eval`: score a detector on a data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from yolo9k.cli.console import err, out, table, track, write_json
from yolo9k.cli.files import CfgOption, DataOption, NamesOption, TreeOption

if TYPE_CHECKING:
    from yolo9k.config import DatasetConfig
    from yolo9k.config.schema import EvalConfig
    from yolo9k.datasets.records import Annotations
    from yolo9k.evaluation import Evaluation
    from yolo9k.inference.detector import Detector
    from yolo9k.samples import Detections


def evaluate(
    weights: Annotated[
        str, typer.Option(help="A run, a checkpoint, a Darknet file or a name of `yolo9k weights list`.")
    ],
    cfg: CfgOption = None,
    names: NamesOption = None,
    tree: TreeOption = None,
    data: DataOption = None,
    dataset: Annotated[
        str,
        typer.Option(help="A catalogue name, a config or a folder; the one it was trained on if left out."),
    ] = "",
    split: Annotated[str, typer.Option(help="The split to score, e.g. test; val if left out.")] = "",
    conf: Annotated[float | None, typer.Option(min=0, max=1, help="Smallest confidence; .005 if left out.")] = None,
    iou: Annotated[float | None, typer.Option(min=0, max=1, help="Overlap of NMS; .45 if left out.")] = None,
    max_detections: Annotated[
        int | None, typer.Option("--max", min=1, help="Most detections a picture; 100 if left out.")
    ] = None,
    size: Annotated[str, typer.Option(help="Network size, N or WIDTHxHEIGHT; the model's if left out.")] = "",
    batch: Annotated[int | None, typer.Option(min=1, help="Pictures at a time.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")] = "auto",
    json: Annotated[str, typer.Option(help="Write the scores to this file; - is standard output.")] = "",
    results: Annotated[str, typer.Option(help="Write the detections as COCO results to this file.")] = "",
    plots: Annotated[Path | None, typer.Option(help="Draw curves and pictures into this folder.")] = None,
    coco: Annotated[bool, typer.Option(help="COCO's twelve numbers; the slow part of the scores.")] = True,
) -> None:
    """Score a detector: VOC and COCO mean average precision, and a table of its labels.

    With --results of a data set that has no COCO file of its own, the truth goes beside the results in COCO's
    format, so that any evaluator can check the numbers.

    Example: yolo9k eval --weights runs/voc --dataset voc --split test --json scores.json --plots plots
    """
    from yolo9k.config import parse_size
    from yolo9k.datasets.read import read_annotations
    from yolo9k.evaluation import evaluate_detector
    from yolo9k.evaluation.coco import official_truth
    from yolo9k.evaluation.plots import write_plots
    from yolo9k.inference import Detector
    from yolo9k.pretrained import DarknetFiles

    files = DarknetFiles(cfg, names, tree, data)
    size_wh = parse_size(size) if size else None
    detector = Detector.load(weights, device=device, size_wh=size_wh, files=files, track=track)
    settings = _settings(detector, split, conf, iou, max_detections, batch)
    source = _dataset(dataset, detector)
    annotations = read_annotations(source, settings.split, detector.config.data.on_error, track)
    if annotations.defects:
        number = len(annotations.defects)
        err.print(f"warning: {number} defects in the labels, see yolo9k data check", style="yellow")
    truth = official_truth(source, settings.split, annotations) if coco or results else None
    thresholds = settings.model_dump(include={"conf", "iou", "max_detections", "batch"})
    scores, found = evaluate_detector(detector, annotations, **thresholds, coco=coco, coco_truth=truth, track=track)

    say = err if "-" in (json, results) else out
    title = f"{source.name or source.root}, {settings.split}"
    _print(say, title, scores, settings)
    if json:
        origin = {"weights": weights, "dataset": source.name or source.root, "size_wh": list(detector.size_wh)}
        write_json(json, {**origin, "protocol": settings.model_dump(), **scores.to_dict()})
    if results:
        _write_results(results, found, annotations, with_truth=truth is None and results != "-")
    for path in write_plots(plots, scores, found, annotations.records) if plots else ():
        say.print(f"wrote {path}")


def _print(say: Console, title: str, scores: "Evaluation", settings: "EvalConfig") -> None:
    from yolo9k.evaluation import report

    for line in report.protocol(scores, settings.conf, settings.iou, settings.max_detections):
        say.print(line, style="dim")
    say.print(table(title, report.COLUMNS, report.table_rows(scores)))
    for line in report.summary(scores):
        say.print(line)


def _write_results(path: str, found: Sequence["Detections"], annotations: "Annotations", *, with_truth: bool) -> None:
    """The detections as a COCO results file, and on request the truth beside it."""
    from yolo9k.evaluation.coco import category_ids_of, image_ids_of, truth_of
    from yolo9k.metrics import coco_results

    records, labels = annotations.records, annotations.labels
    categories = category_ids_of(labels, annotations.category_ids)
    write_json(path, coco_results(found, image_ids_of(records), categories))
    if with_truth:
        write_json(str(Path(path).with_suffix(".truth.json")), truth_of(records, labels, categories))


def _settings(
    detector: "Detector",
    split: str,
    conf: float | None,
    iou: float | None,
    max_detections: int | None,
    batch: int | None,
) -> "EvalConfig":
    """The settings the model was trained with, changed by the options that were given."""
    options = {"conf": conf, "iou": iou, "max_detections": max_detections, "batch": batch}
    given = {name: value for name, value in options.items() if value is not None}
    return detector.config.eval.model_copy(update=given | ({"split": split} if split else {}))


def _dataset(name: str, detector: "Detector") -> "DatasetConfig":
    from yolo9k.config import load_dataset_config
    from yolo9k.datasets.make import open_dataset

    return open_dataset(name, track) if name else load_dataset_config(detector.config.data.dataset)
