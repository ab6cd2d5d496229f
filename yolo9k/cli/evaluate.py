"""`yolo9k eval`: evaluate a detector on a data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from yolo9k import processes
from yolo9k.cli import options as opt
from yolo9k.cli.console import err, out, speaker, table, track, warn, write_json
from yolo9k.cli.interrupts import StoppableWork
from yolo9k.cli.loading import describe_engine, load_arguments, say_engine
from yolo9k.cli.node_map import read_node_map
from yolo9k.cli.outputs import check_outputs, is_standard_output
from yolo9k.errors import ConfigError, DataError

if TYPE_CHECKING:
    from yolo9k.config import DatasetConfig
    from yolo9k.config.schema import EvalConfig
    from yolo9k.datasets.readers.records import Annotations
    from yolo9k.evaluation import ClassSelection, Evaluation
    from yolo9k.inference.detector import Detector
    from yolo9k.samples import Detections
    from yolo9k.wordtree.supervision import Supervision


def evaluate(
    weights: opt.WeightsOption,
    cfg: opt.CfgOption = None,
    names: opt.NamesOption = None,
    tree: opt.TreeOption = None,
    data: opt.DataOption = None,
    strict: opt.StrictOption = False,
    dataset: opt.EvalDatasetOption = "",
    split: opt.EvalSplitOption = "",
    conf: opt.EvalConfOption = None,
    iou: opt.EvalIouOption = None,
    max_detections: opt.EvalMaxDetectionsOption = None,
    size: opt.SizeOption = "",
    resize_mode: opt.ResizeModeOption = None,
    batch: opt.EvalBatchOption = None,
    max_pixels: opt.MaxPixelsOption = None,
    device: opt.DeviceOption = "auto",
    engine: opt.EngineOption = opt.EngineName.auto,
    precision: opt.InferencePrecisionOption = opt.InferencePrecision.auto,
    json: opt.JsonOption = "",
    results: opt.CocoResultsOption = "",
    plots: opt.PlotsOption = None,
    coco: opt.CocoOption = True,
    map_file: opt.MapOption = None,
    exact: opt.ExactOption = None,
    inner: opt.InnerOption = False,
    box_supervised: opt.BoxSupervisedOption = None,
    hier_thresh: opt.HierThreshOption = None,
    leaves_only: opt.LeavesOnlyOption = False,
    tree_mode: opt.TreeModeOption = opt.TreeMode.paper,
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Evaluate a detector: mAP50, mAP50-95, VOC and COCO metrics, and a table of its classes.

    For a data set with image-level labels (kind folder) it reports top-1 and
    top-5 accuracy of the highest-scoring boxes. --results NAME.json also writes
    NAME.ground_truth.json in COCO format, unless the data set has a COCO file.

    Example: yolo9k eval --weights runs/voc --dataset voc --split test --json scores.json --plots plots
    Example: yolo9k eval --weights yolo9000 --dataset coco --map coco9k.map --exact
    """
    from yolo9k.evaluation.coco import add_coco_metrics, read_ground_truth
    from yolo9k.inference.detector import Detector

    check_outputs(
        files={"--json": json, "--results": results and [results, *_ground_truth_target(results)]},
        folders={"--plots": plots},
        inputs=(weights, cfg, names, tree, data, dataset, map_file, box_supervised),
        overwrite=overwrite,
    )
    arguments = load_arguments(
        cfg=cfg, names=names, tree=tree, data=data, strict=strict,
        size=size, device=device, engine=engine, precision=precision,
    )  # fmt: skip
    arguments["resize_mode"] = resize_mode.value if resize_mode else None
    detector = processes.together(lambda: Detector.load(weights, **arguments))
    given = {"split": split, "conf": conf, "iou": iou, "max_detections": max_detections, "batch": batch}
    source, settings = processes.together(lambda: _choose_dataset(dataset, detector, **given))
    descent = detector.class_decoder(hier_thresh=hier_thresh, rule=tree_mode.value, leaves_only=leaves_only)
    if not source.has_boxes:
        _refuse_box_options(
            source, map=map_file, exact=exact, inner=inner or None, box_supervised=box_supervised, results=results,
            plots=plots, hier_thresh=hier_thresh, tree_mode=None if tree_mode == opt.TreeMode.paper else tree_mode,
        )  # fmt: skip
        return _evaluate_image_labels(detector, source, settings, json)
    annotations = processes.together(lambda: _read_annotations(detector, source, settings.split))
    ground_truth = read_ground_truth(source, settings.split, annotations) if coco or results else None
    selection = _select_classes(detector, annotations, map_file, exact=exact, inner=inner)
    detector.supervision = _read_supervision(box_supervised, detector)
    with StoppableWork() as work:
        scores, detections = _run(detector, annotations, settings, work, selection=selection, descent=descent)
        work.combine(len(detections), len(annotations.records))
        if processes.is_main():
            scores = add_coco_metrics(scores, detections, ground_truth) if coco else scores
            model = {"weights": weights, "dataset": source.name or source.root, **describe_engine(detector)}
            _report(scores, detections, settings, model, ground_truth, work, json=json, results=results, plots=plots)
            say_engine(speaker(json or results), detector)
        work.finish("the scores are those of these images")


