"""`yolo9k export`: write weights as a file for ONNX Runtime, OpenVINO and others."""

from pathlib import Path

from yolo9k.cli import options as opt
from yolo9k.cli.console import err, speaker, track, write_json
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import ConfigError, WeightsError

FOLDER = Path("exported")  # of the default --output


def export(
    weights: opt.ExportedWeightsArgument,
    cfg: opt.CfgOption = None,
    names: opt.NamesOption = None,
    tree: opt.TreeOption = None,
    data: opt.DataOption = None,
    strict: opt.StrictOption = False,
    format_name: opt.ExportFormatOption = opt.ExportFormat.onnx,
    form: opt.ExportFormOption = None,
    size: opt.SizeOption = "",
    batch: opt.ExportBatchOption = "dynamic",
    output: opt.ExportOutputOption = None,
    images: opt.ParityImagesOption = None,
    json: opt.JsonOption = "",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Export a detector or classifier to ONNX or OpenVINO, and compare the file with PyTorch.

    The file holds label names, anchors and preprocessing; yolo9k detect, eval and
    classify run it. A README and detect.py, a program without PyTorch, are
    written beside it.

    Example: yolo9k export runs/cells --format onnx -o cells/cells.onnx
    Example: yolo9k export yolov2-tiny-voc --format onnx --form raw --batch 1 --size 416
    """
    from yolo9k.config import parse_size
    from yolo9k.export.beside import is_own, write_beside
    from yolo9k.export.export import FORMATS, export_weights, require_packages
    from yolo9k.export.parity import sample_images
    from yolo9k.exported import is_exported
    from yolo9k.inference.sources import find_images
    from yolo9k.pretrained import DarknetFiles, open_weights

    if is_exported(weights):
        raise WeightsError(f"{weights}: an exported file; export the weights that it came from")
    suffix = FORMATS[format_name.value].suffix
    target = _target(weights, output, suffix)
    written = [target, *(target.with_suffix(each) for each in ((".bin", ".json") if suffix == ".xml" else ()))]
    beside = [target.with_name(name) for name in ("README.md", "detect.py")]
    foreign = [path for path in (*written, *beside) if not is_own(path)]  # those of an earlier export are replaced
    check_outputs(
        files={"--output": foreign, "--json": json},
        inputs=(weights, cfg, names, tree, data, *(images or ())),
        overwrite=overwrite,
    )
    require_packages(format_name.value)
    fixed = _parse_batch(batch)
    compared = sample_images(find_images(images, track, on_skipped=err.print) if images else ())
    stored = open_weights(weights, DarknetFiles(cfg, names, tree, data, strict), track)
    exported = export_weights(
        stored, weights, target, format_name.value,
        form=form.value if form else None, size_wh=parse_size(size) if size else None, batch=fixed, images=compared,
        track=track,
    )  # fmt: skip
    write_beside(exported.path, exported.info)
    console = speaker(json)
    (w, h), info = exported.info.size_wh, exported.info
    console.print(f"{info.task}, form {info.form}, {len(info.labels):,} labels, input {w}x{h}, batch {fixed or 'any'}")
    console.print(exported.parity.describe())
    for path in (*written, *beside):
        console.print(f"wrote {path}", markup=False)
    if json:
        facts = {"form": info.form, "size_wh": [w, h], "batch": fixed, "precision": info.precision}
        write_json(json, {"file": str(target), **facts, "parity": vars(exported.parity)})


def _target(weights: str, output: Path | None, suffix: str) -> Path:
    """Return the file to write. Raises `ConfigError` if its name has another suffix."""
    if output is None:
        name = Path(weights).resolve().name if Path(weights).exists() else Path(weights).name
        stem = Path(name).stem if Path(weights).is_file() else name
        return FOLDER / stem / f"{stem}{suffix}"
    if output.suffix != suffix:
        raise ConfigError(f"--output {output}: the name must end in {suffix}")
    return output


def _parse_batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise ConfigError(f"--batch {text}: must be dynamic or a number from 1 to 1024")
    return int(text)
