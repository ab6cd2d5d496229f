"""`yolo9k data`: list, check, fetch and recognise data sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from yolo9k.cli.console import err, out, table, track, write_json
from yolo9k.cli.crops import make_crops
from yolo9k.cli.outputs import check_outputs
from yolo9k.cli.shards import make_shards
from yolo9k.errors import ConfigError, DataError

if TYPE_CHECKING:
    from yolo9k.config import AnyDataset, DatasetConfig
    from yolo9k.datasets.check import Report, Spread
    from yolo9k.datasets.records import Defect

app = typer.Typer(no_args_is_help=True, help="List, check and fetch data sets; describe your own, cut out crops.")
make = typer.Typer(no_args_is_help=True, help="Write a config for your own data, crops of their boxes, or tar shards.")
app.add_typer(make, name="make")
make.command("crops")(make_crops)
make.command("shards")(make_shards)

SHOWN_DEFECTS = 20  # of each sort; --json has them all

JsonOption = Annotated[str, typer.Option("--json", metavar="FILE", help="Write the result as JSON; - is stdout.")]


@app.command()
def check(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="A name of `yolo9k data list`, a data set config, or a folder; may be left out with --config.",
        ),
    ] = "",
    split: Annotated[list[str] | None, typer.Option(help="Only this split, e.g. train; may be repeated.")] = None,
    json: JsonOption = "",
    plots: Annotated[
        Path | None, typer.Option(help="Folder for a class histogram, box sizes and pictures with boxes.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when there are defects.")] = False,
    augmented: Annotated[
        int, typer.Option(min=0, help="Instead: draw so many training pictures as the network will see them.")
    ] = 0,
    config: Annotated[str, typer.Option(help="With --augmented: the training config, a path or a name.")] = "",
) -> None:
    """Read every annotation, open every picture, and report counts, sizes and defects.

    Defects cost a box or a picture; remarks may be right. --augmented writes augmented.png into plots/, or --plots.

    Example: yolo9k data check bccd.yaml --plots plots
    Example: yolo9k data check --augmented 16 --config voc.yaml
    """
    check_outputs(files={"--json": json}, folders={"--plots": plots or ("plots" if augmented else None)})
    if augmented:
        return _draw_augmented(dataset, config, augmented, plots or Path("plots"))
    from yolo9k.datasets.check import check_dataset
    from yolo9k.datasets.joint import single

    say = _speaker(json)
    report = check_dataset(single(_open(dataset)), split or (), track)
    _show_report(report, say)
    if json:
        write_json(json, report.to_dict())
    if plots:
        from yolo9k.datasets.check_plots import plot_dataset

        for path in plot_dataset(report, plots):
            _say(say, f"wrote {path}")
    if strict and report.defects:
        first = report.defects[0]
        raise DataError(f"{dataset}: {len(report.defects)} defects, first {first.place}: {first.message}")


def _open(dataset: str, otherwise: "str | AnyDataset" = "") -> "AnyDataset":
    """The data set that is named; `otherwise` where none is."""
    from yolo9k.config import load_dataset_config
    from yolo9k.datasets.make import open_dataset

    return open_dataset(dataset, track) if dataset else load_dataset_config(otherwise)


def _draw_augmented(dataset: str, config_name: str, number: int, folder: Path) -> None:
    """Write `augmented.png`: the first pictures that training with this config sees."""
    from yolo9k.build import with_aspect
    from yolo9k.config import load_config
    from yolo9k.datasets.augmented import augmented_mosaic
    from yolo9k.datasets.joint import read_training
    from yolo9k.drawing import save_image

    config = load_config(config_name or None)
    training = read_training(_open(dataset, config.data.dataset), config.data.on_error, track)
    target = folder / "augmented.png"
    save_image(target, augmented_mosaic(training, with_aspect(config, training.boxed), number))
    _say(out, f"wrote {target}")


@make.command("config")
def make_config(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with pictures and their boxes.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; NAME.yaml here if left out.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="voc, coco or yolo; recognised if not given.")] = None,
    holdout: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Share of train that becomes val, where there is none."),
    ] = 0.2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Look at a folder, recognise its kind and splits, and write a data set config.

    Where there is no val split, some of the training pictures become one, at least one of them.

    Example: yolo9k data make config ~/pictures/cells -o cells.yaml
    """
    from yolo9k.datasets.make import FINDERS, recognise, to_yaml

    target = output or Path(f"{folder.resolve().name}.yaml")
    check_outputs(files={"-o": target})
    if target.exists() and not overwrite:
        raise ConfigError(f"{target}: is there already; name another with -o, or give --overwrite")
    if kind not in (None, *FINDERS):
        raise ConfigError(f"--kind {kind}: allowed are {', '.join(FINDERS)}")
    config = recognise(folder, kind, holdout, track)
    counts, defects = _count_splits(config)
    _write_text(target, to_yaml(config, counts))
    _show_config(config, counts, defects, target)


@app.command("list")
def list_datasets(json: JsonOption = "") -> None:
    """The data sets of the catalogue, and whether they are on this machine.

    Example: yolo9k data list
    """
    from yolo9k.config import dataset_names, load_dataset_config
    from yolo9k.datasets.download import ARCHIVES
    from yolo9k.datasets.read import data_folder

    rows = [_row(name, load_dataset_config(name)) for name in dataset_names()]
    if json:
        write_json(json, {"data": str(data_folder()), "datasets": rows})
    say = _speaker(json)
    shown = [(row["name"], row["kind"], "yes" if row["here"] else "no", row["root"]) for row in rows]
    say.print(table("Data sets", ["name", "kind", "there", "root"], shown))
    for row in rows:
        if row["name"] in ARCHIVES and not row["here"]:
            _say(say, f"to fetch {row['name']}: yolo9k data download {row['name']}")


