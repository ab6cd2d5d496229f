"""`yolo9k classify predict`: classify images."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from yolo9k import processes
from yolo9k.cli import options as opt
from yolo9k.cli.console import err, speaker, table, track, write_json
from yolo9k.cli.interrupts import StoppableWork
from yolo9k.cli.label_paths import LabelPath, label_path, path_text, path_to_json, short_path_text
from yolo9k.cli.loading import describe_engine, load_arguments
from yolo9k.cli.outputs import check_outputs

if TYPE_CHECKING:
    from yolo9k.inference.classifier import Classification
    from yolo9k.wordtree import WordTree

MAX_SHOWN = 20  # images on the screen
BAR_WIDTH = 20  # characters of a probability bar


def predict(
    sources: opt.ImagesArgument,
    weights: opt.WeightsOption,
    cfg: opt.CfgOption = None,
    names: opt.NamesOption = None,
    tree: opt.TreeOption = None,
    data: opt.DataOption = None,
    strict: opt.StrictOption = False,
    top: opt.TopOption = 5,
    hier_thresh: opt.HierThreshOption = None,
    size: opt.SizeOption = "",
    batch: opt.InferenceBatchOption = 16,
    max_pixels: opt.MaxPixelsOption = None,
    device: opt.DeviceOption = "auto",
    engine: opt.EngineOption = opt.EngineName.auto,
    precision: opt.InferencePrecisionOption = opt.InferencePrecision.auto,
    json: opt.JsonOption = "",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Classify images: the most probable labels of each, and in a label tree where the descent ends.

    The network sees the centre crop of an image, as in evaluation.

    Example: yolo9k classify predict photos/ --weights runs/imagenet --json labels.json
    Example: yolo9k classify predict image.jpg --weights my.weights --cfg my.cfg --names my.names
    """
    from yolo9k.inference.classifier import ImageClassifier
    from yolo9k.inference.sources import find_images, stream_results

    images = processes.from_main(lambda: find_images(sources, track, on_skipped=err.print))
    inputs = (weights, cfg, names, tree, data, *images)
    check_outputs(files={"--json": json}, inputs=inputs, overwrite=overwrite)
    arguments = load_arguments(
        cfg=cfg, names=names, tree=tree, data=data, strict=strict,
        size=size, device=device, engine=engine, precision=precision,
    )  # fmt: skip
    classifier = processes.together(lambda: ImageClassifier.load(weights, **arguments))
    with StoppableWork() as work:
        options: dict[str, Any] = {"batch": batch, "top": top, "hier_thresh": hier_thresh}
        share = processes.share(images)
        results = processes.collect(
            lambda: list(stream_results(classifier.stream, share, work.track, "Classifying", **options))
        )
        work.combine(len(results), len(images))
        unreadable = [error for _, error in results if error is not None]
        pairs = zip(images, results, strict=False)  # fewer after a stop signal
        predictions = {path: classification for path, (classification, error) in pairs if error is None}
        if json and processes.is_main():
            rows = [{"file": str(path), **_to_json(each, classifier.labels)} for path, each in predictions.items()]
            model = {"weights": weights, **describe_engine(classifier)}
            write_json(json, {**model, **work.to_dict(), "images": rows})
        _show(speaker(json), predictions, classifier.labels)
        work.finish("the outputs contain these", unreadable)


def _show(console: Console, predictions: "dict[Path, Classification]", labels: "WordTree") -> None:
    """Print a table for each of the first images."""
    in_tree = not labels.is_flat
    columns = ["label", "probability", "", *(["path probabilities"] if in_tree else [])]
    for image, each in list(predictions.items())[:MAX_SHOWN]:
        rows = [
            (name, score, _bar(score), *([short_path_text(label_path(labels, int(label), path))] if in_tree else []))
            for (name, score), label, path in zip(each, each.label, each.path, strict=True)
        ]
        console.print(table(str(image), columns, rows))
        if in_tree:
            console.print(f"descent: {path_text(_descent(each, labels))}")
        console.print()
    if len(predictions) > MAX_SHOWN:
        console.print(f"… and {len(predictions) - MAX_SHOWN} more images (--json writes all)")


def _bar(fraction: float) -> str:
    full = round(fraction * BAR_WIDTH)
    return "█" * full + "░" * (BAR_WIDTH - full)


def _descent(each: "Classification", labels: "WordTree") -> LabelPath:
    """Return the path of the descent."""
    assert each.descent_label is not None
    assert each.descent_path is not None
    return label_path(labels, each.descent_label, each.descent_path)


def _to_json(each: "Classification", labels: "WordTree") -> dict[str, Any]:
    """Return the labels of an image as JSON values."""
    rows: list[dict[str, Any]] = []
    for (name, score), label, path in zip(each, each.label, each.path, strict=True):
        row = {"label": name, "id": labels.ids[label], "probability": round(score, 6)}
        rows.append(row if labels.is_flat else {**row, "path": path_to_json(label_path(labels, int(label), path))})
    if each.descent_label is None:
        return {"labels": rows}
    reached = {"label": labels.names[each.descent_label], "id": labels.ids[each.descent_label]}
    return {"labels": rows, "descent": {**reached, "path": path_to_json(_descent(each, labels))}}
