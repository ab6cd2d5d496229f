"""`yolo9k detect`: find objects in images, draw them, list them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yolo9k.cli.console import err, speaker, track, write_json
from yolo9k.cli.files import CfgOption, DataOption, NamesOption, StrictOption, TreeOption
from yolo9k.cli.outputs import check_outputs
from yolo9k.cli.running import DeviceOption, ImagesArgument, SizeOption
from yolo9k.cli.tree_options import (
    HierThreshOption,
    LeavesOnlyOption,
    TreeMode,
    TreeModeOption,
    UnderOption,
    choose_class_decoder,
    listed,
)
from yolo9k.errors import ConfigError, DataError, WeightsError

if TYPE_CHECKING:
    from yolo9k.inference import Detector
    from yolo9k.samples import Detections

OFFICIAL = "yolov2"  # of the catalogue; fetched when it is not here


def detect(
    sources: ImagesArgument,
    weights: Annotated[
        str,
        typer.Option(
            help="A run folder, a checkpoint, a Darknet weights file or a name of `yolo9k weights list`; "
            "if left out, the newest run in runs/, and without any yolov2, which is fetched (200 MB)."
        ),
    ] = "",
    cfg: CfgOption = None,
    names: NamesOption = None,
    tree: TreeOption = None,
    data: DataOption = None,
    strict: StrictOption = False,
    save: Annotated[Path, typer.Option("--out", help="Folder for the images with boxes drawn.")] = Path("detections"),
    draw: Annotated[bool, typer.Option(help="Draw images; off where only the numbers are wanted.")] = True,
    conf: Annotated[float, typer.Option(min=0, max=1, help="Leave out what has a lower confidence.")] = 0.25,
    iou: Annotated[float, typer.Option(min=0, max=1, help="Of two boxes that overlap by more (IoU) one goes.")] = 0.45,
    max_detections: Annotated[int, typer.Option("--max-detections", min=1, help="Most detections an image.")] = 300,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="Only these labels (in a tree also those below); repeat it, or separate by commas."),
    ] = None,
    hier_thresh: HierThreshOption = None,
    leaves_only: LeavesOnlyOption = False,
    under: UnderOption = None,
    tree_mode: TreeModeOption = TreeMode.paper,
    agnostic: Annotated[bool, typer.Option(help="Boxes of different labels suppress each other, too.")] = False,
    size: SizeOption = "",
    batch: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 8,
    device: DeviceOption = "auto",
    json: Annotated[
        str,
        typer.Option(help="Write all detections to this file, plain and as COCO results; - is standard output."),
    ] = "",
    csv: Annotated[Path | None, typer.Option(help="Write all detections to this CSV file.")] = None,
    txt: Annotated[
        Path | None, typer.Option(help="Folder for YOLO text files: label cx cy w h score, relative.")
    ] = None,
) -> None:
    """Find objects in images.

    Example: yolo9k detect photos/ --weights runs/voc --conf 0.3 --json found.json
    Example: yolo9k detect image.jpg --weights yolov2-voc
    Example: yolo9k detect image.jpg --weights my.weights --cfg my.cfg --names my.names
    Example: yolo9k detect image.jpg --weights yolo9000 --under animal --hier-thresh 0.6
    """
    from yolo9k.cli.rows import Rows, unique_names
    from yolo9k.config import parse_size
    from yolo9k.detection.thresholds import Thresholds
    from yolo9k.inference.sources import find_images
    from yolo9k.pretrained import DarknetFiles

    check_outputs(files={"--json": json, "--csv": csv}, folders={"--out": save if draw else None, "--txt": txt})
    images = find_images(sources)
    targets = [save / f"{name}.jpg" for name in unique_names(images)]
    if draw:
        _spare_originals(images, targets)
    files = DarknetFiles(cfg, names, tree, data, strict)
    size_wh = parse_size(size) if size else None
    detector, chosen = _load(weights, device=device, size_wh=size_wh, files=files, track=track)
    options: dict[str, Any] = {
        "thresholds": Thresholds(conf, iou, max_detections, agnostic),
        "classes": listed(classes),
        "class_decoder": choose_class_decoder(detector, hier_thresh, leaves_only, under, tree_mode),
    }
    bad: list[DataError] = []
    stream = detector.stream(images, batch=batch, on_bad=bad.append, **options)
    readable: list[Path] = []
    found: list[Detections] = []
    shown = zip(images, targets, track(stream, "Detecting", len(images)), strict=True)
    for number, (path, target, detections) in enumerate(shown, 1):
        if len(readable) + len(bad) == number:  # the stream has just reported this one
            continue
        readable.append(path)
        found.append(detections)
        if draw:
            _draw(path, detections, target)
    given, images = len(images), readable
    rows = Rows(images, found, detector.labels)
    rows.show(speaker(json))
    if not any(map(len, found)):
        speaker(json).print(f"nothing has a confidence of {conf:g} or more; --conf asks for less")
    if json:
        about = {"weights": chosen, "size_wh": list(detector.size_wh), "labels": list(detector.labels.names)}
        write_json(json, {**about, **rows.to_dict()})
    if csv:
        rows.write_csv(csv)
    if txt:
        rows.write_txt(txt)
    if draw:
        speaker(json).print(f"drawn images are in {save}", markup=False)
    if bad:
        raise DataError(f"{len(bad)} of {given} images left out; the first: {bad[0]}")


def _load(weights: str, **options: Any) -> "tuple[Detector, str]":
    """The detector, and which weights it has: without a name the newest run's, without any run the official ones."""
    from yolo9k.inference import Detector

    chosen = weights or _newest_run()
    if chosen:
        return Detector.load(chosen, **options), chosen
    try:
        detector = Detector.load(OFFICIAL, **options)
    except WeightsError as error:
        raise WeightsError(
            f"--weights: none are named, runs/ has no run, and the official {OFFICIAL} cannot be had "
            f"(why: yolo9k weights download {OFFICIAL}); name a file of your own, or train one with yolo9k train"
        ) from error
    err.print(f"no run in runs/, so with the official {OFFICIAL} (80 kinds of everyday things)")
    return detector, OFFICIAL


def _newest_run() -> str:
    """The run in runs/ that was saved last; nothing without any."""
    found = sorted(Path("runs").glob("*/checkpoints/*.pt"), key=lambda path: path.stat().st_mtime)
    return str(found[-1].parent.parent) if found else ""


def _spare_originals(images: list[Path], targets: list[Path]) -> None:
    """Raises `ConfigError` where a drawn image would take the place of one that was given."""
    originals = {path.resolve() for path in images}
    for target in targets:
        if target.resolve() in originals:
            raise ConfigError(f"--out {target.parent}: {target.name} is one of the images; name another folder")


def _draw(path: Path, detections: "Detections", target: Path) -> None:
    from yolo9k.drawing import colour, draw_boxes, save_image
    from yolo9k.images import read_image

    texts = [f"{name} {score:.2f}" for _, score, name in detections]
    colours = [colour(int(label)) for label in detections.label]
    save_image(target, draw_boxes(read_image(path), detections.xyxy, texts, colours))
