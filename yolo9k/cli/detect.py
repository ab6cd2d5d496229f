"""`yolo9k detect`: find objects in pictures, draw them, list them."""

import csv as csv_format
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yolo9k.cli.console import err, out, table, track, write_json
from yolo9k.cli.files import CfgOption, DataOption, NamesOption, TreeOption
from yolo9k.errors import ConfigError, DataError, EnvironmentFault

if TYPE_CHECKING:
    from yolo9k.inference import Detector
    from yolo9k.samples import Detections

MOST_ROWS = 40  # of the table on the screen
OFFICIAL = "yolov2"  # of the catalogue; fetched when it is not here


def detect(
    sources: Annotated[
        list[str], typer.Argument(help="Pictures, folders, patterns or file: addresses.", metavar="IMAGE...")
    ],
    weights: Annotated[
        str,
        typer.Option(
            help="A run, a checkpoint, a Darknet file or a name of `yolo9k weights list`; "
            "the newest run in runs/ if left out, else yolov2."
        ),
    ] = "",
    cfg: CfgOption = None,
    names: NamesOption = None,
    tree: TreeOption = None,
    data: DataOption = None,
    save: Annotated[Path, typer.Option("--out", help="Folder for the drawn pictures.")] = Path("detections"),
    draw: Annotated[bool, typer.Option(help="Draw pictures; off where only the numbers are wanted.")] = True,
    conf: Annotated[float, typer.Option(min=0, max=1, help="Smallest confidence.")] = 0.25,
    iou: Annotated[float, typer.Option(min=0, max=1, help="Overlap above which the worse box goes.")] = 0.45,
    max_detections: Annotated[int, typer.Option("--max", min=1, help="Most detections a picture.")] = 300,
    classes: Annotated[
        list[str] | None, typer.Option(help="Only these labels; repeat it, or separate by commas.")
    ] = None,
    agnostic: Annotated[bool, typer.Option(help="Boxes of different labels suppress each other, too.")] = False,
    size: Annotated[str, typer.Option(help="Network size, N or WIDTHxHEIGHT; the model's if left out.")] = "",
    batch: Annotated[int, typer.Option(min=1, help="Pictures at a time.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps, ...")] = "auto",
    json: Annotated[
        str,
        typer.Option(help="Write all detections to this file, plain and as COCO results; - is standard output."),
    ] = "",
    csv: Annotated[Path | None, typer.Option(help="Write all detections to this CSV file.")] = None,
    txt: Annotated[
        Path | None, typer.Option(help="Folder for YOLO text files: label cx cy w h score, relative.")
    ] = None,
) -> None:
    """Find objects in pictures.

    Example: yolo9k detect photos/ --weights runs/voc --conf 0.3 --json found.json
    Example: yolo9k detect image.jpg --weights yolov2-voc
    Example: yolo9k detect image.jpg --weights my.weights --cfg my.cfg --names my.names
    """
    from yolo9k.config import parse_size
    from yolo9k.inference import Detector
    from yolo9k.inference.sources import find_pictures
    from yolo9k.pretrained import DarknetFiles

    pictures = find_pictures(sources)
    chosen = weights or _newest_run()
    targets = [save / f"{name}.jpg" for name in _unique_names(pictures)]
    if draw:
        _spare_originals(pictures, targets)
    files = DarknetFiles(cfg, names, tree, data)
    size_wh = parse_size(size) if size else None
    detector = Detector.load(chosen, device=device, size_wh=size_wh, files=files, track=track)
    only = [name.strip() for entry in classes or [] for name in entry.split(",") if name.strip()]
    options: dict[str, Any] = {
        "conf": conf,
        "iou": iou,
        "max_detections": max_detections,
        "agnostic": agnostic,
    }
    bad: list[DataError] = []
    stream = detector.stream(pictures, batch=batch, classes=only, on_bad=bad.append, **options)
    readable: list[Path] = []
    found: list[Detections] = []
    shown = zip(pictures, targets, track(stream, "Detecting", len(pictures)), strict=True)
    for number, (path, target, detections) in enumerate(shown, 1):
        if len(readable) + len(bad) == number:  # the stream has just reported this one
            continue
        readable.append(path)
        found.append(detections)
        if draw:
            _draw(path, detections, target)
    given, pictures = len(pictures), readable
    _show(pictures, found, quiet=json == "-")
    if json:
        write_json(json, _as_json(pictures, found, detector, chosen))
    if csv:
        _write_csv(csv, pictures, found)
    if txt:
        _write_txt(txt, pictures, found)
    if draw:
        (err if json == "-" else out).print(f"drawn pictures are in {save}", markup=False)
    if bad:
        raise DataError(f"{len(bad)} of {given} pictures left out; the first: {bad[0]}")