@app.command()
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="voc or coco.")],
    root: Annotated[Path | None, typer.Option(help="Where to put it; default: $YOLO9K_DATA, else data.")] = None,
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Leave the packed files.")] = False,
) -> None:
    """Fetch a public data set from its official address; a second call goes on where the first one broke off.

    Example: yolo9k data download voc
    """
    from yolo9k.datasets.download import ARCHIVES
    from yolo9k.datasets.download import download as fetch_dataset
    from yolo9k.datasets.read import data_folder

    if name not in ARCHIVES:
        raise ConfigError(f"{name}: cannot be downloaded; allowed are {', '.join(ARCHIVES)}")
    base = root or data_folder()
    for path in fetch_dataset(name, base, keep_archives, track):
        _say(out, f"have {path}")
    elsewhere = "" if base == data_folder() else f"YOLO9K_DATA={base} "
    _say(out, f"Next: {elsewhere}yolo9k data check {name}")


def _speaker(json: str) -> Console:
    """Where text for people goes: out of the way where JSON goes to standard output."""
    return err if json == "-" else out


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False)  # paths and names may hold square brackets


def _row(name: str, config: "AnyDataset") -> dict[str, Any]:
    """A data set in the list; a joint one is here when all its sources are."""
    from yolo9k.config import DatasetConfig
    from yolo9k.datasets.read import data_folder

    parts = [config] if isinstance(config, DatasetConfig) else [source.dataset for source in config.sources]
    roots = [data_folder() / part.root for part in parts if isinstance(part, DatasetConfig)]
    kind = config.kind if isinstance(config, DatasetConfig) else "joint"
    return {"name": name, "kind": kind, "root": ", ".join(map(str, roots)), "here": all(r.is_dir() for r in roots)}


def _write_text(path: Path, text: str) -> None:
    from yolo9k.errors import EnvironmentFault

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror or error}") from error


def _count_splits(config: "DatasetConfig") -> tuple[dict[str, str], int]:
    """What each split holds, in words, and how many defects the annotations have."""
    from yolo9k.datasets.read import read_annotations, split_names

    counts, defects = {}, 0
    for split in split_names(config):
        read = read_annotations(config, split, "skip", track)
        boxes = sum(len(record.boxes) for record in read.records)
        counts[split] = f"{_number(len(read.records), 'picture')}, {_number(boxes, 'box')}"
        defects += len(read.defects)
    return counts, defects


def _number(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("x") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def _show_config(config: "DatasetConfig", counts: dict[str, str], defects: int, target: Path) -> None:
    from yolo9k.datasets.make import KIND_WORDS

    _say(out, f"{config.root}: {KIND_WORDS[config.kind]}")
    for split, text in counts.items():
        held_out = " (held out of train)" if split not in config.splits else ""
        _say(out, f"  {split}: {text}{held_out}")
    if "val" not in counts:
        _say(out, "  no val split: training keeps its newest weights; name one in the file, and it keeps the best")
    _say(out, f"  {_number(len(config.classes), 'label')}: {', '.join(config.classes)}")
    if defects:
        _say(out, f"  {_number(defects, 'defect')}: see `yolo9k data check`")
    _say(out, f"wrote {target}")
    _say(out, f"Next: yolo9k data check {target}")
    _say(out, f"      yolo9k train --config small.yaml --dataset {target}")


def _show_report(report: "Report", say: Console) -> None:
    _say(say, f"{report.dataset} ({report.kind}) in {report.root}")
    columns = ["split", "images", "without boxes", "boxes", "ignored", "small", "medium", "large"]
    rows = [
        (s.name, s.images, s.images_without_boxes, s.boxes, s.ignored, s.small, s.medium, s.large)
        for s in report.splits
    ]
    say.print(table("Splits", columns, rows))
    sizes = [
        (s.name, *map(_spread, (s.picture_width, s.picture_height, s.box_width, s.box_height))) for s in report.splits
    ]
    columns = ["split", "picture width", "picture height", "box width", "box height"]
    say.print(table("Sizes in pixels: smallest / median / largest", columns, sizes))
    _show_classes(report, say)
    _show_defects("defects", report.defects, say)
    _show_defects("remarks (may be right)", report.remarks, say)


def _spread(spread: "Spread | None") -> str:
    return "-" if spread is None else f"{spread.smallest:.0f} / {spread.median:.0f} / {spread.largest:.0f}"


def _show_classes(report: "Report", say: Console) -> None:
    columns = ["class", *(f"{split.name} {what}" for split in report.splits for what in ("images", "boxes"))]
    rows = [
        (name, *(number for s in report.splits for number in (s.classes[i].images, s.classes[i].boxes)))
        for i, name in enumerate(report.labels)
    ]
    in_tree = any(not part.labels.is_flat for part in report.annotations.values())
    shown = [row for row in rows if any(row[1:])] if in_tree else rows  # a tree may have thousands without a box
    say.print(table("Classes", columns, shown))


def _show_defects(title: str, defects: "tuple[Defect, ...]", say: Console) -> None:
    from yolo9k.datasets.check import counts

    kinds = ", ".join(f"{number} {kind}" for kind, number in counts(defects).items())
    _say(say, f"{len(defects)} {title}" + (f": {kinds}" if kinds else ""))
    for defect in defects[:SHOWN_DEFECTS]:
        _say(say, f"  {defect.kind}: {defect.place}: {defect.message}")
    if len(defects) > SHOWN_DEFECTS:
        _say(say, f"  … and {len(defects) - SHOWN_DEFECTS} more (--json FILE has all)")
