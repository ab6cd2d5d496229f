"""`yolo9k eval`: score a detector on a data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from yolo9k.cli.console import err, out, speaker, table, track, write_json
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
from yolo9k.cli.tree_options import (
    HierThreshOption,
    LeavesOnlyOption,
    MapOption,
    TreeMode,
    TreeModeOption,
    choose_class_decoder,
    nodes_of,
)
from yolo9k.errors import ConfigError, DataError

if TYPE_CHECKING:
    from yolo9k.config import DatasetConfig
    from yolo9k.config.schema import EvalConfig
    from yolo9k.datasets.readers.records import Annotations
    from yolo9k.detection.thresholds import Thresholds
    from yolo9k.evaluation import Evaluation
    from yolo9k.inference.detector import Detector
    from yolo9k.samples import Detections


def evaluate(
    weights: WeightsOption,
    cfg: CfgOption = None,
    names: NamesOption = None,
    tree: TreeOption = None,
    data: DataOption = None,
    strict: StrictOption = False,
    dataset: ScoredDatasetOption = "",
    split: SplitOption = "",
    conf: Annotated[
        float | None, typer.Option(min=0, max=1, help="Leave out what has a lower confidence; .005 if left out.")
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of two boxes that overlap by more (IoU) one goes; .45 if left out."),
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option("--max-detections", min=1, help="Most detections an image; 100 if left out.")
    ] = None,
    size: SizeOption = "",
    batch: Annotated[int | None, typer.Option(min=1, help="Images at a time.")] = None,
    device: DeviceOption = "auto",
    json: ScoresJsonOption = "",
    results: Annotated[str, typer.Option(help="Write the detections as COCO results to this file.")] = "",
    plots: Annotated[Path | None, typer.Option(help="Folder for curves and images with boxes.")] = None,
    coco: Annotated[bool, typer.Option(help="COCO's twelve numbers; the slow part of the scores.")] = True,
    map_file: MapOption = None,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--by-ancestry",
            help="In a tree: a detection counts for its own label only, or for all above, too (usual for trees).",
        ),
    ] = None,
    inner: Annotated[
        bool, typer.Option("--inner", help="In a tree: score the labels above those of the boxes, too.")
    ] = False,
    boxed: Annotated[
        Path | None,
        typer.Option(
            "--box-supervised",
            help="A .map of labels that had boxes in training (all others: image labels), if the weights do not say.",
        ),
    ] = None,
    hier_thresh: HierThreshOption = None,
    leaves_only: LeavesOnlyOption = False,
    tree_mode: TreeModeOption = TreeMode.paper,
) -> None:
    """Score a detector: VOC and COCO mean average precision, and a table of its labels.

    Of images with a label and no boxes (kind folder) it tells how often the best box of an image has its label.
    --results writes the truth beside the results in COCO's format, where the data set has no COCO file of its own.

    Example: yolo9k eval --weights runs/voc --dataset voc --split test --json scores.json --plots plots
    Example: yolo9k eval --weights yolo9000 --dataset coco --map coco9k.map --exact
    """
    from yolo9k.config import parse_size, updated
    from yolo9k.datasets.load import read_annotations
    from yolo9k.detection.thresholds import Thresholds
    from yolo9k.evaluation import evaluate_detector
    from yolo9k.evaluation.coco import official_ground_truth
    from yolo9k.evaluation.plots import write_plots
    from yolo9k.inference import Detector
    from yolo9k.pretrained import DarknetFiles

    check_outputs(files={"--json": json, "--results": results}, folders={"--plots": plots})
    files = DarknetFiles(cfg, names, tree, data, strict)
    size_wh = parse_size(size) if size else None
    detector = Detector.load(weights, device=device, size_wh=size_wh, files=files, track=track)
    settings = _settings(detector, split, conf, iou, max_detections, batch)
    source, read_split = _to_score(dataset, detector, settings.split)
    settings = updated(settings, {"split": read_split})
    thresholds = Thresholds.of(settings)
    descent = choose_class_decoder(detector, hier_thresh, leaves_only, None, tree_mode)
    if not source.has_boxes:
        about_boxes = {
            "--map": map_file, "--exact": exact is not None, "--inner": inner, "--box-supervised": boxed,
            "--results": results,
            "--plots": plots, "--hier-thresh": hier_thresh is not None, "--tree-mode": tree_mode != TreeMode.paper,
        }  # fmt: skip
        _refuse([option for option, given in about_boxes.items() if given], source)
        _score_images(detector, source, settings, json)
        return
    annotations = read_annotations(source, settings.split, detector.config.data.on_error, track)
    if annotations.errors:
        number = len(annotations.errors)
        err.print(f"warning: {number} errors in the labels, see yolo9k data check", style="yellow")
    truth = official_ground_truth(source, settings.split, annotations) if coco or results else None
    in_tree = _in_tree(detector, annotations, map_file, exact, inner, boxed)
    if not detector.labels.is_flat:
        in_tree["descent"] = descent
    bad: list[DataError] = []
    if detector.config.data.on_error == "skip":
        in_tree["on_bad"] = bad.append
    scores, found = evaluate_detector(
        detector, annotations, thresholds,
        batch=settings.batch, coco=coco, coco_ground_truth=truth, track=track, **in_tree,
    )  # fmt: skip
    if bad:
        err.print(f"warning: {len(bad)} images could not be read, nothing was found in them; the first: {bad[0]}")

    say = err if "-" in (json, results) else out
    title = f"{source.name or source.root}, {settings.split}"
    _print(say, title, scores, thresholds)
    if json:
        origin = {"weights": weights, "dataset": source.name or source.root, "size_wh": list(detector.size_wh)}
        write_json(json, {**origin, "protocol": settings.model_dump(), **scores.to_dict()})
    if results:
        _write_results(
            results, found, scores, with_ground_truth=(truth is None or scores.by_ancestry) and results != "-"
        )
    for path in write_plots(plots, scores, found, scores.records) if plots else ():
        say.print(f"wrote {path}")


def _print(say: Console, title: str, scores: "Evaluation", thresholds: "Thresholds") -> None:
    from yolo9k.evaluation import report

    for line in report.protocol(scores, thresholds):
        say.print(line, style="dim")
    say.print(table(title, report.columns(scores), report.table_rows(scores)))
    if scores.depth is not None:
        say.print(table("Right down to which depth", report.DEPTH_COLUMNS, report.depth_rows(scores.depth)))
    for line in report.summary(scores):
        say.print(line)


def _refuse(options: list[str], source: "DatasetConfig") -> None:
    """Raises `ConfigError` for options that say nothing where images have labels and no boxes."""
    if options:
        raise ConfigError(
            f"{', '.join(options)}: only where images have boxes; those of {source.name or source.root} have a label "
            "each, and the best box's likeliest leaf is compared with it"
        )


def _score_images(detector: "Detector", source: "DatasetConfig", settings: "EvalConfig", json: str) -> None:
    """Of images with a label and no boxes: how often the best box has the label."""
    from yolo9k.datasets.load import read_images
    from yolo9k.evaluation.images import evaluate_images

    images = read_images(source, settings.split, track)
    scores = evaluate_images(detector, images, batch=settings.batch, track=track)
    say = speaker(json)
    title = f"{source.name or source.root}, {settings.split}: {scores.images:,} images, named by their best box"
    say.print(table(title, ["depth", "images", "right down to it"], scores.levels))
    say.print(f"top-1 {scores.top1:.4f}   top-5 {scores.top5:.4f}")
    if json:
        write_json(json, scores.to_dict())


def _in_tree(
    detector: "Detector",
    annotations: "Annotations",
    map_file: Path | None,
    exact: bool | None,
    inner: bool,
    boxed: Path | None,
) -> dict[str, Any]:
    """What the options about trees mean for `evaluate_detector`.

    Raises `ConfigError` where `--inner` or `--map` meets labels that it does not fit, `DataError` for a bad map.
    """
    from yolo9k.wordtree.files import read_map
    from yolo9k.wordtree.supervision import Supervision

    nodes = len(detector.labels)
    options: dict[str, Any] = {"by_ancestry": None if exact is None else not exact}
    if map_file:
        options["nodes"] = nodes_of(map_file, nodes, annotations.labels)
    if inner:
        if annotations.labels.is_flat:
            raise ConfigError("--inner: the labels of the data set are flat, none is above another")
        named = {int(label) for record in annotations.records for label in record.boxes.label}
        options["only"] = sorted({node for label in named for node in annotations.labels.path(label)})
    if boxed:
        options["supervision"] = Supervision(boxes=read_map(boxed, nodes), images=tuple(range(nodes)))
    return options


def _write_results(path: str, found: Sequence["Detections"], scores: "Evaluation", *, with_ground_truth: bool) -> None:
    """The detections as a COCO results file, and on request the truth beside it."""
    from yolo9k.evaluation.coco import ground_truth_of, image_ids_of
    from yolo9k.metrics import coco_results

    write_json(path, coco_results(found, image_ids_of(scores.records), scores.category_ids))
    if with_ground_truth:
        truth = ground_truth_of(scores.records, scores.labels, scores.category_ids)
        write_json(str(Path(path).with_suffix(".truth.json")), truth)


def _settings(
    detector: "Detector",
    split: str,
    conf: float | None,
    iou: float | None,
    max_detections: int | None,
    batch: int | None,
) -> "EvalConfig":
    """The settings the model was trained with, changed by the options that were given."""
    from yolo9k.config import updated

    options = {"conf": conf, "iou": iou, "max_detections": max_detections, "batch": batch}
    given = {name: value for name, value in options.items() if value is not None}
    return updated(detector.config.eval, given | ({"split": split} if split else {}))


def _to_score(name: str, detector: "Detector", split: str) -> "tuple[DatasetConfig, str]":
    """The data set that is named, else the one trained on, and its split."""
    from yolo9k.config import load_dataset_config
    from yolo9k.datasets.autodetect import open_dataset
    from yolo9k.datasets.joint import to_score

    dataset = open_dataset(name, track) if name else load_dataset_config(detector.config.data.dataset)
    return to_score(dataset, split, track)