def _newest_run() -> str:
    """The run in runs/ that was saved last; without any, the official model for everyday things."""
    found = sorted(Path("runs").glob("*/checkpoints/*.pt"), key=lambda path: path.stat().st_mtime)
    if found:
        return str(found[-1].parent.parent)
    err.print(f"no run in runs/, so with the official {OFFICIAL} (80 kinds of everyday things)")
    return OFFICIAL


def _unique_names(pictures: list[Path]) -> list[str]:
    """What to call the files of each picture, without suffix: its own name, with a number where that is taken."""
    taken: dict[str, None] = {}
    for path in pictures:
        numbered = (f"{path.stem}-{number}" for number in count(2))
        taken[next(name for name in chain([path.stem], numbered) if name not in taken)] = None
    return list(taken)


def _spare_originals(pictures: list[Path], targets: list[Path]) -> None:
    """Raises `ConfigError` where a drawn picture would take the place of one that was given."""
    originals = {path.resolve() for path in pictures}
    for target in targets:
        if target.resolve() in originals:
            raise ConfigError(f"--out {target.parent}: {target.name} is one of the pictures; name another folder")


def _draw(path: Path, detections: "Detections", target: Path) -> None:
    from yolo9k.drawing import colour, draw_boxes, save_image
    from yolo9k.images import read_image

    texts = [f"{name} {score:.2f}" for _, score, name in detections]
    colours = [colour(int(label)) for label in detections.label]
    save_image(target, draw_boxes(read_image(path), detections.xyxy, texts, colours))


def _rows(pictures: list[Path], found: "list[Detections]") -> Iterator[tuple[str, str, float, list[float]]]:
    for path, detections in zip(pictures, found, strict=True):
        for box, score, name in detections:
            yield str(path), name, round(score, 4), [round(float(side), 1) for side in box]


def _show(pictures: list[Path], found: "list[Detections]", *, quiet: bool) -> None:
    rows = list(_rows(pictures, found))
    console = err if quiet else out
    shown = [(path, name, score, *box) for path, name, score, box in rows[:MOST_ROWS]]
    console.print(table("", ["picture", "label", "score", "left", "top", "right", "bottom"], shown))
    if len(rows) > MOST_ROWS:
        console.print(f"… and {len(rows) - MOST_ROWS} more (--json, --csv and --txt write all)")
    console.print(f"{len(rows)} detections in {len(pictures)} pictures")


def _as_json(pictures: list[Path], found: "list[Detections]", detector: "Detector", weights: str) -> dict[str, Any]:
    plain = [
        {"file": str(path), "detections": [
            {"label": name, "score": round(score, 6), "xyxy": [round(float(side), 3) for side in box]}
            for box, score, name in detections
        ]}
        for path, detections in zip(pictures, found, strict=True)
    ]  # fmt: skip
    coco = [entry for number, detections in enumerate(found, 1) for entry in detections.to_coco(number)]
    return {
        "weights": weights, "size_wh": list(detector.size_wh), "labels": list(detector.labels.names),
        "images": plain, "coco_results": coco,
        "coco_image_ids": {str(path): number for number, path in enumerate(pictures, 1)},
    }  # fmt: skip


def _write_csv(target: Path, pictures: list[Path], found: "list[Detections]") -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("w", newline="", encoding="utf-8") as file:
            writer = csv_format.writer(file)
            writer.writerow(["file", "label", "score", "left", "top", "right", "bottom"])
            writer.writerows((path, name, score, *box) for path, name, score, box in _rows(pictures, found))
    except OSError as error:
        raise EnvironmentFault(f"{target}: cannot be written: {error.strerror or error}") from error


def _write_txt(folder: Path, pictures: list[Path], found: "list[Detections]") -> None:
    from yolo9k.boxes import xyxy_to_cxcywh
    from yolo9k.images import read_size_wh

    names = _unique_names(pictures)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, name, detections in zip(pictures, names, found, strict=True):
            relative = xyxy_to_cxcywh(detections.xyxy / (read_size_wh(path) * 2))
            lines = [
                " ".join([str(int(label)), *(f"{value:.6f}" for value in box), f"{score:.5f}"])
                for label, box, score in zip(detections.label, relative, detections.score, strict=True)
            ]
            (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise EnvironmentFault(f"{folder}: cannot be written: {error.strerror or error}") from error
