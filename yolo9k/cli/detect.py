"""`yolo9k detect`: detect objects in images, draw them, write them to files."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo9k import processes
from yolo9k.cli import options as opt
from yolo9k.cli.console import err, speaker, track, write_json
from yolo9k.cli.interrupts import StoppableWork
from yolo9k.cli.loading import describe_engine, load_arguments, say_engine
from yolo9k.cli.outputs import check_outputs, check_overwriting
from yolo9k.errors import WeightsError

if TYPE_CHECKING:
    from yolo9k.cli.detection_output import DetectionOutput
    from yolo9k.errors import DataError
    from yolo9k.inference.detector import Detector
    from yolo9k.samples import Detections

OFFICIAL = "yolov2"  # catalogue model that is used if there is no run


def detect(
    sources: opt.ImagesArgument,
    weights: opt.DetectionWeightsOption = "",
    cfg: opt.CfgOption = None,
    names: opt.NamesOption = None,
    tree: opt.TreeOption = None,
    data: opt.DataOption = None,
    strict: opt.StrictOption = False,
    drawn: opt.DrawnFolderOption = Path("detections"),
    draw: opt.DrawOption = True,
    conf: opt.ConfOption = 0.25,
    iou: opt.IouOption = 0.45,
    max_detections: opt.MaxDetectionsOption = 300,
    classes: opt.ClassesOption = None,
    hier_thresh: opt.HierThreshOption = None,
    leaves_only: opt.LeavesOnlyOption = False,
    under: opt.UnderOption = None,
    tree_mode: opt.TreeModeOption = opt.TreeMode.paper,
    agnostic: opt.AgnosticOption = False,
    size: opt.SizeOption = "",
    resize_mode: opt.ResizeModeOption = None,
    batch: opt.InferenceBatchOption = 8,
    max_pixels: opt.MaxPixelsOption = None,
    device: opt.DeviceOption = "auto",
    engine: opt.EngineOption = opt.EngineName.auto,
    precision: opt.InferencePrecisionOption = opt.InferencePrecision.auto,
    json: opt.DetectionsJsonOption = "",
    csv: opt.CsvOption = None,
    txt: opt.TxtOption = None,
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Detect objects in images.

    Example: yolo9k detect photos/ --weights runs/voc --conf 0.3 --json detections.json
    Example: yolo9k detect image.jpg --weights yolov2-voc
    Example: yolo9k detect image.jpg --weights my.weights --cfg my.cfg --names my.names
    Example: yolo9k detect photos/ --weights cells.onnx --engine openvino --precision bf16
    Example: yolo9k detect image.jpg --weights yolo9000 --under animal --hier-thresh 0.6
    """
    from yolo9k.cli.detection_output import unique_files
    from yolo9k.detection.thresholds import Thresholds
    from yolo9k.inference.sources import find_images

    check_outputs(folders={"--out": drawn if draw else None, "--txt": txt})
    images = processes.from_main(lambda: find_images(sources, track, on_skipped=err.print))
    inputs = (weights, cfg, names, tree, data, *images)
    check_outputs(files={"--json": json, "--csv": csv}, inputs=inputs, overwrite=overwrite)
    targets = unique_files(images, drawn, ".jpg") if draw else {}
    check_overwriting("--out", targets.values(), inputs=inputs, overwrite=overwrite)
    texts = unique_files(images, txt, ".txt") if txt else {}
    check_overwriting("--txt", texts.values(), inputs=inputs, overwrite=overwrite)
    arguments = load_arguments(
        cfg=cfg, names=names, tree=tree, data=data, strict=strict,
        size=size, device=device, engine=engine, precision=precision,
    )  # fmt: skip
    arguments["resize_mode"] = resize_mode.value if resize_mode else None
    detector, used_weights = _load_detector(weights, arguments)
    descent: dict[str, Any] = {"hier_thresh": hier_thresh, "rule": tree_mode.value, "leaves_only": leaves_only}
    class_decoder = processes.together(lambda: detector.class_decoder(under=_split_names(under), **descent))
    with StoppableWork() as work:
        output, unreadable = _detect_all(
            detector, images, targets, work, batch=batch, thresholds=Thresholds(conf, iou, max_detections, agnostic),
            classes=_split_names(classes), class_decoder=class_decoder,
        )  # fmt: skip
        if processes.is_main():
            model = {
                "weights": used_weights, **describe_engine(detector), "labels": list(detector.labels.names),
            }  # fmt: skip
            _write_files(output, model | work.to_dict(), json=json, csv=csv, texts=texts)
        console = speaker(json)
        output.show(console)
        say_engine(console, detector)
        if not any(map(len, output.detections)):
            console.print(f"no detection reaches the confidence threshold {conf:g}; lower it with --conf")
        if draw:
            console.print(f"drawn images are in {drawn}")
        work.finish("the outputs contain these", unreadable)


