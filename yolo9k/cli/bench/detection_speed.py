"""`yolo9k bench detect`: time of detection with every installed engine and precision."""

from typing import TYPE_CHECKING

from yolo9k.cli import options as opt
from yolo9k.cli.console import err, speaker, table, track, write_json
from yolo9k.cli.outputs import check_outputs

if TYPE_CHECKING:
    from yolo9k.bench.detection_speed import EngineSpeed

COLUMNS = ("ms per image", "image", "engine", "batch", "matmul", "score", "unmatched")


def detection_speed(
    weights: opt.ExportedWeightsArgument,
    cfg: opt.CfgOption = None,
    names: opt.NamesOption = None,
    tree: opt.TreeOption = None,
    data: opt.DataOption = None,
    images: opt.ParityImagesOption = None,
    size: opt.SizeOption = "",
    batch: opt.InferenceBatchOption = 8,
    rounds: opt.DetectionRoundsOption = 20,
    json: opt.JsonOption = "",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Measure a detector with every installed engine and precision on this CPU, and recommend one.

    image: one image, from pixels to detections; engine: network, decoding and
    NMS alone; batch: an image of a batch in the engine; matmul: operations per
    second of the engine, relative to a large matrix product of PyTorch; score:
    largest difference from PyTorch in float32; unmatched: detections of only one.

    Example: yolo9k bench detect runs/cells --images photos/
    """
    from yolo9k.bench.detection_speed import compare_engines
    from yolo9k.config import parse_size
    from yolo9k.export.parity import sample_images
    from yolo9k.inference.sources import find_images
    from yolo9k.pretrained import DarknetFiles, open_weights

    check_outputs(
        files={"--json": json}, inputs=(weights, cfg, names, tree, data, *(images or ())), overwrite=overwrite
    )
    compared = sample_images(find_images(images, track, on_skipped=err.print) if images else ())
    stored = open_weights(weights, DarknetFiles(cfg, names, tree, data), track)
    size_wh = parse_size(size) if size else None
    speeds = compare_engines(stored, weights, compared, size_wh=size_wh, batch=batch, rounds=rounds, track=track)
    console = speaker(json)
    w, h = size_wh or stored.config.data.size
    title = f"{weights}, cpu, {w}x{h}, batch {batch}, medians of {rounds} rounds"
    console.print(table(title, COLUMNS, map(_row, speeds)))
    best = min(speeds, key=lambda speed: speed.image)
    console.print(f"fastest per image: {best.engine} in {best.precision}")
    if json:
        write_json(json, {"weights": weights, "size_wh": [w, h], "batch": batch, "engines": list(map(vars, speeds))})


def _row(speed: "EngineSpeed") -> list[str]:
    times = (f"{1e3 * seconds:.1f}" for seconds in (speed.image, speed.engine_alone, speed.batched))
    unmatched = f"{speed.unmatched} of {speed.compared}"
    name = f"{speed.engine} {speed.precision}"
    return [name, *times, f"{speed.of_matmul:.0%}", f"{speed.score_difference:.1g}", unmatched]
