"""`yolo9k weights`: list, fetch and verify the official weights; look into files and convert them."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from yolo9k.cli.console import out, speaker, table, track, write_json
from yolo9k.cli.files import CfgOption, DataOption, NamesOption, StrictOption, TreeOption
from yolo9k.cli.outputs import JsonOption
from yolo9k.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from yolo9k.darknet.catalogue import Entry, Verdict

app = typer.Typer(no_args_is_help=True, help="Official weights: list, fetch, verify. Any weights: inspect, convert.")

MB = 1_000_000
DARKNET_SUFFIX = re.compile(r"\.(weights|backup|\d+)")  # yolov2.weights, yolov2.backup, darknet19_448.conv.23


@app.command("list")
def list_weights(json: JsonOption = "") -> None:
    """The models of the catalogue, and whether they are in the cache.

    Example: yolo9k weights list
    """
    from yolo9k.darknet import catalogue

    rows = [_row(entry) for entry in _entries(catalogue.names())]
    if json:
        write_json(json, {"folder": str(catalogue.weights_folder()), "models": rows})
    listing = table("Models", ["name", "what it is", "MB", "in the cache"], map(_cells, rows))
    listing.columns[1].justify = "left"
    say = speaker(json)
    say.print(listing)
    say.print(f"Cache: {catalogue.weights_folder()} (set YOLO9K_CACHE to move it)", markup=False)


@app.command()
def download(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Models of the catalogue.")] = None,
    url: Annotated[
        list[str] | None, typer.Option(help="Fetch the weights from here instead; may be given again for mirrors.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch all models of the catalogue.")] = False,
) -> None:
    """Fetch models, with all that is needed to run them; a second call goes on where the first one broke off.

    Example: yolo9k weights download yolov2-voc
    """
    from yolo9k.darknet import catalogue

    if bool(names) == everything:
        raise ConfigError(f"name models ({', '.join(catalogue.names())}) or give --all")
    entries = _entries(names or catalogue.names())
    if url and len(entries) > 1:
        raise ConfigError(f"--url is the address of one model, but {len(entries)} are asked for")
    for entry in entries:
        files = catalogue.download(entry, track, url or ())
        remark = "" if entry.weights.remote.hashes else " (size ok, hash unverified: none is known)"
        out.print(f"have {files.weights}{remark}", markup=False)


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Models; left out: those in the cache.")
    ] = None,
    json: JsonOption = "",
) -> None:
    """Check size and hash of each file in the cache; exits with 4 when one is wrong, or one of a named model missing.

    Example: yolo9k weights verify yolov2
    """
    from yolo9k.darknet import catalogue

    verdicts = {entry.name: catalogue.verify(entry) for entry in _entries(names or catalogue.names())}
    if not names:
        verdicts = {name: found for name, found in verdicts.items() if _is_of_interest(found)}
    if json:
        write_json(json, {name: [_to_dict(verdict) for verdict in found] for name, found in verdicts.items()})
    say = speaker(json)
    for name, found in verdicts.items():
        for verdict in found:
            reason = f": {verdict.reason}" if verdict.reason else ""
            say.print(f"{name}  {verdict.path}  {verdict.condition}{reason}", markup=False)
    if not verdicts:
        say.print(f"no weights in {catalogue.weights_folder()}; see: yolo9k weights list", markup=False)
    _refuse_wrong(verdicts)
    if names:
        _refuse_missing(verdicts)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A Darknet weights file, or a checkpoint.")],
    cfg: Annotated[Path | None, typer.Option(help="Its cfg: shows what the file holds of each layer.")] = None,
    strict: StrictOption = False,
    json: JsonOption = "",
) -> None:
    """Show what a weights file or checkpoint holds: header, layers, leftovers.

    Example: yolo9k weights inspect yolov2-voc.weights --cfg yolov2-voc.cfg
    """
    from yolo9k.checkpoint import is_checkpoint
    from yolo9k.inspection import inspect_checkpoint, inspect_weights

    if is_checkpoint(file):
        if cfg is not None:
            raise ConfigError("--cfg: a checkpoint says itself what its model is")
        facts, rows = inspect_checkpoint(file)
    else:
        facts, rows = inspect_weights(file, cfg, strict=strict)
    if json:
        write_json(json, {**facts, "layers": [row._asdict() for row in rows]})
    say = speaker(json)
    for name, value in facts.items():
        say.print(f"{name}: {value}", markup=False)
    if rows:
        listing = table("", ["layer", "shape", "numbers", "in the file"], rows)
        say.print(listing)


@app.command()
def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A run, a checkpoint, a Darknet file, a model.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="NAME.pt, or NAME.weights for Darknet.")],
    cfg: CfgOption = None,
    names: NamesOption = None,
    tree: TreeOption = None,
    data: DataOption = None,
    strict: StrictOption = False,
) -> None:
    """Turn Darknet's weights into a checkpoint, or a checkpoint into Darknet's weights, cfg, names and tree.

    Weights that came from Darknet go back byte for byte; of their cfg only the place of a label tree is changed.

    Example: yolo9k weights convert yolov2-voc.weights yolov2-voc.pt --cfg yolov2-voc.cfg --names voc.names
    Example: yolo9k weights convert runs/cells cells.weights
    """
    from dataclasses import replace

    from yolo9k import checkpoint
    from yolo9k.pretrained import DarknetFiles, Written, check_tree, open_weights, write_darknet

    is_checkpoint = target.suffix in (".pt", ".pth")
    if not is_checkpoint and not DARKNET_SUFFIX.fullmatch(target.suffix):
        raise ConfigError(f"{target}: the name must end in .pt for a checkpoint, in .weights for Darknet")
    stored = open_weights(source, DarknetFiles(cfg, names, tree, data, strict), track)
    if is_checkpoint:
        check_tree(stored, source)
        checkpoint.save(replace(stored, training=None), target)
        written = [Written(target)]
    else:
        written = write_darknet(stored, source, target)
    for path, remark in written:
        out.print(f"wrote {path}{f' ({remark})' if remark else ''}", markup=False)


def _entries(names: list[str]) -> "list[Entry]":
    """The models of these names, each once."""
    return list({entry.name: entry for entry in map(_entry, names)}.values())


def _entry(name: str) -> "Entry":
    from yolo9k.darknet import catalogue

    entry = catalogue.find(name)
    if entry is None:
        raise WeightsError(f"{name}: no model of the catalogue; {catalogue.near(name)}")
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
        "weights": str(entry.weights.place),
        "urls": entry.weights.remote.urls,
    }


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    score = f"; {row['score']}" if row["score"] else ""
    what = f"{row['kind']}: {row['description']}{score}"
    return row["name"], what, f"{row['bytes'] / MB:.1f}", "yes" if row["cached"] else "no"


def _is_of_interest(found: "list[Verdict]") -> bool:
    """Whether the weights, which come first, are there, or something is wrong: texts alone may be another model's."""
    return found[0].condition != "missing" or any(verdict.condition == "wrong" for verdict in found)


def _to_dict(verdict: "Verdict") -> dict[str, str]:
    return {"path": str(verdict.path), "condition": verdict.condition, "reason": verdict.reason}


def _refuse_wrong(verdicts: "dict[str, list[Verdict]]") -> None:
    wrong = {verdict.path: verdict for found in verdicts.values() for verdict in found if verdict.condition == "wrong"}
    if wrong:
        first = next(iter(wrong.values()))
        others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise WeightsError(f"{first.path}: {first.reason}{others}; remove it, then: yolo9k weights download")


def _refuse_missing(verdicts: "dict[str, list[Verdict]]") -> None:
    for name, found in verdicts.items():
        missing = sum(verdict.condition == "missing" for verdict in found)
        if missing:
            raise WeightsError(
                f"{name}: {missing} of {len(found)} files are not here; fetch them: yolo9k weights download {name}"
            )
