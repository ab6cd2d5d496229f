"""`yolo9k classify predict`: say what images show."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from yolo9k.cli.console import speaker, table, track, write_json
from yolo9k.cli.files import CfgOption, DataOption, NamesOption, StrictOption, TreeOption
from yolo9k.cli.outputs import check_outputs
from yolo9k.cli.rows import Way, plain_way, short_way, way_to
from yolo9k.cli.running import DeviceOption, ImagesArgument, SizeOption, WeightsOption
from yolo9k.cli.tree_options import HierThreshOption
from yolo9k.errors import DataError

if TYPE_CHECKING:
    from yolo9k.inference.classifier import Classification
    from yolo9k.wordtree import WordTree

MAX_SHOWN = 20  # images on the screen
BAR = 20  # letters


def predict(
    sources: ImagesArgument,
    weights: WeightsOption,
    cfg: CfgOption = None,
    names: NamesOption = None,
    tree: TreeOption = None,
    data: DataOption = None,
    strict: StrictOption = False,
    top: Annotated[int, typer.Option(min=1, help="How many labels of an image to show.")] = 5,
    hier_thresh: HierThreshOption = None,
    size: SizeOption = "",
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 16,
    device: DeviceOption = "auto",
    json: Annotated[str, typer.Option(help="Write all labels to this file; - is standard output.")] = "",
) -> None:
    """Say what images show: their likeliest labels, and in a tree how special a label is still likely.

    The middle of an image is looked at, as in evaluation.

    Example: yolo9k classify predict photos/ --weights runs/imagenet --json labels.json
    Example: yolo9k classify predict image.jpg --weights my.weights --cfg my.cfg --names my.names
    """
    from yolo9k.config import parse_size
    from yolo9k.inference.classifier import ImageClassifier
    from yolo9k.inference.sources import find_images
    from yolo9k.pretrained import DarknetFiles

    check_outputs(files={"--json": json})
    images = find_images(sources)
    files = DarknetFiles(cfg, names, tree, data, strict)
    size_wh = parse_size(size) if size else None
    classifier = ImageClassifier.load(weights, device=device, size_wh=size_wh, files=files, track=track)
    bad: list[DataError] = []
    stream = classifier.stream(images, batch=batch, top=top, hier_thresh=hier_thresh, on_bad=bad.append)
    pairs = zip(images, track(stream, "Classifying", len(images)), strict=True)
    found = {path: classification for path, classification in pairs if len(classification)}
    _show(speaker(json), found, classifier.labels)
    if json:
        rows = [{"file": str(path), **_plain(each, classifier.labels)} for path, each in found.items()]
        write_json(json, {"weights": weights, "size_wh": list(classifier.size_wh), "images": rows})
    if bad:
        raise DataError(f"{len(bad)} of {len(images)} images left out; the first: {bad[0]}")


def _show(console: Console, found: "dict[Path, Classification]", labels: "WordTree") -> None:
    """A table for each of the first images."""
    for path, each in list(found.items())[:MAX_SHOWN]:
        columns = ["label", "probability", "", *([] if labels.is_flat else ["probabilities on the way"])]
        rows = [
            (name, score, _bar(score), *([] if labels.is_flat else [short_way(way_to(labels, int(label), way))]))
            for (name, score), label, way in zip(each, each.label, each.path, strict=True)
        ]
        console.print(table(str(path), columns, rows))
        if not labels.is_flat:
            console.print(f"descent: {_said(_descent(each, labels))}", markup=False)
        console.print()
    if len(found) > MAX_SHOWN:
        console.print(f"… and {len(found) - MAX_SHOWN} more images (--json writes all)")


def _bar(share: float) -> str:
    full = round(share * BAR)
    return "█" * full + "░" * (BAR - full)


def _said(way: Way) -> str:
    return " > ".join(f"{name} {probability:.2f}" for name, probability in way)


def _descent(each: "Classification", labels: "WordTree") -> Way:
    """The way that the descent went."""
    assert each.reached is not None
    assert each.reached_path is not None
    return way_to(labels, each.reached, each.reached_path)


def _plain(each: "Classification", labels: "WordTree") -> dict[str, Any]:
    """The labels of an image, ready for JSON."""
    rows: list[dict[str, Any]] = []
    for (name, score), label, way in zip(each, each.label, each.path, strict=True):
        row = {"label": name, "id": labels.ids[label], "probability": round(score, 6)}
        rows.append(row if labels.is_flat else {**row, "path": plain_way(way_to(labels, int(label), way))})
    if each.reached is None:
        return {"labels": rows}
    reached = {"label": labels.names[each.reached], "id": labels.ids[each.reached]}
    return {"labels": rows, "descent": {**reached, "path": plain_way(_descent(each, labels))}}