def _split_names(values: list[str] | None) -> list[str]:
    """Return the names of a repeated option, each of which may hold several, separated by commas."""
    return [name.strip() for value in values or [] for name in value.split(",") if name.strip()]


def _load_detector(weights: str, arguments: dict[str, Any]) -> "tuple[Detector, str]":
    """Return the detector and its weights: `weights`, else the newest run, else the official ones."""
    from yolo9k.inference.detector import Detector

    name = weights or processes.from_main(_newest_run)
    if name:
        return processes.together(lambda: Detector.load(name, **arguments)), name
    try:
        detector = processes.together(lambda: Detector.load(OFFICIAL, **arguments))
    except WeightsError as error:
        raise WeightsError(
            f"--weights: not given, runs/ has no run, and the official {OFFICIAL} could not be downloaded (for the "
            f"reason: yolo9k weights download {OFFICIAL}); give --weights, or train a detector with yolo9k train"
        ) from error
    err.print(f"no run in runs/: using the official {OFFICIAL} (80 COCO classes)")
    return detector, OFFICIAL


def _newest_run() -> str:
    """Return the run in runs/ with the newest checkpoint, or an empty text."""
    checkpoints = sorted(Path("runs").glob("*/checkpoints/*.pt"), key=lambda path: path.stat().st_mtime)
    return str(checkpoints[-1].parent.parent) if checkpoints else ""


def _detect_all(
    detector: "Detector", images: list[Path], targets: dict[Path, Path], work: StoppableWork, **options: Any
) -> "tuple[DetectionOutput, list[DataError]]":
    """Detect in all images and draw those that have a target; return the detections and the errors of the others."""
    from yolo9k.cli.detection_output import DetectionOutput
    from yolo9k.inference.sources import stream_results

    def detect_share() -> "list[tuple[Detections, DataError | None]]":
        share, results = processes.share(images), []
        stream = stream_results(detector.stream, share, work.track, "Detecting", **options)
        for result, image in zip(stream, share, strict=False):  # fewer after a stop signal
            results.append(result)
            if image in targets and result[1] is None:
                _draw(image, result[0], targets[image])
        return results

    results = processes.collect(detect_share)
    work.combine(len(results), len(images))
    output, errors = DetectionOutput([], [], detector.labels), []
    for image, (detections, error) in zip(images, results, strict=False):
        if error is not None:
            errors.append(error)
            continue
        output.images.append(image)
        output.detections.append(detections)
    return output, errors


def _write_files(
    output: "DetectionOutput", model: dict[str, Any], *, json: str, csv: Path | None, texts: dict[Path, Path]
) -> None:
    """Write the detections to the files that are given; `model`: facts for the JSON file; `texts`: file per image."""
    if json:
        write_json(json, {**model, **output.to_dict()})
    if csv:
        output.write_csv(csv)
    if texts:
        output.write_txt(texts)


def _draw(image: Path, detections: "Detections", target: Path) -> None:
    from yolo9k.drawing import MAX_JPEG_SIDE, colour, draw_boxes, fit, save_image
    from yolo9k.images import read_image

    pixels, xyxy = read_image(image), detections.xyxy
    if max(pixels.shape) > MAX_JPEG_SIDE:
        pixels, xyxy = fit(pixels, xyxy, (MAX_JPEG_SIDE, MAX_JPEG_SIDE))
        err.print(f"{target}: is smaller than {image}, since JPEG has at most {MAX_JPEG_SIDE:,} pixels a side")
    texts = [f"{name} {score:.2f}" for _, score, name in detections]
    colours = [colour(int(label)) for label in detections.label]
    save_image(target, draw_boxes(pixels, xyxy, texts, colours))
