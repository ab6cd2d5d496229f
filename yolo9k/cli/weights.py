"""`yolo9k weights`: list, download and verify official weights; inspect and convert any weights."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from yolo9k.cli import options as opt
from yolo9k.cli.console import out, speaker, table, track, write_json
from yolo9k.cli.outputs import check_outputs
from yolo9k.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from yolo9k.darknet.catalogue import Entry, FileCheck
    from yolo9k.inspection import LayerRow

app = typer.Typer(no_args_is_help=True, help="Official weights: list, download, verify. Any weights: inspect, convert.")

MB = 1_000_000
DARKNET_SUFFIX = re.compile(r"\.(weights|backup|\d+)")  # yolov2.weights, yolov2.backup, darknet19_448.conv.23


@app.command("list")
def list_weights(json: opt.JsonOption = "", overwrite: opt.OverwriteOption = False) -> None:
    """List the models of the catalogue, and whether they are in the cache.

    Example: yolo9k weights list
    """
    from yolo9k.darknet import catalogue

    check_outputs(files={"--json": json}, overwrite=overwrite)
    rows = [_row(entry) for entry in _entries(catalogue.names())]
    if json:
        write_json(json, {"folder": str(catalogue.weights_folder()), "models": rows})
    listing = table("Models", ["name", "description", "MB", "in the cache"], map(_cells, rows))
    listing.columns[1].justify = "left"
    console = speaker(json)
    console.print(listing)
    console.print(f"cache: {catalogue.weights_folder()} (set YOLO9K_CACHE to move it)", markup=False)


@app.command()
def download(
    names: opt.DownloadedModelsArgument = None, url: opt.UrlOption = None, everything: opt.AllModelsOption = False
) -> None:
    """Download models, with cfg, class names and label tree; a second call resumes an interrupted download.

    Example: yolo9k weights download yolov2-voc
    """
    from yolo9k.darknet import catalogue

    if bool(names) == everything:
        raise ConfigError(f"name models ({', '.join(catalogue.names())}) or give --all")
    entries = _entries(names or catalogue.names())
    if url and len(entries) > 1:
        raise ConfigError(f"--url: needs a single model, but {len(entries)} are requested")
    for entry in entries:
        files = catalogue.download(entry, track, url or ())
        note = "" if entry.weights.remote.hashes else " (size ok, hash unverified: none is known)"
        out.print(f"downloaded {files.weights}{note}", markup=False)


@app.command()
def verify(
    names: opt.VerifiedModelsArgument = None, json: opt.JsonOption = "", overwrite: opt.OverwriteOption = False
) -> None:
    """Verify size and hash of the files in the cache; exits with code 4 if a file is wrong, or a named model missing.

    Example: yolo9k weights verify yolov2
    """
    from yolo9k.darknet import catalogue

    check_outputs(files={"--json": json}, overwrite=overwrite)
    checks = {entry.name: catalogue.verify(entry) for entry in _entries(names or catalogue.names())}
    if not names:
        checks = {name: files for name, files in checks.items() if _is_relevant(files)}
    if json:
        models = {
            name: [{"path": str(file.path), "status": file.status, "reason": file.reason} for file in files]
            for name, files in checks.items()
        }
        write_json(json, {"models": models})
    console = speaker(json)
    for name, files in checks.items():
        for file in files:
            reason = f": {file.reason}" if file.reason else ""
            console.print(f"{name}  {file.path}  {file.status}{reason}", markup=False)
    if not checks:
        console.print(f"no weights in {catalogue.weights_folder()}; see: yolo9k weights list", markup=False)
    _refuse_wrong([file for files in checks.values() for file in files])
    if names:
        _refuse_missing(checks)


@app.command()
def inspect(
    file: opt.InspectedFileArgument,
    cfg: opt.InspectedCfgOption = None,
    strict: opt.StrictOption = False,
    json: opt.JsonOption = "",
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Inspect a weights file, checkpoint or exported file: header, layers, leftover bytes, input, labels.

    Example: yolo9k weights inspect yolov2-voc.weights --cfg yolov2-voc.cfg
    """
    check_outputs(files={"--json": json}, inputs=(file, cfg), overwrite=overwrite)
    facts, rows = _inspect(file, cfg, strict=strict)
    if json:
        write_json(json, {**facts, "layers": [row._asdict() for row in rows]})
    console = speaker(json)
    for name, value in facts.items():
        console.print(f"{name}: {value}", markup=False)
    if rows:
        console.print(table("", ["layer", "shape", "values", "in the file"], rows))