def _choose_dataset(name: str, detector: "Detector", **options: Any) -> "tuple[DatasetConfig, EvalConfig]":
    """Return the data set `name`, or the one trained on, and the `eval` section of the training config.

    `options` replace values of that section unless they are empty; its `split` is one of the data set.
    """
    from yolo9k.config import load_dataset_config, updated
    from yolo9k.datasets.autodetect import open_dataset
    from yolo9k.datasets.joint import evaluation_split

    given = {key: value for key, value in options.items() if value not in (None, "")}
    settings = updated(detector.config.eval, given)
    dataset = open_dataset(name, track) if name else load_dataset_config(detector.config.data.dataset)
    source, split = evaluation_split(dataset, settings.split, track)
    return source, updated(settings, {"split": split})


def _refuse_box_options(source: "DatasetConfig", **options: Any) -> None:
    """Raise `ConfigError` for given options, which have no effect with image-level labels; empty ones are not given."""
    given = [f"--{name.replace('_', '-')}" for name, value in options.items() if value not in (None, "")]
    if given:
        raise ConfigError(
            f"{', '.join(given)}: only for data sets with boxes; {source.name or source.root} has image-level labels, "
            "which are compared with the most probable leaf of the highest-scoring box"
        )


def _evaluate_image_labels(detector: "Detector", source: "DatasetConfig", settings: "EvalConfig", json: str) -> None:
    """Evaluate a detector on image-level labels: the label of an image's highest-scoring box is the prediction."""
    from yolo9k.datasets.load import read_images
    from yolo9k.evaluation.image_accuracy import evaluate_image_accuracy

    images = processes.together(lambda: read_images(source, settings.split, track))
    with StoppableWork() as work:
        scores = evaluate_image_accuracy(detector, images, batch=settings.batch, track=work.track)
        work.combine(scores.images, len(images.records))
        if json and processes.is_main():
            write_json(json, {**work.to_dict(), **scores.to_dict()})
        console = speaker(json)
        place = work.titled(f"{source.name or source.root}, {settings.split}")
        title = f"{place}: label of the highest-scoring box, {scores.images:,} images"
        console.print(table(title, ["depth", "images", "accuracy"], scores.levels))
        console.print(f"top-1 {scores.top1:.4f}   top-5 {scores.top5:.4f}")
        work.finish("the scores are those of these images")


def _read_annotations(detector: "Detector", source: "DatasetConfig", split: str) -> "Annotations":
    from yolo9k.datasets.load import read_annotations

    return read_annotations(source, split, detector.config.data.on_error, track, all_sizes=True)


def _select_classes(
    detector: "Detector", annotations: "Annotations", map_file: Path | None, *, exact: bool | None, inner: bool
) -> "ClassSelection":
    """Return which classes to evaluate and how labels are matched.

    Raises `ConfigError` if `--inner` or `--map` do not fit the labels of the data set, `DataError` for a bad map.
    """
    from yolo9k.evaluation.class_selection import ClassSelection

    labels = annotations.labels
    node_map = read_node_map(map_file, nodes=len(detector.labels), labels=labels) if map_file else None
    if inner and labels.is_flat:
        raise ConfigError("--inner: the labels of the data set are flat, they have no ancestors")
    labelled = {int(label) for record in annotations.records for label in record.boxes.label} if inner else ()
    only = sorted({node for label in labelled for node in labels.path(label)}) if inner else None
    return ClassSelection(node_map=node_map, only=only, by_ancestry=None if exact is None else not exact)


