"""`yolo9k data check`: what a data set holds, and what is wrong with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from yolo9k.cli.console import out, print_plain, speaker, table, track, write_json
from yolo9k.cli.outputs import JsonOption, check_outputs
from yolo9k.errors import DataError

if TYPE_CHECKING:
    from yolo9k.config import AnyDataset
    from yolo9k.datasets.readers.records import Issue
    from yolo9k.datasets.tools.check import Report, Spread

SHOWN_DEFECTS = 20  # of each sort; --json has them all


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
        Path | None, typer.Option(help="Folder for a class histogram, box sizes and images with boxes.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when there are errors.")] = False,
    augmented: Annotated[
        int, typer.Option(min=0, help="Instead: draw so many training images as the network will see them.")
    ] = 0,
    config: Annotated[str, typer.Option(help="With --augmented: the training config, a path or a name.")] = "",
) -> None:
    """Read every annotation, open every image, and report counts, sizes and errors.

    Defects cost a box or an image; warnings may be right. --augmented writes augmented.png into plots/, or --plots.

    Example: yolo9k data check bccd.yaml --plots plots
    Example: yolo9k data check --augmented 16 --config voc.yaml
    """
    check_outputs(files={"--json": json}, folders={"--plots": plots or ("plots" if augmented else None)})
    if augmented:
        return _draw_augmented(dataset, config, augmented, plots or Path("plots"))
    from yolo9k.datasets.joint import single
    from yolo9k.datasets.tools.check import check_dataset

    console = speaker(json)
    report = check_dataset(single(_open(dataset)), split or (), track)
    _show_report(report, console)
    if json:
        write_json(json, report.to_dict())
    if plots:
        from yolo9k.datasets.tools.check_plots import plot_dataset

        for path in plot_dataset(report, plots):
            print_plain(console, f"wrote {path}")
    if strict and report.errors:
        first = report.errors[0]
        raise DataError(f"{dataset}: {len(report.errors)} errors, first {first.place}: {first.message}")


def _open(dataset: str, otherwise: "str | AnyDataset" = "") -> "AnyDataset":
    """The data set that is named; `otherwise` where none is."""
    from yolo9k.config import load_dataset_config
    from yolo9k.datasets.autodetect import open_dataset

    return open_dataset(dataset, track) if dataset else load_dataset_config(otherwise)


def _draw_augmented(dataset: str, config_name: str, number: int, folder: Path) -> None:
    """Write `augmented.png`: the first images that training with this config sees."""
    from yolo9k.config import load_config
    from yolo9k.datasets.joint import read_training
    from yolo9k.datasets.tools.preview import augmented_mosaic
    from yolo9k.drawing import save_image
    from yolo9k.resolve import with_aspect

    config = load_config(config_name or None)
    training = read_training(_open(dataset, config.data.dataset), config.data.on_error, track)
    target = folder / "augmented.png"
    save_image(target, augmented_mosaic(training, with_aspect(config, training.box_records), number))
    print_plain(out, f"wrote {target}")


def _show_report(report: "Report", console: Console) -> None:
    print_plain(console, f"{report.dataset} ({report.kind}) in {report.root}")
    columns = ["split", "images", "without boxes", "boxes", "ignored", "small", "medium", "large"]
    rows = [
        (s.name, s.images, s.images_without_boxes, s.boxes, s.ignored, s.small, s.medium, s.large)
        for s in report.splits
    ]
    console.print(table("Splits", columns, rows))
    sizes = [(s.name, *map(_spread, (s.image_width, s.image_height, s.box_width, s.box_height))) for s in report.splits]
    columns = ["split", "image width", "image height", "box width", "box height"]
    console.print(table("Sizes in pixels: smallest / median / largest", columns, sizes))
    _show_classes(report, console)
    _show_defects("errors", report.errors, console)
    _show_defects("warnings (may be right)", report.warnings, console)


def _spread(spread: "Spread | None") -> str:
    return "-" if spread is None else f"{spread.smallest:.0f} / {spread.median:.0f} / {spread.largest:.0f}"


def _show_classes(report: "Report", console: Console) -> None:
    columns = ["class", *(f"{split.name} {what}" for split in report.splits for what in ("images", "boxes"))]
    rows = [
        (name, *(number for s in report.splits for number in (s.classes[i].images, s.classes[i].boxes)))
        for i, name in enumerate(report.labels)
    ]
    in_tree = any(not part.labels.is_flat for part in report.annotations.values())
    shown = [row for row in rows if any(row[1:])] if in_tree else rows  # a tree may have thousands without a box
    console.print(table("Classes", columns, shown))


def _show_defects(title: str, errors: "tuple[Issue, ...]", console: Console) -> None:
    from yolo9k.datasets.tools.check import counts

    kinds = ", ".join(f"{number} {kind}" for kind, number in counts(errors).items())
    print_plain(console, f"{len(errors)} {title}" + (f": {kinds}" if kinds else ""))
    for issue in errors[:SHOWN_DEFECTS]:
        print_plain(console, f"  {issue.kind}: {issue.place}: {issue.message}")
    if len(errors) > SHOWN_DEFECTS:
        print_plain(console, f"  … and {len(errors) - SHOWN_DEFECTS} more (--json FILE has all)")