def _inspect(file: Path, cfg: Path | None, *, strict: bool) -> "tuple[dict[str, Any], list[LayerRow]]":
    """Return the facts and layers of a file of any kind."""
    from yolo9k.exported import is_exported

    if is_exported(file):
        from yolo9k.inference.engines.session import open_session

        _refuse_cfg(cfg, "an exported file")
        return open_session(file).info.summary(file), []
    from yolo9k.checkpoint import is_checkpoint
    from yolo9k.inspection import inspect_checkpoint, inspect_weights

    if is_checkpoint(file):
        _refuse_cfg(cfg, "a checkpoint")
        return inspect_checkpoint(file)
    return inspect_weights(file, cfg, strict=strict)


def _refuse_cfg(cfg: Path | None, kind: str) -> None:
    if cfg is not None:
        raise ConfigError(f"--cfg: only for Darknet weights files; {kind} contains its model config")


@app.command()
def convert(
    source: opt.ConvertedWeightsArgument,
    target: opt.ConversionTargetArgument,
    cfg: opt.CfgOption = None,
    names: opt.NamesOption = None,
    tree: opt.TreeOption = None,
    data: opt.DataOption = None,
    strict: opt.StrictOption = False,
    overwrite: opt.OverwriteOption = False,
) -> None:
    """Convert Darknet weights to a checkpoint, or a checkpoint to Darknet weights, cfg, names and tree.

    Weights that came from Darknet are converted back byte for byte; in their cfg
    only the path of a label tree changes.

    Example: yolo9k weights convert yolov2-voc.weights yolov2-voc.pt --cfg yolov2-voc.cfg --names voc.names
    Example: yolo9k weights convert runs/cells cells.weights
    """
    from dataclasses import replace

    from yolo9k import checkpoint
    from yolo9k.pretrained import COMPANIONS, DarknetFiles, WrittenFile, check_tree, open_weights, write_darknet

    is_checkpoint = target.suffix in (".pt", ".pth")
    if not is_checkpoint and not DARKNET_SUFFIX.fullmatch(target.suffix):
        raise ConfigError(f"{target}: the name must end in .pt (checkpoint) or .weights (Darknet)")
    targets = [target, *(() if is_checkpoint else map(target.with_suffix, COMPANIONS))]
    check_outputs(files={"TARGET": targets}, inputs=(source, cfg, names, tree, data), overwrite=overwrite)
    stored = open_weights(source, DarknetFiles(cfg, names, tree, data, strict), track)
    if is_checkpoint:
        check_tree(stored, source)
        checkpoint.save(replace(stored, training=None), target)
        written = [WrittenFile(target)]
    else:
        written = write_darknet(stored, source, target)
    for path, note in written:
        out.print(f"wrote {path}{f' ({note})' if note else ''}", markup=False)


def _entries(names: list[str]) -> "list[Entry]":
    """Return the models with these names, without duplicates."""
    return list({entry.name: entry for entry in map(_entry, names)}.values())


def _entry(name: str) -> "Entry":
    from yolo9k.darknet import catalogue

    entry = catalogue.find(name)
    if entry is None:
        raise WeightsError(f"{name}: not in the catalogue; {catalogue.suggest(name)}")
    return entry


def _row(entry: "Entry") -> dict[str, Any]:
    from yolo9k.darknet.catalogue import is_cached

    return {
        "name": entry.name,
        "kind": entry.kind,
        "description": entry.description,
        "score": entry.score,
        "bytes": entry.weights.remote.sizes[0],
        "cached": is_cached(entry),
        "weights": str(entry.weights.cached_path),
        "urls": entry.weights.remote.urls,
    }


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    score = f"; {row['score']}" if row["score"] else ""
    description = f"{row['kind']}: {row['description']}{score}"
    return row["name"], description, f"{row['bytes'] / MB:.1f}", "yes" if row["cached"] else "no"


def _is_relevant(files: "Sequence[FileCheck]") -> bool:
    """Return whether the weights (the first file) are cached or a file is wrong; models may share other files."""
    return files[0].status != "missing" or any(file.status == "wrong" for file in files)


def _refuse_wrong(files: "Sequence[FileCheck]") -> None:
    wrong = {file.path: file for file in files if file.status == "wrong"}
    if wrong:
        first, *others = wrong.values()
        more = f" (and {len(others)} more)" if others else ""
        raise WeightsError(f"{first.path}: {first.reason}{more}; remove it, then: yolo9k weights download")


def _refuse_missing(checks: "Mapping[str, Sequence[FileCheck]]") -> None:
    for name, files in checks.items():
        missing = sum(file.status == "missing" for file in files)
        if missing:
            raise WeightsError(
                f"{name}: {missing} of {len(files)} files are missing; download them: yolo9k weights download {name}"
            )