def _read_supervision(path: Path | None, detector: "Detector") -> "Supervision | None":
    """Return boxes for the labels of a `.map` file, image-level labels for the others; `None`: the detector's own."""
    from yolo9k.wordtree.files import read_map
    from yolo9k.wordtree.supervision import Supervision

    if path is None:
        return detector.supervision
    nodes = len(detector.labels)
    return Supervision(boxes=read_map(path, nodes), images=tuple(range(nodes)))


def _run(
    detector: "Detector", annotations: "Annotations", settings: "EvalConfig", work: StoppableWork, **options: Any
) -> "tuple[Evaluation, list[Detections]]":
    """Evaluate on box labels; print a warning about unreadable images if the config skips them."""
    from yolo9k.detection.thresholds import Thresholds
    from yolo9k.evaluation import evaluate_detector

    unreadable: list[DataError] = []
    if detector.config.data.on_error == "skip":
        options["on_unreadable"] = unreadable.append
    scores, detections = evaluate_detector(
        detector, annotations, Thresholds.of(settings), batch=settings.batch, track=work.track, **options
    )
    if unreadable:
        warn(f"{len(unreadable)} images could not be read and have no detections; first: {unreadable[0]}")
    return scores, detections


def _report(
    scores: "Evaluation",
    detections: "list[Detections]",
    settings: "EvalConfig",
    model: dict[str, Any],
    ground_truth: Mapping[str, Any] | None,
    work: StoppableWork,
    *,
    json: str,
    results: str,
    plots: Path | None,
) -> None:
    """Write the files that are given and print the scores.

    `model`: facts for the JSON file. `ground_truth`: content of the COCO file of the data set, if it has one.
    """
    from yolo9k.detection.thresholds import Thresholds
    from yolo9k.evaluation import report
    from yolo9k.evaluation.plots import write_plots

    if json:
        write_json(json, {**model, **work.to_dict(), "protocol": settings.model_dump(), **scores.to_dict()})
    if results:
        with_ground_truth = ground_truth is None or scores.by_ancestry or work.is_stopped
        _write_coco_results(results, detections, scores, with_ground_truth=with_ground_truth)
    written = write_plots(plots, scores, detections) if plots else ()
    console = err if any(map(is_standard_output, (json, results))) else out
    for line in report.protocol(scores, Thresholds.of(settings)):
        console.print(line, style="dim")
    print_scores(console, work.titled(f"{model['dataset']}, {settings.split}"), scores)
    for path in written:
        console.print(f"wrote {path}")


def print_scores(console: Console, title: str, scores: "Evaluation") -> None:
    """Print the table of classes, the one of depths in a label tree, and the summary."""
    from yolo9k.evaluation import report

    console.print(table(title, report.columns(scores), report.table_rows(scores)))
    if scores.depth is not None:
        console.print(
            table("Accuracy by depth in the label tree", report.DEPTH_COLUMNS, report.depth_rows(scores.depth))
        )
    for line in report.summary(scores):
        console.print(line)


def _write_coco_results(
    path: str, detections: "Sequence[Detections]", scores: "Evaluation", *, with_ground_truth: bool
) -> None:
    """Write the detections as COCO results and, if requested and not to standard output, the ground truth beside."""
    from yolo9k.evaluation.coco import choose_image_ids, make_ground_truth
    from yolo9k.metrics import coco_results

    write_json(path, coco_results(detections, choose_image_ids(scores.records), scores.category_ids))
    for target in _ground_truth_target(path) if with_ground_truth else ():
        write_json(target, make_ground_truth(scores.records, scores.labels, scores.category_ids))


def _ground_truth_target(results: str) -> list[str]:
    """Return the file beside the COCO results; none for standard output."""
    return [] if is_standard_output(results) else [str(Path(results).with_suffix(".ground_truth.json"))]
